"""`aiorecord recover`: save the episodes that an interrupted recording left in staging."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import MofNCompleteColumn, TimeRemainingColumn

from ...clock import SystemClock
from ...dataset.commit.already_committed import committed_index
from ...dataset.commit.lock import DatasetLock, is_locked
from ...dataset.commit.writer import DatasetWriter
from ...dataset.format.info_json import read_info
from ...dataset.packing.pack import pack
from ...dataset.recovery.cut_damaged import cut_damaged, note_cuts
from ...dataset.recovery.rebuild_info import lost_info
from ...dataset.recovery.salvage import StagedEpisode, State, Step, examine, salvage
from ...dataset.recovery.unfinished import unfinished
from ...errors import AiorecordError, DatasetError, DatasetLockedError, StorageError
from ...options import Partial
from ...printable import json_text
from ...recording.open_dataset import DatasetHome
from ...saving.handle import EpisodeSave
from ...saving.saver import AsyncEpisodeSaver
from ...staging.folder import STAGING_FOLDER, Staging
from ...system.storage import storage_errors
from ...system.threads import Threads
from ..flag_parser import FlagParser, at_least_one
from ..output import complain, dataset_folder, say
from ..recovery_table import table_of
from ..table_console import output_console, progress_bar

EXAMPLES = """examples:
  aiorecord recover data/pick-cube --dry-run        # show what is there and what would be done; write nothing
  aiorecord recover data/pick-cube                  # encode and commit the episodes in staging, then pack
  aiorecord recover data/pick-cube --partial=stage  # but leave the interrupted episode alone
  aiorecord recover data/pick-cube --accept-loss    # also save damaged episodes up to the damage

--partial chooses what to do with an episode that was interrupted or ended by an error: keep saves the frames
that reached the disk, drop deletes it, stage leaves it as it is (a later recover can still keep it).

An episode whose files cannot be read from the disk is "undetermined"; one whose files do not match their
checksums is "damaged". Both stay in staging unchanged.
With --accept-loss the frames before the damage are saved, and the damaged folder is moved aside unchanged.

