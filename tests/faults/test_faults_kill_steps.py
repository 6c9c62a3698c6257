"""SIGKILL in front of every change of the file system that the real program makes, one run for each.

The shim (fault_shim.c) counts the names that are made, moved and removed and the fsyncs, whoever makes them,
and kills the process in front of the n-th. What is on disk behind one change is what is there in front of the
next, so that every point of a commit and of a packing is tried.
"""

from __future__ import annotations

import itertools
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from fault_runs import record_argv
from fault_staged import make_staged
from fault_verify import Expected, check_opens

LANES = 2
HERE = {"FAULT_ENCODE_HERE": "1"}


def sweep(step, row, stride: int = 1, offset: int = 0) -> int:
    """Run `step(n)` for ever larger n until it says that it was not killed; returns how often it was."""
    numbers, lock, ended = itertools.count(1 + offset, stride), threading.Lock(), threading.Event()
    killed = 0

    def lane() -> None:
        nonlocal killed
        while not ended.is_set():
            with lock:
                number = next(numbers)
            try:
                was_killed = step(number)
            except BaseException as error:
                ended.set()
                error.add_note(f"killed in front of change {number}")
                raise
            if not was_killed:
                ended.set()
            with lock:
                killed += was_killed

    with ThreadPoolExecutor(LANES) as pool:
        for future in [pool.submit(lane) for _ in range(LANES)]:
            future.result()
    row.times += killed
    return killed


def recover(zygote, root, row) -> None:
    started_s = time.monotonic()
    program = zygote.run(["recover", str(root)], env=HERE)
    row.recover_s.append(time.monotonic() - started_s)
    assert program.code in (0, 3), program.output
    assert "Traceback" not in program.output
    assert not (root / ".aiorecord").exists()


def test_killed_at_every_change_of_commit_and_packing(shimmed, zygote, tmp_path, report):
    """Two commits and the packing behind them, by `aiorecord recover`."""
    expected = make_staged(tmp_path / "prepared", packed=[5, 6], staged=[7, 8])
    row = report.row(
        "SIGKILL at each step of commit and packing",
        "in front of every rename, link, removal, new file and fsync (LD_PRELOAD)",
    )

    def step(number: int) -> bool:
        folder = tmp_path / f"at-{number}"
        root = folder / "set"
        shutil.copytree(tmp_path / "prepared", root)
        env = HERE | {"FAULT_ROOT": str(folder), "FAULT_KILL": str(number)}
        program = shimmed.run(["recover", str(root)], env=env)
        if program.killed:
            check_opens(root)
            recover(zygote, root, row)
        else:
            assert program.code == 0, program.output
        mine = Expected(expected.frames, expected.ended)
        mine.check(root)
        shutil.rmtree(folder)
        return program.killed

    killed = sweep(step, row)
    assert killed > 150
    row.episodes = 4 * killed


def test_killed_at_changes_all_through_a_session(shimmed, zygote, tmp_path, report):
    """One episode from the making of the dataset to its packing, by `aiorecord record`."""
    row = report.row(
        "SIGKILL at each step of a session",
        "in front of every 3rd such change of `aiorecord record`, from the first one on",
    )
    flags = ["--dataset.fps=60", "--dataset.num_episodes=1", "--dataset.episode_time_s=0.2"]

    def step(number: int) -> bool:
        folder = tmp_path / f"at-{number}"
        folder.mkdir()
        root = folder / "set"
        env = HERE | {"FAULT_ROOT": str(folder), "FAULT_KILL": str(number)}
        program = shimmed.run(record_argv(root, 1, *flags, "--resume=true"), env=env)
        expected = Expected()
        expected.add(program.told)
        if program.killed:
            check_opens(root)
            if (root / "meta/info.json").exists():
                recover(zygote, root, row)
                expected.check(root)
            else:
                assert not expected.ended
                # Whatever was half made is no obstacle.
                again = zygote.run(record_argv(root, 2, *flags, "--resume=true"), env=HERE)
                assert again.code == 0, again.output
            row.episodes += len(expected.ended)
        else:
            assert program.code == 0, program.output
            expected.check(root)
        shutil.rmtree(folder)
        return program.killed

    assert sweep(step, row, stride=3) > 30
