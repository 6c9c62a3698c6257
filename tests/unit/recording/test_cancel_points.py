"""Whatever waits is cancelled in every turn of the event loop, in every way: it ends and leaves nothing.

The walk cancels a small program in its n-th turn for one n after the other. A stride keeps it short; set
``CANCEL_WALK=all`` for every turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from helpers import FEATURES, FPS, H264, STATES, make_frame, rows_of

from aiorecord import Recorder, Session, SessionPlan, Stage
from aiorecord.cli.commands import recover as recover_command
from aiorecord.clock import FakeClock
from aiorecord.encoding.episode_encoding import EpisodeEncoding
from aiorecord.errors import EncodeError, StateError
from aiorecord.lerobot.dropin.dropin_recorder import PortalRecorder
from aiorecord.staging.folder import EpisodeFolder, Staging
from aiorecord.system.storage import TEMPORARY_SUFFIX
from aiorecord.system.threads import run_in_thread

MOST_TURNS = 400
"""Turns of the loop that may follow a cancellation; a loop that spins makes tens of thousands a second."""

LENGTH = 3

HOWS = ("once", "each turn", "scope", "timeout", "every task", "loop end")


@dataclass
class Program:
    """What a program that is to be cancelled may note.

    Attributes:
        root: of its dataset.
        durable: ids of the episodes whose `durable()` returned.
    """

    root: Path
    durable: set[str] = field(default_factory=set)


class WalkedLoop(asyncio.SelectorEventLoop):
    """An event loop that counts its turns, and calls something in the n-th one."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = 0
        self.begun = 0
        self.at = sys.maxsize
        self.repeated = False
        self.act: Callable[[], Any] = lambda: None

    def begin(self, at: int, act: Callable[[], Any], *, repeated: bool = False) -> None:
        self.begun, self.at, self.act, self.repeated = self.turns, self.turns + at, act, repeated

    def _run_once(self) -> None:
        self.turns += 1
        if self.turns == self.at or (self.repeated and self.turns > self.at):
            self.act()
        super()._run_once()


def cancelled_at(run: Callable[[], Awaitable[Any]], how: str, at: int) -> tuple[int, int]:
    """Run a program, and cancel it in one turn.

    Returns:
        How many turns it took in all, and how many of them came after the cancellation.
    """

    async def program() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, WalkedLoop)
        task = asyncio.current_task()
        assert task is not None
        if how == "scope":
            with anyio.CancelScope() as scope:
                loop.begin(at, scope.cancel)
                await run()
        elif how == "timeout":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None) as timeout:
                    loop.begin(at, lambda: timeout.reschedule(0.0))
                    await run()
                    loop.act = lambda: None
        else:
            if how in ("once", "each turn"):
                loop.begin(at, task.cancel, repeated=how == "each turn")
            with contextlib.suppress(asyncio.CancelledError):
                await run()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, WalkedLoop)
        me, leave = asyncio.current_task(), asyncio.Event()
        task = asyncio.create_task(program())
        task.add_done_callback(lambda _: leave.set())
        if how == "loop end":
            loop.begin(at, leave.set)
        elif how == "every task":

            def cancel_all() -> None:
                for other in asyncio.all_tasks(loop) - {me}:
                    other.cancel()

            loop.begin(at, cancel_all)
        await leave.wait()
        if task.done():
            loop.act = lambda: None
        if how != "loop end":
            if not task.cancelled():  # before it began
                task.result()
            others = asyncio.all_tasks() - {me}
            assert not others, "tasks are left"

    with asyncio.Runner(loop_factory=WalkedLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, WalkedLoop)
        runner.run(main())
    return loop.turns - loop.begun, max(0, loop.turns - loop.at)


def children() -> list[str]:
    path = Path(f"/proc/self/task/{threading.main_thread().native_id}/children")
    return path.read_text().split() if path.exists() else []


def descriptors() -> set[str]:
    found = set()
    with contextlib.suppress(FileNotFoundError), os.scandir("/proc/self/fd") as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                found.add(os.readlink(entry.path))
    return found