exit codes: 0 clean, 1 something failed, or is damaged or unreadable, 2 wrong usage, 3 nothing failed, but
something was salvaged with a loss (the last line says how many frames), or could not be determined (a disk
that does not read)."""


@dataclass
class Recovered:
    """The result of one run.

    Attributes:
        root: the dataset's folder.
        dry_run: nothing was done.
        notes: findings besides the episodes, a sentence each.
        episodes: the episodes that were in staging.
        problems: failures besides the saving of an episode, a sentence each.
        total_episodes: episodes in the dataset now.
        total_frames: their frames.
    """

    root: Path
    dry_run: bool
    notes: list[str] = field(default_factory=list)
    episodes: list[StagedEpisode] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    total_episodes: int = 0
    total_frames: int = 0

    @property
    def lost(self) -> int:
        """Recorded frames that are neither in the dataset nor in staging any more."""
        return sum(episode.lost_in_dataset for episode in self.episodes if episode.error is None)

    @property
    def exit_code(self) -> int:
        """0 clean, 1 something failed or is damaged, 3 with a loss or undetermined."""
        states = {episode.state for episode in self.episodes}
        wrong = states & {State.UNREADABLE, State.DAMAGED}
        if self.problems or wrong or any(episode.error for episode in self.episodes):
            return 1
        return 3 if self.lost or State.UNDETERMINED in states else 0

    def as_dict(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "root": str(self.root),
            "dry_run": self.dry_run,
            "notes": self.notes,
            "episodes": [episode.as_dict() for episode in self.episodes],
            "problems": self.problems,
            "undetermined": [e.id for e in self.episodes if e.state is State.UNDETERMINED],
            "damaged": [e.id for e in self.episodes if e.state is State.DAMAGED],
            "lost_frames": self.lost,
            "total_episodes": self.total_episodes,
            "total_frames": self.total_frames,
            "exit_code": self.exit_code,
        }


def run(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    parser = FlagParser(
        "aiorecord recover",
        description="Finish what an interrupted recording left in staging: roll back half-written commits, "
        "encode and commit every episode that ended, and keep the frames of the interrupted one that reached "
        "the disk. Needs no robot; works on a copy of the dataset on another machine. Can be "
        "stopped and run again at any point.",
        examples=EXAMPLES,
    )
    parser.add_argument("root", type=dataset_folder, help="the dataset's folder")
    parser.add_argument(
        "--partial", choices=("keep", "drop", "stage"), default="keep", help="see above; default keep"
    )
    parser.add_argument(
        "--accept-loss",
        action="store_true",
        help="also save damaged episodes, up to the damage",
    )
    parser.add_argument("--dry-run", action="store_true", help="only report what would be done")
    parser.add_argument("--json", action="store_true", help="print what was found and done as JSON")
    parser.rare("--no-pack", action="store_true", help="do not merge the files of single episodes")
    parser.rare("--encode_workers", type=at_least_one, default=None, help="encoder processes")
    try:
        given = parser.parse_args(argv)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 2
    root = given.root
    try:
        with storage_errors(root, "read" if given.dry_run else "recover"):
            if given.dry_run:
                done = survey(root, given.partial, accept_loss=given.accept_loss)
            else:
                options = {"pack_files": not given.no_pack, "workers": given.encode_workers}
                options |= {"partial": given.partial, "accept_loss": given.accept_loss}
                done = asyncio.run(recover(root, **options))
    except AiorecordError as error:
        complain(error)
        return 3 if isinstance(error, StorageError) and error.reading else 1
    except KeyboardInterrupt:
        say("Stopped. What is not committed stays in staging; run the command again.", file=sys.stderr)
        return 130
    if given.json:
        say(json_text(done.as_dict()))
    else:
        _print(done)
    return done.exit_code


def survey(root: Path, partial: Partial = "keep", *, accept_loss: bool = False) -> Recovered:
    """Report what `recover` would find and do. Blocking; writes nothing, takes no lock.

    A complete episode is read when it is saved, so damage in it is not found here.

    Raises:
        DatasetError: there is no dataset, or one that cannot be continued.
        DatasetLockedError: it is being recorded into.
        StorageError: it cannot be read.
    """
    if is_locked(root):
        path = DatasetLock(root).path
        raise DatasetLockedError(f"{root} is being written.", path=path, pid=None, host=None)
    done = Recovered(root, dry_run=True)
    info = lost_info(root)
    if info is not None:
        done.notes.append("meta/info.json is missing; it is rebuilt from staging")
    else:
        info = read_info(root)
    done.notes += unfinished(root, info)
    total = info.total_episodes
    done.episodes = examine(Staging(root), lambda folder: committed_index(root, total, folder), partial)
    if accept_loss:
        note_cuts(done.episodes)
    done.total_episodes, done.total_frames = total, info.total_frames
    for episode in done.episodes:
        if episode.step is Step.SAVE:
            episode.episode_index = done.total_episodes
            done.total_episodes += 1
            done.total_frames += episode.frames
    return done


async def recover(
    root: Path,
    *,
    partial: Partial = "keep",
    accept_loss: bool = False,
    pack_files: bool = True,
    workers: int | None = None,
) -> Recovered:
    """Recover one dataset, showing progress on standard error.

    Cancelling it leaves what is not committed in staging. A step that has begun, such as the merging of
    files, is finished first, and the dataset stays locked until then.

    Args:
        root: the dataset's folder.
        partial: what to do with interrupted episodes.
        accept_loss: save damaged episodes up to the damage, and move their folders aside.
        pack_files: merge the files of single episodes afterwards.
        workers: encoder processes.

    Raises:
        DatasetError: there is no dataset, or one that cannot be continued.
        DatasetLockedError: it is being recorded into.
        StorageError: the disk refused.
    """
    done = Recovered(root, dry_run=False)
    home, threads = DatasetHome(root), Threads(1, "aiorecord-recover")
    lost_info(root)  # a missing dataset is found before anything is changed
    try:
        await threads.run(_make_writable, root)
        done.notes = await threads.run(home.open_for_recovery)
        writer = home.writer
        done.episodes = await threads.run(salvage, writer, home.staging, partial)
        await _save_all(writer, done.episodes, workers)
        if accept_loss:  # only now: damage in a complete episode is found when it is saved
            await _save_all(writer, await threads.run(cut_damaged, root, done.episodes), workers)
        if pack_files and writer.total_episodes:
            try:
                await threads.run(pack, writer, None)
            except (DatasetError, StorageError) as error:
                done.problems.append(f"The files of single episodes were not merged: {error}")
    finally:
        await threads.aclose(home.close)
    done.total_episodes, done.total_frames = writer.total_episodes, writer.total_frames
    return done


async def _save_all(writer: DatasetWriter, found: list[StagedEpisode], workers: int | None) -> None:
    """Save the episodes that are ready, and store the outcome of each."""
    episodes = {e.id: e for e in found if e.step is Step.SAVE and e.folder is not None}
    if not episodes:
        return
    clock = SystemClock()
    saves = [
        EpisodeSave(e.folder, task=e.folder.manifest.task, length=e.frames, now_ns=clock.now_ns)
        for e in episodes.values()
        if e.folder is not None
    ]
    async with AsyncEpisodeSaver(writer, encode_workers=workers, clock=clock) as saver:
        saver.submit_recovered(saves)
        with progress_bar(MofNCompleteColumn(), TimeRemainingColumn()) as progress:
            total = sum(save.length for save in saves)
            bar = progress.add_task(f"saving {len(saves)} episodes, frames", total=total)
            while not await saver.wait_for_completion(timeout=0.25):
                progress.update(bar, completed=sum(round(s.length * (s.done() or s.progress)) for s in saves))
    for save in saves:
        result, episode = save.result(), episodes[save.episode_id]
        episode.episode_index, episode.flags = result.episode_index, list(result.flags)
        if not result.success:
            episode.not_saved(save.error, result.error or "not saved")


def _make_writable(root: Path) -> None:
    """Restore the owner's permission to write, which copies from read-only media lack.

    Only for folders and metadata files, which recovery changes in place. Files of another owner are not
    changed.

    Raises:
        StorageError: the disk refused.
    """
    uid = getattr(os, "geteuid", lambda: None)()
    with storage_errors(root, "read"):
        places = [root]
        for top in ("meta", "data", "videos", STAGING_FOLDER):
            if (root / top).is_symlink():
                continue  # a link leads elsewhere
            for folder, _, names in os.walk(root / top):
                places.append(Path(folder))
                places += [Path(folder, name) for name in names if top in ("meta", STAGING_FOLDER)]
        found = [(place, place.lstat()) for place in places]
    with storage_errors(root, "make writable"):
        for place, status in found:
            if stat.S_ISLNK(status.st_mode) or (uid is not None and status.st_uid != uid):
                continue
            needed = stat.S_IRWXU if stat.S_ISDIR(status.st_mode) else stat.S_IRUSR | stat.S_IWUSR
            if status.st_mode & needed != needed:
                place.chmod(stat.S_IMODE(status.st_mode) | needed)


def _print(done: Recovered) -> None:
    console = output_console(highlight=False)
    for note in done.notes:
        console.print(f"- {note}", markup=False)
    if done.episodes:
        console.print(table_of(done.episodes, done=not done.dry_run))
    elif not done.notes:
        console.print("nothing to recover")
    for problem in done.problems:
        console.print(problem, markup=False, style="red")
    if done.lost:
        verb = "would be lost" if done.dry_run else "are lost"
        console.print(f"{done.lost} recorded frames did not reach the disk whole and {verb}.", soft_wrap=True)
    would = "would be " if done.dry_run else ""
    totals = f"{would}{done.total_episodes} episodes, {done.total_frames} frames"
    console.print(f"{done.root}: {totals}", markup=False, soft_wrap=True)
