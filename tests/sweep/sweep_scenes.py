"""What the sweep runs: a small dataset of two cameras, and the programs that change it.

A scene is a dataset as it is before, and what is done to it. Each program tells, in a file outside of it,
what it has announced: ``F <episode> <session> <step>`` after `add_frame`, ``D <episode> <frames>`` once the
episode is durable, ``G <episode>`` for one that the scene itself has damaged.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))

import fault_content as content

from aiorecord import Recorder, RGBEncoderConfig
from aiorecord.check.repair import repair_dataset as repair_module
from aiorecord.cli import main
from aiorecord.clock import FakeClock
from aiorecord.encoding.episode_encoding import EpisodeEncoding
from aiorecord.errors import AiorecordError
from aiorecord.saving import saver as saver_module
from aiorecord.staging.folder import EpisodeFolder, Staging

FPS = 60
FRONT, WRIST = "observation.images.front", "observation.images.wrist"
WRIST_STEPS = 5000
"""The wrist shows at a step what the front shows so many steps later: its pictures tell a camera."""

FINAL = RGBEncoderConfig(vcodec="h264", crf=0, preset="ultrafast")
REFUSED = 1
BUG = 70


def features() -> dict[str, Any]:
    """A state, an action and two cameras."""
    found = content.features()
    return found | {WRIST: dict(found[FRONT])}


def frame(session: int, step: int) -> dict[str, Any]:
    """All of a frame."""
    return content.frame(session, step) | {WRIST: content.picture(session, step + WRIST_STEPS)}


class Journal:
    """What was announced, in a file that no fault reaches.

    Args:
        path: the file; appended to.

    Attributes:
        last: the episode that was named last.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        self.last = ""
        self._mark = getattr(ctypes.CDLL(None), "fault_mark", None)

    def tell(self, line: str) -> None:
        """Add a line, also to the log of the disk if there is one."""
        if self._mark is not None:
            self._mark(line.encode())
        self.last = line.split()[1]
        os.write(self._fd, line.encode() + b"\n")


async def record(
    root: Path, session: int, lengths: list[int], journal: Journal, *, save: bool = True, **options: Any
) -> None:
    """Record episodes; without `save` they stay in staging."""
    executor = ThreadPoolExecutor(1)
    arguments: dict[str, Any] = {
        "fps": FPS,
        "features": features(),
        "rgb_encoder": FINAL,
        "encode_executor": executor,
        "clock": FakeClock(auto=True),
        "resume": True,
    }
    recorder = Recorder("demo/sweep", root=root, **(arguments | options))
    step, failed = 0, []
    try:
        await recorder.open()
        try:
            for length in lengths:
                async with recorder.episode("Show the code", hold=not save) as episode:
                    for _ in range(length):
                        episode.add_frame(frame(session, step))
                        journal.tell(f"F {episode.id} {session} {step}")
                        step += 1
                assert episode.save is not None
                try:
                    await episode.save.durable()
                    # One that the disk cut short counts as what there is only where its save says so.
                    cut = any("frames are lost" in problem for problem in episode.save.problems)
                    count = episode.save.length if cut else length
                    journal.tell(f"D {episode.save.episode_id} {count}")
                    if save:
                        await episode.save
                except AiorecordError as error:
                    failed.append(error)
                if not save:
                    episode.save.hold()
                    recorder.core.last_save = None  # the next episode would release it
        finally:
            await recorder.aclose(drain=save)
    finally:
        executor.shutdown()
    if failed:
        raise failed[0]


def encode_staged(root: Path) -> None:
    """Encode what staging holds, and leave it there."""
    with ThreadPoolExecutor(1) as executor:
        for path in Staging(root).episode_paths():
            EpisodeEncoding(EpisodeFolder.load(path), executor).run()


def in_this_process() -> None:
    """Encode and check in threads: which process does it is not the point, and starting one takes long."""

    class Pool(ThreadPoolExecutor):
        """What `WorkerPool` has beside an executor's methods."""

        def __init__(self, workers: int, **_: Any) -> None:
            super().__init__(workers)

        def pid_of(self, future: Any) -> int:
            return os.getpid()

        def abort(self, future: Any) -> None:
            future.cancel()

    saver_module.WorkerPool = Pool  # type: ignore[misc, assignment]
    repair_module.WorkerPool = Pool  # type: ignore[misc, assignment]