@contextlib.contextmanager
def nothing_left(root: Path) -> Iterator[None]:
    """Check that a block leaves no thread, process, descriptor, lock or temporary file."""
    before, running = descriptors(), set(children())
    yield
    assert [t.name for t in threading.enumerate() if "aiorecord" in t.name or "asyncio" in t.name] == []
    assert set(children()) <= running  # a pool that tests share may be there
    assert {path for path in descriptors() - before if str(root) in path} == set()
    assert not (root / ".aiorecord" / "lock").exists()
    assert not list(root.rglob("*aiorecord-tmp*"))


def staged(root: Path) -> dict[str, int]:
    """Frames of each episode in staging."""
    folders = [EpisodeFolder.load(path) for path in Staging(root).episode_paths()]
    return {folder.id: folder.manifest.length or 0 for folder in folders}


def open_recorder(root: Path, **options: Any) -> Recorder:
    options = {"features": STATES, "clock": FakeClock(auto=True), "min_free_gb": 0, **options}
    return Recorder("me/walk", root=root, fps=FPS, resume=True, encode_workers=1, **options)


async def record(program: Program, **options: Any) -> None:
    """Two episodes, each awaited until it is on disk; the second one is committed by the closing."""
    async with open_recorder(program.root, **options) as recorder:
        for number in range(2):
            async with recorder.episode("Walk", hold=True) as episode:
                for k in range(LENGTH):
                    episode.add_frame(make_frame(k, number, dict(recorder.schema.as_dict(defaults=False))))
                    await asyncio.sleep(0)
            await episode.save.durable()
            program.durable.add(episode.save.episode_id)
        await recorder.drain()


def check_found(program: Program) -> None:
    """Everything that was durable is in the dataset or in staging, and the same process can go on with it."""
    left = staged(program.root) if program.root.exists() else {}

    async def go_on() -> int:
        async with open_recorder(program.root) as recorder:
            await recorder.drain()
            return recorder.writer.total_episodes

    total = asyncio.run(go_on())
    rows = rows_of(program.root) if total else []
    lengths = [sum(row["episode_index"] == episode for row in rows) for episode in range(total)]
    assert total >= len(program.durable), f"{len(program.durable)} were durable"
    assert all(0 < length <= LENGTH for length in lengths)
    assert sum(length == LENGTH for length in lengths) >= len(program.durable)
    assert all(length == LENGTH for id_, length in left.items() if id_ in program.durable)


type Run = tuple[Path, Callable[[], Awaitable[Any]], Callable[[], None]]


def walk(make: Callable[[int], Run], how: str, stride: int) -> int:
    """Cancel a program in one turn after the other, until it ends by itself; returns how often.

    Args:
        make: makes the program of one run: its dataset, what to run, and what to check then.
        how: it is cancelled.
        stride: turns from one run to the next.
    """
    full = os.environ.get("CANCEL_WALK") == "all"
    runs, at = 0, 1 if full else 1 + HOWS.index(how) % stride
    while True:
        root, run, check = make(at)
        try:
            with nothing_left(root):
                turns, after = cancelled_at(run, how, at)
            assert after < MOST_TURNS, f"{after} turns of the loop followed"
            check()
        except BaseException as error:
            error.add_note(f"cancelled in turn {at}, {how}")
            raise
        if turns < at:
            return runs
        runs += 1
        at += 1 if full else stride


@pytest.mark.parametrize("how", HOWS)
def test_a_recording_is_cancelled_in_each_turn(how, tmp_path):
    def make(at):
        program = Program(tmp_path / f"at-{at}")
        return program.root, lambda: record(program), lambda: check_found(program)

    assert walk(make, how, 29) > 2


class Device:
    """A robot or teleoperator that takes a turn of the loop for everything."""

    name = "device"

    def __init__(self) -> None:
        self.connections = 0
        self.observation_features = {"observation.state": STATES["observation.state"]}
        self.action_features = {"action": STATES["action"]}

    async def connect(self) -> None:
        self.connections += 1
        await asyncio.sleep(0)

    async def disconnect(self) -> None:
        await asyncio.sleep(0)
        self.connections = 0

    async def get_observation(self):
        await asyncio.sleep(0)
        return {"observation.state": [1.0, 2.0, 3.0]}

    async def get_action(self):
        return {"action": [1.0, 2.0, 3.0]}

    async def send_action(self, action):
        await asyncio.sleep(0)
        return action


