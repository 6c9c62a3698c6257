"""Power loss: whatever was not fsynced is gone, in every way a disk may choose."""

from __future__ import annotations

import random
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fault_disk import LOSSES, DiskLog, File, inodes_of
from fault_runs import Told, record_argv
from fault_staged import make_staged
from fault_verify import Expected, check_opens

LANES = 2
HERE = {"FAULT_ENCODE_HERE": "1"}


def logged(shimmed, folder: Path, argv, before: Path | None = None) -> DiskLog:
    """Run a program to its end, writing down what it does to ``<folder>/disk``, from which argv is made."""
    disk = folder / "disk"
    shots = folder / "snapshots"
    shots.mkdir(parents=True)
    if before is None:
        disk.mkdir()
    else:
        shutil.copytree(before, disk)
    inodes = inodes_of(disk)
    env = HERE | {
        "FAULT_ROOT": str(disk),
        "FAULT_LOG": str(folder / "log"),
        "FAULT_SNAPSHOTS": str(shots),
    }
    program = shimmed.run(argv(disk), env=env)
    assert program.code == 0, program.output
    log = DiskLog(disk, folder / "log", shots, before, inodes)
    # Nothing was missed: what the log says is there is what is there.
    there = {str(path.relative_to(disk)) for path in disk.rglob("*")}
    assert log.live().keys() == there
    for name, node in log.live().items():
        if isinstance(node, File) and node.sizes and not name.endswith(".progress"):
            assert node.size(log.end) == (disk / name).stat().st_size, name
    return log


def told_until(log: DiskLog, moment: int) -> Told:
    told = Told()
    for line in log.marks_until(moment):
        told.add(line)
    return told


class PowerLoss:
    """Cuts the power at many points of a run and recovers from each."""

    def __init__(
        self, zygote, folder: Path, log: DiskLog, row, seed: int, known: Expected | None = None
    ) -> None:
        self.zygote, self.folder, self.log, self.row = zygote, folder, log, row
        self.known = known or Expected()
        self.seed = seed
        self.lock = threading.Lock()
        self.disks: dict[object, dict[str, int]] = {}

    def cut(self, points: list[tuple[int, str]]) -> None:
        """Cut at (time, loss) pairs."""
        with ThreadPoolExecutor(LANES) as pool:
            for future in [pool.submit(self._one, number, *point) for number, point in enumerate(points)]:
                future.result()

    def _one(self, number: int, moment: int, loss: str) -> None:
        try:
            self._cut(number, moment, loss)
        except BaseException as error:
            error.add_note(f"power loss at {moment} of {self.log.end}, {loss}; {self.folder / str(number)}")
            raise

    def _cut(self, number: int, moment: int, loss: str) -> None:
        told = told_until(self.log, moment)
        expected = Expected(dict(self.known.frames), set(self.known.ended))
        expected.add(told)
        # The disk may hold more of the frames than had been announced, and frames that are told of later.
        for id_, frames in told_until(self.log, self.log.end).frames.items():
            expected.frames[id_] = frames
        target = self.folder / str(number)
        disk = self.log.build(target, moment, loss, random.Random(f"{self.seed} {number}"))
        root = target / "set"
        with self.lock:
            known = self.disks.get(disk)
        took_s = None
        if known is None:
            check_opens(root)
            if (root / "meta/info.json").exists():
                started_s = time.monotonic()
                program = self.zygote.run(["recover", str(root)], env=HERE)
                took_s = time.monotonic() - started_s
                assert program.code in (0, 3), program.output
                assert "Traceback" not in program.output, program.output
                assert not (root / ".aiorecord").exists()
                expected.check(root)
            else:
                assert not expected.ended
                assert not any(expected.at_least.values())
        else:
            expected.found = known
            for id_ in expected.ended:
                assert known.get(id_) == len(expected.frames[id_]), id_
            for id_, least in expected.at_least.items():
                assert known.get(id_, 0) >= least, id_
        running = {id_: len(f) for id_, f in told.frames.items() if id_ not in expected.ended}
        lost = sum(max(0, length - expected.found.get(id_, 0)) for id_, length in running.items())
        with self.lock:
            self.disks[disk] = expected.found
            self.row.times += 1
            self.row.episodes += len(expected.ended)
            self.row.running += sum(running.values())
            self.row.running_lost += lost
            self.row.most_lost = max(self.row.most_lost, lost)
            if took_s is not None:
                self.row.recover_s.append(took_s)
        shutil.rmtree(target)


def points(log: DiskLog, number: int, rng: random.Random) -> list[tuple[int, str]]:
    """Moments all through a run, in equal parts for each kind of loss."""
    moments = [round(1 + (log.end - 1) * (n + rng.random()) / number) for n in range(number)]
    return [(min(moment, log.end), LOSSES[n % len(LOSSES)]) for n, moment in enumerate(moments)]


INJECTED = "a disk without what was not fsynced (log of every change, five kinds of loss)"
SESSION = [
    "--dataset.fps=60",
    "--dataset.num_episodes=3",
    "--dataset.episode_time_s=1.6",
    "--dataset.reset_time_s=0",
]


@pytest.mark.smoke
def test_a_few_power_losses_in_commits_and_packing(shimmed, zygote, tmp_path, report):
    power_loss_in_commits(
        shimmed, zygote, tmp_path, report.row("power loss in commit and packing", INJECTED), 15
    )


def power_loss_in_commits(shimmed, zygote, tmp_path, row, number) -> None:
    before = tmp_path / "before"
    expected = make_staged(before / "set", packed=[5, 6], staged=[7, 8])
    log = logged(shimmed, tmp_path / "run", lambda disk: ["recover", str(disk / "set")], before)
    cuts = PowerLoss(zygote, tmp_path / "cuts", log, row, 3, expected)
    cuts.folder.mkdir()
    cuts.cut(points(log, number, random.Random(5)))


def test_power_losses_at_every_change_of_commits_and_packing(shimmed, zygote, tmp_path, report):
    row = report.row("power loss in commit and packing", INJECTED)
    power_loss_in_commits(shimmed, zygote, tmp_path, row, 300)
    assert row.times >= 300


def test_power_losses_all_through_a_session(shimmed, zygote, tmp_path, report):
    row = report.row("power loss while recording", INJECTED)
    log = logged(shimmed, tmp_path / "run", lambda disk: record_argv(disk / "set", 1, *SESSION))
    cuts = PowerLoss(zygote, tmp_path / "cuts", log, row, 4)
    cuts.folder.mkdir()
    cuts.cut(points(log, 300, random.Random(6)))
    assert row.times >= 300
