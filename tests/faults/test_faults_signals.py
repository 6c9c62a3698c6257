"""SIGINT, SIGTERM and SIGHUP, once and twice, in every phase of `aiorecord record`; a closed terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import time
import uuid
from pathlib import Path

import pytest
from fault_outcome import count
from fault_runs import Program, record_argv
from fault_verify import Expected

SIGNALS = {"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM, "SIGHUP": signal.SIGHUP}
PHASES = {
    # phase: the announcement to wait for, its number, and the times of episode and reset
    "connecting": ("C", 1, 100, 100),
    "recording": ("F", 40, 100, 100),
    "the second episode": ("F", 34, 0.5, 0.1),
    "reset": ("P resetting", 1, 0.4, 100),
    "draining": ("P saving", 1, 0.4, 0.1),
    "packing": ("P packing", 1, 0.4, 0.1),
}


def argv_for(root: Path, phase: str, *more: str) -> list[str]:
    _, _, episode_s, reset_s = PHASES[phase]
    flags = ["--dataset.fps=60", f"--dataset.episode_time_s={episode_s}", f"--dataset.reset_time_s={reset_s}"]
    if phase == "connecting":
        flags.append("--robot.connect_s=60")
    return record_argv(root, 1, "--dataset.num_episodes=2", *flags, *more)


def reach(program: Program, phase: str) -> None:
    """Wait until a phase has been reached."""
    event, count, *_ = PHASES[phase]
    seen = 0

    def wanted(line: str) -> bool:
        nonlocal seen
        seen += line.startswith(event)
        return seen == count

    assert program.until(wanted), program.output


def processes_with(token: str) -> list[int]:
    """Processes that were started with a token in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if token.encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def no_process_is_left(token: str) -> None:
    deadline_s = time.monotonic() + 30
    while left := processes_with(token):
        assert time.monotonic() < deadline_s, f"left behind: {left}"
        time.sleep(0.01)


def exit_codes(program: Program, number: int, *codes: int) -> set[int]:
    """The codes that are right; a signal that comes when all is done may still find the process there."""
    return {*codes, -number} if program.told.lines[-1] == "L done" else set(codes)


def everything_is_there(zygote, program: Program, root: Path, row) -> Expected:
    """After the end: the robot was let go of, every ended episode is in the dataset or in staging."""
    told = program.told
    assert "Traceback" not in program.output, program.output
    assert told.lines.count("D") >= (1 if "C" in told.lines else 0), told.lines[-5:]
    expected = Expected()
    expected.add(told)
    staged = list(root.glob(".aiorecord/episodes/*"))
    if staged:
        assert program.code != 0
        assert "aiorecord recover" in program.output, program.output
    if (root / "meta/info.json").exists():
        recovered = zygote.run(["recover", str(root)], env={"FAULT_ENCODE_HERE": "1"})
        assert recovered.code in (0, 3), recovered.output
        expected.check(root)
    else:
        assert not expected.frames
        assert not root.exists() or not list(root.iterdir())
    count(row, expected, 1)
    return expected


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", SIGNALS)
def test_one_signal(zygote, tmp_path, report, name, phase):
    row = report.row("SIGINT, SIGTERM, SIGHUP once", "in every phase of `aiorecord record`")
    root, token = tmp_path / "set", uuid.uuid4().hex
    program = zygote.start(argv_for(root, phase), env={"FAULT_TOKEN": token})
    reach(program, phase)
    program.signal(SIGNALS[name])
    code = program.wait()
    no_process_is_left(token)
    leaves = phase == "draining" and name != "SIGHUP"
    right = exit_codes(program, SIGNALS[name], *([130] if phase == "connecting" else [0, 130][: 1 + leaves]))
    assert code in right, program.output
    expected = everything_is_there(zygote, program, root, row)
    # The episode under way was kept as well, and nothing was left to recover, unless that was asked for.
    assert expected.lost() == 0
    if code != 130:
        assert all(program.told.stages.get(id_) == "committed" for id_ in program.told.frames)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("later", ["at once", "while saving"])
def test_two_signals(zygote, tmp_path, report, name, phase, later):
    row = report.row(
        "SIGINT, SIGTERM twice", "in every phase, the second at once or while episodes are saved"
    )
    root, token = tmp_path / "set", uuid.uuid4().hex
    program = zygote.start(argv_for(root, phase), env={"FAULT_TOKEN": token})
    reach(program, phase)
    program.signal(SIGNALS[name])
    if later == "while saving":
        program.until(lambda line: line == "P saving")
    else:
        program.read_for(0.05)
    program.signal(SIGNALS[name])
    code = program.wait()
    no_process_is_left(token)
    assert code in exit_codes(program, SIGNALS[name], 0, 130), program.output
    everything_is_there(zygote, program, root, row)


def test_a_shell_and_the_kernel_both_say_that_the_terminal_is_closed(zygote, tmp_path, report):
    row = report.row("SIGHUP twice", "while recording, by the shell and by the kernel: all is saved")
    root = tmp_path / "set"
    program = zygote.start(argv_for(root, "recording"))
    reach(program, "recording")
    program.signal(signal.SIGHUP)
    program.until(lambda line: line == "P saving")
    program.signal(signal.SIGHUP)
    assert program.wait() == 0, program.output
    assert set(program.told.stages.values()) == {"committed"}
    assert everything_is_there(zygote, program, root, row).lost() == 0


@pytest.mark.smoke
@pytest.mark.parametrize("display", ["live", "plain"])
@pytest.mark.parametrize("phase", ["recording", "reset"])
def test_the_terminal_is_closed(zygote, tmp_path, report, phase, display):
    """A real pseudo-terminal, whose other end goes away."""
    row = report.row("the terminal is closed", "a pseudo-terminal's other end is closed; live and plain view")
    root, token = tmp_path / "set", uuid.uuid4().hex
    main, terminal = pty.openpty()
    env = {"FAULT_TOKEN": token, "FAULT_TERMINAL": "1", "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    program = zygote.start(
        argv_for(root, phase, f"--display={display}"), env=env, stdin=terminal, stdout=terminal
    )
    os.close(terminal)
    os.set_blocking(main, False)
    event, count, *_ = PHASES[phase]
    seen = 0
    while seen < count:
        with contextlib.suppress(BlockingIOError):
            os.read(main, 1 << 16)
        program.read_for(0.02)
        seen = sum(line.startswith(event) for line in program.told_so_far())
    os.close(main)
    code = program.wait()
    no_process_is_left(token)
    assert code == 0
    expected = everything_is_there(zygote, program, root, row)
    assert expected.frames
    assert expected.lost() == 0
    assert not (root / ".aiorecord").exists()


def test_nobody_reads_the_output_any_more(zygote, tmp_path, report):
    """`aiorecord record | head`: the recording goes on."""
    row = report.row("nobody reads the output any more", "standard output is a closed pipe")
    root = tmp_path / "set"
    reading, writing = os.pipe()
    program = zygote.start(argv_for(root, "draining"), stdout=writing)
    os.close(writing)
    os.close(reading)
    assert program.wait() == 0
    assert list(program.told.stages.values()) == ["committed", "committed"]
    assert everything_is_there(zygote, program, root, row).lost() == 0
