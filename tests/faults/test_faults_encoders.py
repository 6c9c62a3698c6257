"""Encoder processes that are killed, crash, hang, run out of memory or refuse, under the real command."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
from pathlib import Path

import pytest
from fault_outcome import in_lanes, settle
from fault_runs import Program, record_argv

ATTEMPTS = 2
FRAMES = (1, 8, 15)
"""Where a fault comes in the encodes of the three episodes."""
STALL_S = 4
DEATHS = ["SIGKILL", "SIGSEGV", "abort", "exit"]
HANGS = ["SIGSTOP", "hang"]
MEMORY = ["MemoryError", "RLIMIT_AS"]
REFUSALS = ["codec does not open", "encoder error"]
NAMES = {
    "an encoder that dies": DEATHS,
    "an encoder that hangs": HANGS,
    "an encoder without memory": MEMORY,
    "an encoder that refuses": REFUSALS,
}
INJECTED = {
    "an encoder that dies": "SIGKILL, SIGSEGV, abort, exit of its process at an early, middle and late frame",
    "an encoder that hangs": "SIGSTOP and a lock that nobody opens, likewise; no progress for 4 s ends it",
    "an encoder without memory": "RLIMIT_AS and MemoryError, likewise",
    "an encoder that refuses": "a codec that does not open any more, a frame it does not take",
}
FLAGS = [
    "--dataset.fps=60",
    "--dataset.num_episodes=3",
    "--dataset.episode_time_s=0.4",
    "--dataset.reset_time_s=0.05",
    "--encode=deferred",
    f"--dataset.async_save_timeout={STALL_S}",
]


def run_struck(zygote, root: Path, strikes: list[dict], *more: str) -> Program:
    env = {"FAULT_ENCODE": json.dumps(strikes)}
    return zygote.run(record_argv(root, 1, *FLAGS, *more), env=env)


def retries(program: Program) -> int:
    return program.output.count("it is encoded again")


@pytest.mark.parametrize("name", NAMES)
def test_it_costs_a_second_attempt(zygote, tmp_path, report, name):
    row = report.row(f"{name}, once", INJECTED[name])

    def step(fault: str) -> None:
        root = tmp_path / fault.replace(" ", "-")
        # A hang takes its seconds: one in a session.
        frames = FRAMES[1:2] if fault in HANGS else FRAMES
        strikes = [{"episode": n, "fault": f"{fault}@{frame}"} for n, frame in enumerate(frames)]
        program = run_struck(zygote, root, strikes)
        assert retries(program) >= len(strikes), program.output
        expected = settle(zygote, program, root, row, times=len(strikes))
        assert expected.lost() == 0
        assert set(program.told.stages.values()) == {"committed"}

    in_lanes(step, NAMES[name])
    assert row.episodes == 3 * len(NAMES[name])


def test_it_stays_and_the_episode_waits_in_staging(zygote, tmp_path, report):
    """The first of three episodes fails at both attempts: the others are committed, `recover` adds it."""
    row = report.row(
        "an encoder that fails every time", "all of these at both attempts of one of three episodes"
    )

    def step(fault: str) -> None:
        root = tmp_path / fault.replace(" ", "-")
        strikes = [{"episode": 0, "fault": f"{fault}@5", "times": ATTEMPTS}]
        program = run_struck(zygote, root, strikes)
        assert list(program.told.stages.values()) == ["failed", "committed", "committed"], program.output
        assert settle(zygote, program, root, row, codes=(1,)).lost() == 0

    in_lanes(step, [*DEATHS, "SIGSTOP", *MEMORY, *REFUSALS])


@pytest.mark.smoke
@pytest.mark.parametrize("fault", ["codec does not open", "SIGSEGV"])
def test_the_fallback_codec_takes_over(zygote, tmp_path, report, fault):
    row = report.row("... with `--fallback_vcodec`", "a codec that does not open any more, SIGSEGV, likewise")
    root = tmp_path / "set"
    strikes = [{"episode": 1, "fault": f"{fault}@5", "times": ATTEMPTS}]
    program = run_struck(zygote, root, strikes, "--fallback_vcodec=hevc")
    assert "encoded with hevc instead" in program.output
    # Which is not lossless at crf 0: pictures are told by their code.
    assert settle(zygote, program, root, row, lossless=False).lost() == 0


def workers_of(pid: int) -> list[int]:
    """The encoder processes of a program."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(path.read_text().rsplit(")", 1)[1].split()[1])
            if parent == pid and b"workers.child" in (path.parent / "cmdline").read_bytes():
                found.append(int(path.parent.name))
    return found


MOMENTS = 12


def test_struck_from_outside_at_any_moment(zygote, tmp_path, report):
    """AV1, whose encodes take long enough to be met; also while the process starts, and when it is idle."""
    row = report.row(
        "an encoder's process is struck from outside", "SIGKILL, SIGSEGV or SIGSTOP at seeded moments, AV1"
    )
    rng = random.Random(4)
    numbers = [signal.SIGKILL, signal.SIGSEGV, signal.SIGKILL, signal.SIGSTOP]
    waits = ["S encoding", "P recording", "S encoding", "F", "S durable", "S encoding", "P saving", "L open"]
    cases = [(n, numbers[n % 4], waits[n % 8], rng.uniform(0, 0.25)) for n in range(MOMENTS)]

    def step(case) -> None:
        n, number, wait, after_s = case
        root = tmp_path / f"set-{n}"
        kind, _, rest = wait.partition(" ")
        program = zygote.start(record_argv(root, 1, *FLAGS, codec=[]))
        program.until(lambda line: line.startswith(kind) and line.endswith(rest))
        program.read_for(after_s)
        struck = 0
        for worker in workers_of(program.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, number)
                struck += 1
        program.wait()
        assert settle(zygote, program, root, row, times=bool(struck), lossless=False).lost() == 0

    in_lanes(step, cases)
    assert row.times > MOMENTS / 2