@pytest.mark.parametrize("how", HOWS)
def test_a_session_and_other_calls_are_cancelled_in_each_turn_and_let_go_of_devices(how, tmp_path):
    def make(at):
        program, robot, teleop = Program(tmp_path / f"at-{at}"), Device(), Device()

        async def run():
            async with open_recorder(program.root) as recorder:
                plan = SessionPlan("Walk", num_episodes=2, episode_time_s=2 / FPS, reset_time_s=1 / FPS)
                await Session(recorder, robot, teleop, plan).run()
                first = await recorder.record(robot, teleop, seconds=2 / FPS, task="Walk")
                first.hold()
                last = await recorder.record(robot, teleop, seconds=2 / FPS, task="Walk")
                assert await recorder.take_back(first)
                await recorder.wait_for_room()
                await last
                await recorder.pack()
                await recorder.saver.get_results(timeout=1.0)

        def check():
            if how not in ("every task", "loop end"):  # they cancel the disconnecting of a device as well
                assert (robot.connections, teleop.connections) == (0, 0)

        return program.root, run, check

    assert walk(make, how, 67) > 2


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """The root of a dataset with two episodes in staging, and none in the dataset."""
    root = tmp_path_factory.mktemp("interrupted") / "set"

    async def main():
        recorder = open_recorder(root)
        await recorder.open()
        for number in range(2):
            async with recorder.episode("Walk", hold=True) as episode:
                for k in range(LENGTH):
                    episode.add_frame(make_frame(k, number, STATES))
            await episode.save.durable()
            for save in recorder.saver.pending:
                save.hold()
        await recorder.aclose(drain=False)

    asyncio.run(main())
    return root


@pytest.mark.parametrize("how", HOWS)
def test_a_recovery_is_cancelled_in_each_turn(how, interrupted, tmp_path):
    def make(at):
        root = tmp_path / f"at-{at}" / "set"
        shutil.copytree(interrupted, root)
        program = Program(root, set(staged(root)))
        return root, lambda: recover_command.recover(root), lambda: check_found(program)

    assert walk(make, how, 13) > 2


@pytest.mark.parametrize("how", HOWS)
def test_the_drop_in_is_cancelled_in_each_turn(how, tmp_path):
    """Its recorder, whose coroutines run on a loop that is reached through a portal."""

    def make(at):
        program = Program(tmp_path / f"at-{at}")

        async def run():
            recorder = PortalRecorder(program.root, fps=FPS, features=STATES, clock=FakeClock(auto=True))
            await recorder.open()
            try:
                for number in range(3):
                    capture = await recorder.next_capture()
                    for k in range(LENGTH):
                        frame = recorder.core.checked_frames.check(make_frame(k, number, STATES))
                        capture.add_frame(frame, "Walk", recorder.clock.now_ns())
                    if number == 2:
                        await recorder.save(capture, "Walk", LENGTH)
                    else:
                        assert await recorder.submit(capture, "Walk", LENGTH)
                        for save in recorder.saver.pending:
                            await save.durable()
                            program.durable.add(save.episode_id)
                    await recorder.renew_saver(5 + number, 60.0)
            finally:
                await recorder.core.aclose()

        return program.root, run, lambda: check_found(program)

    assert walk(make, how, 71) > 1


@pytest.mark.parametrize("how", ["once", "scope", "every task"])
def test_the_trial_of_a_codec_is_cancelled_at_once_and_its_worker_ends(how, tmp_path):
    program = Program(tmp_path / "set")
    options = {"features": FEATURES, "rgb_encoder": H264, "encode": "deferred"}
    with nothing_left(program.root):
        _, after = cancelled_at(lambda: record(program, **options), how, 12)
    assert 0 < after < MOST_TURNS
    assert not (program.root / "meta").exists(), "it was cancelled before the dataset was made"


