"""The command in a process of its own: Ctrl-C while it starts, and terminals that have nothing but ASCII."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(sys.executable).parent / "aiorecord"
MODULE = [sys.executable, "-m", "aiorecord"]


def run(command, **environment):
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60
    )


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(
    ("command", "library"),
    [(MODULE, "draccus"), ([str(SCRIPT)], "rich"), (MODULE, "argparse")],
)
def test_an_interrupt_while_libraries_load_ends_it_with_one_line(tmp_path, command, library):
    """The library interrupts its own import, and then fails like one that was torn apart by it."""
    if command[0] == str(SCRIPT) and not SCRIPT.exists():
        pytest.skip("the package is not installed as a script here")
    (tmp_path / f"{library}.py").write_text(
        f"import os, signal\nos.kill(os.getpid(), {int(signal.SIGINT)})\nraise ImportError('torn apart')\n"
    )
    argument = "info" if library == "rich" else "record"
    done = run([*command, argument, "x"], PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "aiorecord: stopped before anything began.\n"


def test_a_program_that_uses_the_package_keeps_its_own_interrupts(tmp_path):
    code = (
        "import signal, aiorecord, aiorecord.cli\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
    )
    program = tmp_path / "aiorecord"  # of that name, but no script of this environment
    program.write_text(code)
    for command in ([sys.executable, "-c", code], [sys.executable, str(program)]):
        done = run(command)
        assert done.returncode == 0, done.stderr


def test_a_terminal_that_has_only_ascii():
    strict = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = run([*MODULE, "record", "--help"], **strict)
    assert done.returncode == 0, done.stderr
    assert "keys: -> or n ends the episode, <- or r records it again" in done.stdout
