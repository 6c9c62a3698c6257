"""Disks that are full, broken or read-only, for a while or for good, under the real command."""

from __future__ import annotations

import errno
import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from fault_outcome import in_lanes, settle
from fault_report import Row
from fault_runs import Program, record_argv
from fault_verify import Expected
from small_disk import small_disk

FLAGS = ["--dataset.fps=60", "--dataset.num_episodes=3", "--dataset.episode_time_s=0.3"]
SESSION = [*FLAGS, "--dataset.reset_time_s=0.05", "--encode=deferred", "--resume=true"]
HERE = {"FAULT_ENCODE_HERE": "1"}
ERRORS = {"full (ENOSPC)": errno.ENOSPC, "broken (EIO)": errno.EIO, "read-only (EROFS)": errno.EROFS}
LONG = ["--dataset.num_episodes=2", "--dataset.episode_time_s=1.2"]
"""With a flush in each episode, so that some of it is on the disk before its end."""
POINTS = 20
"""Of a session, for each error: half of them for three calls, half of them for good."""
FOR_GOOD = 1 << 40


def run_refused(shimmed, folder: Path, error: int, first: int, last: int, *more: str) -> tuple[Program, int]:
    """Record on a disk that refuses these calls; returns also how many there were."""
    folder.mkdir()
    counter = folder.with_suffix(".counter")
    env = {
        "FAULT_ROOT": str(folder),
        "FAULT_REFUSE": f"{error}:{first}:{last}",
        "FAULT_COUNTER": str(counter),
    }
    program = shimmed.run(record_argv(folder / "set", 1, *SESSION, *more), env=HERE | env)
    return program, int.from_bytes(counter.read_bytes(), "little")


CODES = (0, 1, 130)
"""All is in the dataset, something waits in staging, or an episode was cut short."""


def says_what_was_cut(program: Program) -> None:
    """No episode is cut without a word and an exit code."""
    cut = "CUT SHORT" in program.output or "frames are lost" in program.output
    assert program.code == 1 or cut == (program.code == 130), program.output


def is_complete(zygote, folder: Path, program: Program, row: Row) -> Expected:
    """Whatever happened: what had ended is kept, and the dataset goes on."""
    root = folder / "set"
    says_what_was_cut(program)
    expected = settle(zygote, program, root, row, codes=CODES)
    if program.code == 0:
        assert set(program.told.stages.values()) <= {"committed"}, program.output
    # Nothing that was half made is an obstacle.
    more = zygote.run(record_argv(root, 2, *SESSION, "--dataset.num_episodes=1"), env=HERE)
    assert more.code == 0, more.output
    expected.add(more.told)
    expected.check(root)
    return expected


@pytest.mark.parametrize("name", ERRORS)
def test_the_disk_refuses_from_any_point_on(shimmed, zygote, tmp_path, report, name):
    """At points all through a session: for a moment, or until the program has ended."""
    row = report.row(
        f"the disk is {name}",
        "every write, fsync, rename, new file from a point of the session on (LD_PRELOAD): three, or all",
    )
    program, calls = run_refused(shimmed, tmp_path / "whole", ERRORS[name], FOR_GOOD, FOR_GOOD, *LONG)
    assert program.code == 0, program.output
    assert calls > 300
    rng = random.Random(name)
    step_size = calls / POINTS
    points = [(n, 1 + int(step_size * (n + rng.random()))) for n in range(POINTS)]

    def step(case: tuple[int, int]) -> None:
        n, first = case
        folder = tmp_path / f"at-{first}"
        last = first + 2 if n % 2 else FOR_GOOD
        program, counted = run_refused(shimmed, folder, ERRORS[name], first, last, *LONG)
        if counted >= first:  # sessions are not of one length
            is_complete(zygote, folder, program, row)
        shutil.rmtree(folder)

    in_lanes(step, points)
    assert row.times > 0.8 * POINTS