class KilledWorkers(ThreadPoolExecutor):
    """Every encode leaves a temporary file behind, as that of a killed process does."""

    def submit(self, function, /, *args, **kwargs):
        future = Future()
        folder, camera = args[0].folder, args[0].camera
        (folder / f".{camera}.mp4.1{TEMPORARY_SUFFIX}").write_bytes(b"half")
        future.set_exception(EncodeError("it was killed"))
        return future


def test_an_encode_that_is_given_up_leaves_no_temporary_file(tmp_path):
    async def main():
        options = {"features": FEATURES, "rgb_encoder": H264, "encode": "deferred"}
        recorder = open_recorder(tmp_path, **options)
        await recorder.open()
        async with recorder.episode("Walk", hold=True) as episode:
            episode.add_frame(make_frame(0, 0, FEATURES))
        await episode.save.durable()
        episode.save.hold()
        await recorder.aclose(drain=False)

    asyncio.run(main())
    (path,) = Staging(tmp_path).episode_paths()
    with KilledWorkers(1) as executor, pytest.raises(EncodeError):
        EpisodeEncoding(EpisodeFolder.load(path), executor).run()
    assert not list(path.glob(f".*{TEMPORARY_SUFFIX}"))


def test_an_episode_is_kept_when_others_have_cancelled_the_tasks_of_the_saver(tmp_path):
    async def main():
        async with open_recorder(tmp_path) as recorder:
            with pytest.raises(StateError, match="aiorecord recover"):
                async with recorder.episode("Walk") as episode:
                    for task in asyncio.all_tasks():
                        if task.get_name().startswith("aiorecord-save-worker"):
                            task.cancel()
                    episode.add_frame(make_frame(0, 0, STATES))
                    while recorder.saver.takes_episodes:
                        await asyncio.sleep(0)

    with nothing_left(tmp_path):
        asyncio.run(main())
    assert list(staged(tmp_path).values()) == [1]


@pytest.mark.parametrize("how", ["once", "scope"])
def test_cancelling_one_of_two_that_wait_for_the_end_leaves_the_saves_to_the_other(how, tmp_path):
    async def main():
        recorder = open_recorder(tmp_path)
        await recorder.open()
        async with recorder.episode("Walk") as episode:
            episode.add_frame(make_frame(0, 0, STATES))
        waiting = asyncio.create_task(recorder.aclose())
        await asyncio.sleep(0)
        with anyio.CancelScope() as scope:
            if how == "scope":
                scope.cancel()
                await recorder.aclose()
            other = asyncio.create_task(recorder.aclose())
            await asyncio.sleep(0)
            other.cancel()
            with pytest.raises(asyncio.CancelledError):
                await other
        assert scope.cancelled_caught == (how == "scope")
        await waiting
        assert episode.save.stage is Stage.COMMITTED

    asyncio.run(main())


def test_a_recovery_that_is_cancelled_holds_the_lock_while_its_thread_packs(
    interrupted, tmp_path, monkeypatch
):
    root = tmp_path / "set"
    shutil.copytree(interrupted, root)
    packing, go_on, locked = threading.Event(), threading.Event(), []

    def pack(*_):
        packing.set()
        go_on.wait(30)
        locked.append((root / ".aiorecord" / "lock").exists())

    async def main():
        task = asyncio.create_task(recover_command.recover(root))
        await run_in_thread(packing.wait, 30)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    monkeypatch.setattr(recover_command, "pack", pack)
    with nothing_left(root):
        asyncio.run(main())
    assert locked == [True]


def test_a_recorder_that_nobody_closes_is_closed_by_the_end_of_the_loop(tmp_path):
    root = tmp_path / "set"

    async def main():
        recorder = open_recorder(root)
        await recorder.open()
        episode = await recorder.episode("Walk").__aenter__()
        episode.add_frame(make_frame(0, 0, STATES))
        return recorder

    with nothing_left(root):
        recorder = asyncio.run(main())
    assert list(staged(root).values()) == [1]
    with pytest.warns(ResourceWarning, match="never closed"):
        recorder.core._unclosed()
