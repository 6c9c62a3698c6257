"""`aiorecord recover`: finish what an interrupted recording left in staging."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..capture.staging import Staging
from ..clock import SystemClock
from ..dataset.lock import DatasetLock
from ..dataset.pack import pack
from ..dataset.recover import Salvage, salvage
from ..dataset.writer import DatasetWriter
from ..errors import AiorecordError, DatasetError
from ..saver import AsyncEpisodeSaver
from ..saves import EpisodeSave

EXAMPLES = """examples:
  aiorecord recover data/pick-cube            # encode and commit what staging holds, then pack
  aiorecord recover data/pick-cube --no-pack

exit codes: 0 everything is in the dataset, 3 an episode was salvaged with a loss, 1 something failed."""


def run(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        "aiorecord recover",
        description="Finish what an interrupted recording left in staging: roll back what was half "
        "written, encode and commit every episode that ended, keep the one that was being recorded as far "
        "as it reached the disk. Can be stopped and run again at any point.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("root", type=Path, help="the dataset's folder")
    parser.add_argument("--no-pack", action="store_true", help="do not merge the files of single episodes")
    parser.add_argument("--encode_workers", type=int, default=None, help="encoder processes")
    arguments = parser.parse_args(argv)
    try:
        return asyncio.run(
            recover(
                _dataset_root(arguments.root),
                pack_files=not arguments.no_pack,
                workers=arguments.encode_workers,
            )
        )
    except AiorecordError as error:
        print(f"aiorecord: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped. What is not committed stays in staging; run the command again.", file=sys.stderr)
        return 130


def _dataset_root(path: Path) -> Path:
    root = path.expanduser().absolute()
    if not (root / "meta" / "info.json").is_file():
        raise DatasetError(f"{root} holds no dataset (there is no meta/info.json).", path=root)
    return root


async def recover(root: Path, *, pack_files: bool = True, workers: int | None = None) -> int:
    """Recover one dataset, showing progress; returns the exit code.

    Raises:
        DatasetError: it cannot be continued.
        DatasetLockedError: it is being recorded into.
        StorageError: the disk refused.
    """
    lock = DatasetLock(root)
    await asyncio.to_thread(lock.acquire)
    try:
        writer = await asyncio.to_thread(DatasetWriter.open, root)
        staging = Staging(root)
        found = await asyncio.to_thread(salvage, writer, staging)
        failed = await _save_all(writer, found, workers)
        if pack_files and writer.total_episodes:
            await asyncio.to_thread(pack, writer, None)
        await asyncio.to_thread(staging.tidy)
    finally:
        await asyncio.to_thread(lock.release)
    for line in _report(found, failed):
        print(line)
    print(f"{root}: {writer.total_episodes} episodes, {writer.total_frames} frames")
    if failed or found.unreadable:
        return 1
    return 3 if any(found.cut.values()) else 0


async def _save_all(writer: DatasetWriter, found: Salvage, workers: int | None) -> dict[str, str]:
    """Save what was found; returns the errors by episode id."""
    if not found.ready:
        return {}
    clock = SystemClock()
    saves = [
        EpisodeSave(f, task=f.manifest.task, length=f.manifest.length or 0, now_ns=clock.now_ns)
        for f in found.ready
    ]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    async with AsyncEpisodeSaver(writer, encode_workers=workers, clock=clock) as saver:
        saver.submit_recovered(saves)
        with Progress(*columns, transient=True) as progress:
            total = sum(save.length for save in saves)
            bar = progress.add_task(f"saving {len(saves)} episodes, frames", total=total)
            while not await saver.wait_for_completion(timeout=0.25):
                progress.update(bar, completed=sum(round(s.length * (s.done() or s.progress)) for s in saves))
    return {save.episode_id: save.result().error or "" for save in saves if not save.result().success}


def _report(found: Salvage, failed: dict[str, str]) -> list[str]:
    lines = []
    for folder in found.ready:
        if folder.id in failed:
            lines.append(f"{folder.id}  FAILED, stays in staging: {failed[folder.id]}")
        elif folder.id in found.cut:
            lines.append(
                f"{folder.id}  salvaged: {folder.manifest.length} frames of an interrupted episode"
                + (f", {found.cut[folder.id]} did not reach the disk" if found.cut[folder.id] else "")
            )
        else:
            lines.append(f"{folder.id}  saved: {folder.manifest.length} frames")
    lines += [f"{name}  was in the dataset already" for name in found.committed]
    lines += [f"{name}  held no whole frame, deleted" for name in found.empty]
    lines += [f"{name}  cannot be read, left alone" for name in found.unreadable]
    return lines or ["nothing to recover"]