@pytest.mark.smoke
@pytest.mark.parametrize("name", ERRORS)
def test_the_disk_refuses_in_the_middle(shimmed, zygote, tmp_path, name):
    """The short form, for everyday runs."""
    program, counted = run_refused(shimmed, tmp_path / "one", ERRORS[name], 150, FOR_GOOD)
    assert counted > 150
    row = Row("", "")
    is_complete(zygote, tmp_path / "one", program, row)
    assert row.times == 1


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS])
def test_it_has_room_again_while_the_program_runs(shimmed, zygote, tmp_path, report, error):
    """A save that was refused is tried again by itself, and the recording goes on."""
    row = report.row(
        "the disk has room again while recording", "refuses from an episode's end until its save failed"
    )
    folder, switch = tmp_path / "folder", tmp_path / "switch"
    folder.mkdir()
    env = {
        "FAULT_ROOT": str(folder),
        "FAULT_REFUSE": f"{error}:1:{FOR_GOOD}",
        "FAULT_COUNTER": str(tmp_path / "counter"),
        "FAULT_SWITCH": str(switch),
    }
    flags = ["--dataset.num_episodes=2", "--dataset.reset_time_s=9"]
    program = shimmed.start(record_argv(folder / "set", 1, *SESSION, *flags), env=HERE | env)
    assert program.until(lambda line: line.endswith(" durable"))
    switch.touch()
    assert program.until(lambda line: line.endswith(" failed"))
    switch.unlink()
    program.wait()
    expected = settle(zygote, program, folder / "set", row)
    assert set(program.told.stages.values()) == {"committed"}
    assert expected.lost() == 0


SIZES_MB = [1, 2, 3, 4]


def test_a_small_disk_runs_full(zygote, tmp_path, report):
    """A real one, and nothing that ends the episode before: what it took is kept."""
    row = report.row(
        "a small disk runs full",
        "a real tmpfs of 1 to 4 MB, `--min_free_gb=0`; grown later",
    )

    def step(megabytes: int) -> None:
        place = tmp_path / str(megabytes)
        place.mkdir()
        with small_disk(place, "tmpfs", megabytes) as disk:
            flags = ["--dataset.episode_time_s=3", "--min_free_gb=0", "--dataset.num_episodes=3"]
            program = zygote.run(record_argv(disk / "set", 1, *SESSION, *flags), env=HERE)
            assert program.told.cut or program.code == 1, program.output
            subprocess.run(["mount", "-o", "remount,size=99m", str(disk)], check=True)
            says_what_was_cut(program)
            settle(zygote, program, disk / "set", row, codes=CODES)

    in_lanes(step, SIZES_MB)


def test_the_episode_ends_before_the_reserve_is_touched(zygote, tmp_path, report):
    """`--min_free_gb` on a real small disk: no frame is lost, and the operator is told."""
    row = report.row("`--min_free_gb` is reached", "a real tmpfs with 3, 4 and 5 MB beside the reserve")

    def step(megabytes: int) -> None:
        place = tmp_path / str(megabytes)
        place.mkdir()
        with small_disk(place, "tmpfs", 64) as disk:
            free = shutil.disk_usage(disk).free
            flags = [f"--min_free_gb={(free - megabytes * 1_000_000) / 1e9}", "--dataset.episode_time_s=60"]
            said = place / "report.json"
            program = zygote.run(record_argv(disk / "set", 1, *SESSION, *flags, f"--report={said}"), env=HERE)
            assert "DISK:" in program.output
            assert "min_free_gb" in json.loads(said.read_text())["episodes"][0]["end_reason"]
            assert shutil.disk_usage(disk).free > free - megabytes * 1_000_000
            expected = settle(zygote, program, disk / "set", row, codes=(1, 130))
            assert expected.frames
            assert expected.lost() == 0
            assert set(program.told.stages.values()) == {"committed"}

    in_lanes(step, [3, 4, 5])


def test_no_file_may_grow_any_more(zygote, tmp_path, report):
    """RLIMIT_FSIZE, at several sizes: capture, encode or nothing at all is refused."""
    row = report.row("files may not grow any more (EFBIG)", "RLIMIT_FSIZE of 2 to 400 KB for the program")

    def step(limit: int) -> None:
        root = tmp_path / str(limit) / "set"
        root.parent.mkdir()
        program = zygote.run(record_argv(root, 1, *SESSION), env=HERE | {"FAULT_FILE_SIZE": str(limit)})
        says_what_was_cut(program)
        settle(zygote, program, root, row, codes=CODES)

    in_lanes(step, [2_000, 8_000, 20_000, 60_000, 120_000, 250_000, 400_000])