def command(*argv: str) -> int:
    """A command, as `python -m aiorecord` runs it."""
    in_this_process()
    return main(list(argv))


def recover(root: Path) -> int:
    """`aiorecord recover`."""
    return command("recover", str(root), "--encode_workers=1")


def repair(root: Path) -> int:
    """`aiorecord check --repair`; pictures without rows are lost, as the operator agrees."""
    return command("check", str(root), "--repair", "--accept-loss", "--workers=1")


def recorded(root: Path, session: int, lengths: list[int], journal: Journal) -> int:
    """A program that records, with errors as a program prints them."""
    try:
        asyncio.run(record(root, session, lengths, journal))
    except (AiorecordError, BaseExceptionGroup) as error:
        told: BaseException | None = error
        if isinstance(error, BaseExceptionGroup):
            _, others = error.split(AiorecordError)
            if others is not None:
                raise
        while told is not None:
            print(f"error: {told}", *getattr(told, "__notes__", []), file=sys.stderr)
            if isinstance(told, BaseExceptionGroup):
                print(*told.exceptions, sep="\n", file=sys.stderr)
            told = told.__cause__ or told.__context__
        return REFUSED
    return 0


class Scene:
    """One program and the dataset that it finds.

    Attributes:
        name: its name.
        prepare: makes the dataset.
        run: the program; returns its exit code.
        finish: what is run afterwards, until nothing is left to do.
    """

    def __init__(
        self,
        name: str,
        prepare: Callable[[Path, Journal], None],
        run: Callable[[Path, Journal], int],
        finish: Callable[[Path], int] = recover,
    ) -> None:
        self.name, self.prepare, self.run, self.finish = name, prepare, run, finish


def _nothing(root: Path, journal: Journal) -> None:
    pass


def _staged(root: Path, journal: Journal) -> None:
    """One packed episode, two that are encoded, one that ended, one that was being recorded."""
    asyncio.run(record(root, 1, [3], journal))
    asyncio.run(record(root, 2, [2, 3], journal, save=False))
    encode_staged(root)
    asyncio.run(record(root, 3, [2], journal, save=False))
    asyncio.run(record(root, 4, [3], journal, save=False))
    folder = EpisodeFolder.load(Staging(root).episode_paths()[-1])
    folder.manifest.state, folder.manifest.length = "recording", None
    folder.save()


def _loose(root: Path, journal: Journal) -> None:
    """Three episodes, as commits leave them."""
    asyncio.run(record(root, 1, [3, 2, 3], journal, pack=False))


def _damaged(root: Path, journal: Journal) -> None:
    """Three episodes of which the last lost its data file, and the statistics."""
    _loose(root, journal)
    max((root / "data").rglob("*.parquet")).unlink()
    (root / "meta/stats.json").write_bytes(b"{}")
    journal.tell(f"G {journal.last}")


SCENES = {
    scene.name: scene
    for scene in (
        Scene("record", _nothing, lambda root, journal: recorded(root, 5, [3, 2, 3], journal)),
        Scene("resume", _staged, lambda root, journal: recorded(root, 5, [2], journal)),
        Scene("recover", _staged, lambda root, journal: recover(root)),
        Scene("pack", _loose, lambda root, journal: recover(root)),
        Scene("repair", _damaged, lambda root, journal: repair(root), repair),
    )
}


def prepare(scene: Scene, folder: Path) -> None:
    """Make ``<folder>/set`` and ``<folder>/journal``."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    scene.prepare(folder / "set", Journal(folder / "journal"))


def guarded(call: Callable[[], int]) -> int:
    """An exit code; what is no `AiorecordError` is a traceback, as in a program."""
    try:
        return call()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else REFUSED
    except BaseException:  # noqa: BLE001 - printed, as the interpreter does
        traceback.print_exc()
        return BUG
