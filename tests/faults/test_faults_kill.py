"""SIGKILL at any moment: what had ended is there, bit for bit, once; what ran, up to the last flush."""

from __future__ import annotations

import math
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fault_report import Report, Row
from fault_runs import Zygote, record_argv
from fault_verify import Expected, check_opens

KILLS = 200
CHAIN = 5
"""So many sessions are killed one after another in the same dataset."""
LANES = 2
ROUNDS = 5

SHORT = ["--dataset.fps=60", "--dataset.num_episodes=4", "--dataset.episode_time_s=0.4"]
LONG = ["--dataset.fps=60", "--dataset.num_episodes=2", "--dataset.episode_time_s=2.2"]
RESET = ["--dataset.reset_time_s=0.1"]
AV1: list[str] = []  # the default
KINDS = {
    "h264": (None, []),
    "depth": (None, ["--robot.depth=true"]),
    "images": (None, ["--dataset.video=false"]),
    "av1": (AV1, []),
}
SAVED = "episodes that had ended"


def moments(rng: random.Random, number: int):
    """When the kills come: an announcement to wait for and how many of its kind, and a moment after it."""
    kinds = [
        ("B", 1, 0.5),  # while codecs are tried and the dataset is made
        ("F", None, 0.02),  # while frames come
        ("F", None, 0.02),
        ("P resetting", 2, 0.1),
        ("Y", 2, 0.02),  # just behind a flush
        ("S", None, 0.06),  # durable, encoding, committed
        ("S", None, 0.06),
        ("P saving", 1, 0.5),
        ("P packing", 1, 0.15),
    ]
    for n in range(number):
        kind, count, after_s = kinds[n % len(kinds)]
        most = (70 if kind == "F" else 8) if count is None else count
        count = rng.randint(1, most)
        yield kind, count, rng.uniform(0, after_s)


class Lane:
    """Kills sessions in one dataset after another."""

    def __init__(self, zygote: Zygote, folder: Path, seed: int, row: Row, lock: threading.Lock) -> None:
        self.zygote, self.folder, self.row, self.lock = zygote, folder, row, lock
        self.rng = random.Random(seed)
        self.session = 0
        self.datasets = 0

    def run(self, kills: int) -> None:
        """Kill this many sessions."""
        plan = list(moments(self.rng, kills))
        self.rng.shuffle(plan)
        for start in range(0, kills, CHAIN):
            kind = self.rng.choice(["h264"] * 6 + ["depth", "images", "av1"])
            self.one_dataset(kind, plan[start : start + CHAIN])

    def one_dataset(self, kind: str, plan: list[tuple[str, int, float]]) -> None:
        codec, more = KINDS[kind]
        lossless = kind != "av1"
        root = self.folder / f"set-{self.datasets}"
        self.datasets += 1
        expected = Expected()
        for event, count, after_s in plan:
            where = f"{root}, {kind}, killed {after_s:.3f} s after {event} number {count}"
            try:
                self.one_kill(root, expected, codec, more, lossless, (event, count, after_s))
            except AssertionError as error:
                raise AssertionError(f"{where}: {error}") from error
        if (root / "meta/info.json").exists():
            program = self.zygote.run(["check", "--fast", str(root)])
            assert program.code == 0, f"{root}: {program.output}"

    def one_kill(self, root, expected, codec, more, lossless, moment) -> None:
        event, count, after_s = moment
        self.session += 1
        length = LONG if self.rng.random() < 0.3 else SHORT
        flags = [*length, *RESET, *more, "--resume=true"]
        program = self.zygote.start(record_argv(root, self.session, *flags, codec=codec))
        seen = 0

        def wanted(line: str) -> bool:
            nonlocal seen
            seen += line.startswith(event)
            return seen == count

        program.until(wanted)
        program.read_for(after_s)
        program.kill()
        told = program.told
        before = set(expected.ended)
        known = len(expected.frames)
        expected.add(told)
        check_opens(root, lossless=lossless)
        took_s = self.recover(root)
        if took_s is not None:
            expected.check(root, lossless=lossless)
        else:
            assert not expected.ended
            expected.found = {}
        running = {id_ for id_ in told.frames if id_ not in expected.ended and id_ in expected.frames}
        recorded = sum(len(expected.frames[id_]) for id_ in running)
        kept = sum(expected.found.get(id_, 0) for id_ in running)
        assert len(running) <= 1 + (len(expected.frames) - known), running
        for id_ in running:  # from now on it is as good as ended
            if id_ in expected.found:
                expected.frames[id_] = expected.frames[id_][: expected.found[id_]]
                expected.ended.add(id_)
            else:
                del expected.frames[id_]
        with self.lock:
            self.row.times += program.killed
            self.row.episodes += len(told.ended() - before)
            self.row.running += recorded
            self.row.running_lost += recorded - kept
            self.row.most_lost = max(self.row.most_lost, recorded - kept)
            if took_s is not None:
                self.row.recover_s.append(took_s)

    def recover(self, root: Path) -> float | None:
        """Recover, sometimes killed in the middle of it; None when there was no dataset yet."""
        if not (root / "meta/info.json").exists():
            assert not list(root.glob(".aiorecord/episodes/*/rows.arrows")), "episodes without a dataset"
            return None
        if self.rng.random() < 0.25:
            program = self.zygote.start(["recover", str(root)])
            program.until(lambda line: line == "B")
            program.read_for(self.rng.uniform(0, 0.6))
            program.kill()
        started_s = time.monotonic()
        program = self.zygote.run(["recover", str(root)])
        took_s = time.monotonic() - started_s
        assert program.code in (0, 3), program.output
        assert "Traceback" not in program.output, program.output
        assert not (root / ".aiorecord").exists(), list((root / ".aiorecord").rglob("*"))
        return took_s


def kill_sessions(zygote: Zygote, folder: Path, report: Report, kills: int, seed: int) -> Row:
    """Kill at least this many sessions. A few moments never come, because the session ends before: for those
    there are others.
    """
    row = report.row("SIGKILL while recording", "SIGKILL of the recorder's process group, at seeded moments")
    lock = threading.Lock()
    for again in range(ROUNDS):
        each = math.ceil((kills - row.times) / LANES)
        if each <= 0:
            break
        lanes = []
        for n in range(LANES):
            place = folder / f"lane-{again}-{n}"
            place.mkdir()
            lanes.append(Lane(zygote, place, seed + n + again * LANES, row, lock))
        with ThreadPoolExecutor(LANES) as pool:
            done = [pool.submit(lane.run, each) for lane in lanes]
        for future in done:
            future.result()
    return row


@pytest.mark.smoke
def test_killed_at_a_few_moments(zygote, tmp_path):
    row = kill_sessions(zygote, tmp_path, Report(), 6, seed=7)
    assert row.times >= 4


@pytest.mark.timeout(1800)  # 200 sessions
def test_killed_at_200_moments(zygote, tmp_path, report):
    row = kill_sessions(zygote, tmp_path, report, KILLS, seed=100)
    assert row.times >= KILLS
    assert row.episodes > KILLS / 2
