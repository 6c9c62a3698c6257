"""Nothing that a dataset says steers the terminal: not through a command, a view, a notebook or the log."""

import io
import json
import re
import shutil
from pathlib import Path

import pytest
from helpers import FPS, STATES, record_episode
from rich.console import Console
from rich.table import Table

import aiorecord
from aiorecord import Recorder
from aiorecord.cli import main
from aiorecord.monitor.safe_console import PlainConsole
from aiorecord.monitor.sinks.notebook import StatusView
from aiorecord.monitor.sinks.plain import PlainView
from aiorecord.printable import error_text, get_logger, json_text, plain, plain_lines

EVIL = "\x1b]0;title\x07\x1b[2J\x9b31m\u202eexe\nFAKED [/x] [red]\x7f\r"


def is_clean(text: str) -> bool:
    return all(char.isprintable() or char == "\n" for char in text) and "\nFAKED" not in text


def test_the_one_function():
    assert plain("Würfel 方 🤖 a b") == "Würfel 方 🤖 a b"
    assert is_clean(plain(EVIL))
    assert "\n" not in plain(EVIL)
    assert plain_lines("a\nb\x1b") == "a\nb\N{REPLACEMENT CHARACTER}"
    assert plain("\udcff") == "\N{REPLACEMENT CHARACTER}"
    assert is_clean(error_text(ValueError(EVIL)))
    value = {EVIL: ["\udcff", "ü🤖", EVIL]}
    assert json.loads(json_text(value)) == value
    assert is_clean(json_text(value))


def test_log_lines(caplog):
    logger = get_logger("aiorecord.test_printable")
    logger.warning("%s and %r, %d %%", EVIL, EVIL, 3)
    try:
        raise ValueError(EVIL)
    except ValueError:
        logger.exception("it failed")
    assert is_clean(caplog.messages[0])
    assert caplog.messages[0].endswith("3 %")
    assert "\x1b" not in caplog.text
    assert "\x9b" not in caplog.text


def test_every_logger_console_and_print_is_a_clean_one():
    for path in Path(aiorecord.__file__).parent.rglob("*.py"):
        if path.name == "printable.py":
            continue
        source = path.read_text()
        assert not re.search(r"^logger = logging", source, re.MULTILINE), path
        assert not re.search(r"(?<!Plain)\bConsole\((?!\w*Console\))", source), path


def test_consoles_show_markup_and_sequences_as_text():
    for terminal in (False, True):
        console = PlainConsole(file=io.StringIO(), force_terminal=terminal, width=200, color_system=None)
        table = Table(title=EVIL)
        table.add_column(EVIL)
        table.add_row(EVIL)
        console.print(table)
        console.print(EVIL, style="red")
        shown = console.file.getvalue()
        assert "[/x] [red]" in shown
        for bad in ("\x1b]", "\x1b[2J", "\x9b", "\u202e", "\x07"):
            assert bad not in shown
    assert isinstance(console, Console)


@pytest.fixture
async def root(tmp_path):
    """A dataset that says it wherever it can."""
    root = tmp_path / "set"

    async with Recorder("t/p", root=root, fps=FPS, features=STATES, robot_type=EVIL) as recorder:
        await record_episode(recorder, 4, 0, task=EVIL)
        async with recorder.episode(EVIL) as episode:
            episode.annotate(**{EVIL: EVIL})
            episode.discard()
        html = StatusView(recorder)._repr_html_()
        assert is_clean(html)
    return root


def test_all_commands(root, capfd):
    def runs(command, *codes):
        try:
            code = main(command)
        except SystemExit as end:
            code = end.code
        out, err = capfd.readouterr()
        assert is_clean(out), (command, out)
        assert is_clean(err), (command, err)
        assert "A fault of" not in err
        assert "Traceback" not in err
        assert code in codes, (command, err)

    evil = root / ".aiorecord/episodes" / EVIL.replace("/", "")
    evil.mkdir(parents=True)
    (root / "meta" / (EVIL.replace("/", "") + ".aiorecord-tmp")).touch()
    for extra in ([], ["--json"]):
        runs(["info", str(root), *extra], 0)
        runs(["recover", str(root), "--dry-run", *extra], 0, 1, 3)
        runs(["check", str(root), "--fast", "--workers=1", *extra], 0, 1, 3)
    for name in ("info", "check", "recover"):
        runs([name, str(root.parent / EVIL.replace("/", ""))], 1, 2)
        runs([name, str(root), EVIL], 2)
    runs(["push", str(root), f"--repo_id={EVIL}"], 2)
    replay = ["replay", "--robot.type=sim", f"--dataset.root={root}", "--play_sounds=false"]
    runs([*replay, "--dataset.repo_id=t/p", "--dataset.episode=7"], 2)
    runs([*replay, f"--dataset.repo_id={EVIL}", "--dataset.episode=0"], 2)
    runs([*replay, f"--{EVIL}=1"], 2)
    runs([EVIL], 2)
    info = json.loads((root / "meta/info.json").read_bytes())
    for change in ({"codebase_version": EVIL}, {"data_path": EVIL}, {"fps": EVIL}, {"features": {EVIL: {}}}):
        (root / "meta/info.json").write_text(json.dumps(info | change))
        runs(["info", str(root)], 1)
        runs(["recover", str(root), "--dry-run"], 1)
        runs([*replay, "--dataset.repo_id=t/p", "--dataset.episode=0"], 2)
    shutil.rmtree(root / "meta")


def test_the_plain_view(capsys):
    PlainView().line(EVIL)
    assert "\x1b" not in capsys.readouterr().out
