"""Saves that fail: later episodes commit, the failed ones are finished by their handle or `recover`."""

from __future__ import annotations

import errno
import json
import random

import pytest
from fault_outcome import in_lanes, settle
from fault_report import Row
from fault_runs import record_argv

EPISODES, LENGTH, ATTEMPTS = 6, 12, 2
FOR_GOOD = 1 << 40


def strikes_at(episodes: list[int]) -> list[dict]:
    return [{"episode": n, "fault": "SIGKILL@4", "times": ATTEMPTS} for n in episodes]


def run_application(shimmed, folder, struck: list[int], refused: list[int], retry: list[int]):
    """Run the small application of fault_embed.py; returns the program and what it says."""
    folder.mkdir()
    switch = folder / "switch"
    settings = {
        "root": str(folder / "tree" / "set"),
        "session": 1,
        "episodes": EPISODES,
        "length": LENGTH,
        "strikes": strikes_at(struck),
        "refused": refused,
        "switch": str(switch),
        "retry": retry,
    }
    (folder / "tree").mkdir()
    env = {
        "FAULT_ROOT": str(folder / "tree"),
        "FAULT_REFUSE": f"{errno.EIO}:1:{FOR_GOOD}",
        "FAULT_COUNTER": str(folder / "counter"),
        "FAULT_SWITCH": str(switch),
    }
    program = shimmed.run(["embed", json.dumps(settings)], env=env)
    assert program.code == 0, program.output
    return program, json.loads(program.output.strip().splitlines()[-1])


def failing(
    shimmed, zygote, folder, row: Row, struck: list[int], refused: list[int], retry: list[int]
) -> None:
    """One application: what is not retried is left to `recover`, and all of it is there at the end."""
    program, said = run_application(shimmed, folder, struck, refused, retry)
    bad = sorted({*struck, *refused})
    well = [n for n in range(EPISODES) if n not in bad]
    assert said["failed"] == bad
    assert said["still"] == [n for n in bad if n not in retry]
    # Those recorded later did not wait, and those retried came behind them.
    assert said["order"] == well + [n for n in bad if n in retry]
    root = folder / "tree" / "set"
    expected = settle(zygote, program, root, row, times=len(bad), embedded=True)
    assert expected.lost() == 0
    assert len(expected.found) == EPISODES


def seeded_cases(number: int):
    rng = random.Random(7)
    for n in range(number):
        bad = sorted(rng.sample(range(EPISODES), rng.randint(1, 3)))
        struck = [episode for episode in bad if rng.random() < 0.5]
        yield n, struck, [episode for episode in bad if episode not in struck], bad


def test_retried_from_the_handle(shimmed, zygote, tmp_path, report):
    row = report.row(
        "a save that fails, retried from its handle",
        "1 to 3 of 6 episodes: encoder SIGKILLed at both attempts, or the commit refused (EIO)",
    )

    def step(case) -> None:
        n, struck, refused, bad = case
        failing(shimmed, zygote, tmp_path / str(n), row, struck, refused, bad)

    in_lanes(step, seeded_cases(8))


def test_left_to_recover(shimmed, zygote, tmp_path, report):
    row = report.row("a save that fails, left to `recover`", "likewise; some retried, some not")

    def step(case) -> None:
        n, struck, refused, bad = case
        failing(shimmed, zygote, tmp_path / str(n), row, struck, refused, bad[: n % 2])

    in_lanes(step, seeded_cases(8))


@pytest.mark.smoke
def test_one_that_is_retried_and_one_that_is_not(shimmed, zygote, tmp_path):
    failing(shimmed, zygote, tmp_path / "one", Row("", ""), [1], [3], [1])


def test_the_command_leaves_them_to_recover(zygote, tmp_path, report):
    row = report.row(
        "... recorded by `aiorecord record`", "1 to 3 of 4 episodes; exit code 1, then `recover`"
    )
    flags = ["--dataset.fps=60", "--dataset.num_episodes=4", "--dataset.episode_time_s=0.25"]
    rng = random.Random(8)

    def step(case: tuple[int, list[int]]) -> None:
        n, bad = case
        root = tmp_path / str(n)
        argv = record_argv(root, 1, *flags, "--dataset.reset_time_s=0", "--encode=deferred")
        program = zygote.run(argv, env={"FAULT_ENCODE": json.dumps(strikes_at(bad))})
        stages = list(program.told.stages.values())
        assert stages == ["failed" if k in bad else "committed" for k in range(4)], program.output
        assert settle(zygote, program, root, row, times=len(bad), codes=(1,)).lost() == 0

    in_lanes(step, [(n, sorted(rng.sample(range(4), rng.randint(1, 3)))) for n in range(4)])
