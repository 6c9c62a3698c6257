"""Repairs a dataset: keeps or renumbers what is whole, and moves everything else aside.

The rules are those of recovery: an interrupted packing or repair is rolled forward, and what an interrupted
commit left is rolled back as long as staging can make it again. The remaining damage is cut out: all new
files are prepared in the pack folder and published through its journal, so that a repair can be killed at any
point and run again. Nothing that cannot be rebuilt is deleted: every file that is replaced or dropped is
first linked or moved into ``.aiorecord-aside-<n>``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ...dataset.commit.lock import DatasetLock
from ...dataset.commit.rollback import rollback
from ...dataset.exchange.pack_evidence import free_aside
from ...dataset.exchange.pack_journal import PACK_FOLDER, begin, is_decided, roll_forward
from ...dataset.format import layout
from ...dataset.format.info_json import DatasetInfo
from ...dataset.format.numbered_files import remove_temporaries
from ...errors import DatasetError
from ...media.evidence import ensure_dataset_id, read_dataset_id
from ...staging.folder import STAGING_FOLDER, Staging
from ...system import storage
from ...workers.pool import WorkerPool
from ..check_dataset import Check, default_workers
from ..checked import Checked
from ..findings import UNDETERMINED, Report, is_undetermined
from ..jobs import Job, ProgressCallback, run_jobs
from ..pairing import Pairing
from ..readers.folder_tree import IMAGES_FOLDER, lerobot_temporaries
from ..readers.video_frames import default_threads
from .find_info import find_info
from .find_rows import RowSearch
from .losses import note_losses
from .publish import Rebuilding, publish
from .repair_plan import RepairPlan, judge_rows, kept_episodes, name_tasks
from .repair_videos import VideoRepair
from .statistics_repair import (
    STATISTICS,
    EpisodeStats,
    publish_statistics,
    recomputed_statistics,
    whose,
)


@dataclass
class RepairResult:
    """The result of a repair.

    Attributes:
        before: the check before it.
        after: the check after it.
        actions: the steps done, one sentence each; empty if there was nothing to do.
        lost: episodes that could not be kept, and why.
        aside: the folder with the files that are not part of the dataset any more, None if there are none.
        plan: the plan that was announced.
        refused: nothing was changed, because the plan loses readable data and that was not accepted.
        undetermined: what could not be determined, so that the repair stopped; empty if nothing.
    """

    before: Report
    after: Report
    actions: list[str] = field(default_factory=list)
    lost: dict[int, str] = field(default_factory=dict)
    aside: Path | None = None
    plan: RepairPlan = field(default_factory=RepairPlan)
    refused: bool = False
    undetermined: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "plan": self.plan.as_dict(),
            "refused": self.refused,
            "undetermined": self.undetermined,
            "actions": self.actions,
            "lost_episodes": {str(episode): why for episode, why in self.lost.items()},
            "aside": None if self.aside is None else str(self.aside),
            "before": self.before.as_dict(),
            "after": self.after.as_dict(),
        }


def repair_dataset(
    root: Path,
    *,
    workers: int | None = None,
    progress: ProgressCallback | None = None,
    accept_loss: bool = False,
    dry_run: bool = False,
    on_plan: Callable[[RepairPlan], None] | None = None,
) -> RepairResult:
    """Check a dataset, repair what is safe to repair, and check it again. Blocking.

    Can be killed at any point and run again. On a dataset without errors it changes nothing. Steps that would
    lose a readable frame are done only with `accept_loss`. If something is undetermined (see
    `findings.UNDETERMINED`), nothing is repaired.

    Args:
        root: the dataset's root folder.
        workers: processes, default one for each processor.
        progress: see `check_dataset`.
        accept_loss: repair even if episodes are dropped whose rows or frames may be readable.
        dry_run: only report what would be done; nothing is changed.
        on_plan: called with the plan before anything is changed.

    Raises:
        ConfigError: `workers` is not positive.
        DatasetError: it cannot be repaired in place: a folder of it is a link to another place, or the
            journal of an interrupted repair cannot be read.
        DatasetLockedError: it is being recorded into.
        StorageError: the disk refused.
    """
    with storage.storage_errors(root, "read"):
        _refuse_links(root)
        if not root.is_dir():
            raise DatasetError(f"{root} is not a folder.", path=root)
    width = default_workers() if workers is None else workers
    pool = WorkerPool(width, name="aiorecord-check")
    try:
        with storage.storage_errors(root, "repair"), DatasetLock(root):
            return _Repair(root, pool, width, progress, accept_loss, dry_run, on_plan).run()
    finally:
        pool.shutdown(cancel_futures=True)


def _refuse_links(root: Path) -> None:
    names = ("meta", layout.DATA_FOLDER, layout.VIDEOS_FOLDER, layout.EPISODES_FOLDER)
    for name in (*names, STAGING_FOLDER, PACK_FOLDER):
        if (root / name).is_symlink():
            raise DatasetError(
                f"{root / name} is a link to another place. Repair the dataset there, or a copy of it.",
                path=root / name,
            )


class _UndeterminedError(Exception):
    """Something could not be determined: only known damage is repaired."""


def _refuse_undetermined(checked: Checked) -> None:
    if not checked.report.is_determined:
        places = [f.place for f in checked.report.findings if f.severity == UNDETERMINED]
        more = f" and {len(places) - 3} more" if len(places) > 3 else ""
        raise _UndeterminedError(
            f"nothing is repaired while something is undetermined ({', '.join(places[:3])}{more})."
        )


@dataclass
class _Repair:
    """One repair; for the options see `repair_dataset`."""

    root: Path
    pool: WorkerPool
    width: int
    progress: ProgressCallback | None
    accept_loss: bool
    dry_run: bool
    on_plan: Callable[[RepairPlan], None] | None

    def __post_init__(self) -> None:
        self._aside = free_aside(self.root)
        self._actions: list[str] = []
        self._plan = RepairPlan()

    def run(self) -> RepairResult:
        if self.dry_run and is_decided(self.root):
            self._plan.steps.append("Finish a packing or repair that had been interrupted, then check again.")
        elif roll_forward(self.root):
            self._actions.append("Finished a packing or repair that had been interrupted.")
        checked = self._check()
        before = checked.report
        try:
            if checked.info is None and checked.report.codes & {"info-missing", "info-invalid"}:
                _refuse_undetermined(checked)
                found = find_info(self.root, self._run)
                self._plan.steps += found.said
                checked = self._check(found.info) if found.info is not None else checked
            return self._repair(checked)
        except _UndeterminedError as error:
            self._discard()
            after = self._checked.report
            return RepairResult(before, after, self._actions, plan=self._plan, undetermined=str(error))

    def _repair(self, checked: Checked) -> RepairResult:
        """Repair step by step, as long as everything is determined."""
        before = checked.report
        _refuse_undetermined(checked)
        if self._may_roll_back(checked):
            if self.dry_run:
                self._plan.steps.append("Roll back an interrupted commit, whose episode is in staging.")
            elif self._roll_back(checked):
                checked = self._check()
                _refuse_undetermined(checked)
        rebuilding: Rebuilding | None = None
        stale: dict[int, EpisodeStats] | None = None
        if checked.info is not None and not is_decided(self.root):
            if not checked.report.ok:
                rebuilding = self._prepare(checked, checked.info)
            elif checked.report.codes & STATISTICS:
                stale = recomputed_statistics(checked)
                self._plan.steps.append(
                    f"Recompute {whose(stale)}the merged statistics of all episodes (meta/stats.json); rows, "
                    "videos and everything else stay as they are."
                )
        if self.on_plan is not None:
            self.on_plan(self._plan)
        refused = self._plan.loses and not self.accept_loss
        if refused or self.dry_run:
            self._discard()
            return RepairResult(before, checked.report, self._actions, plan=self._plan, refused=refused)
        if rebuilding is not None:
            self._rebuild(rebuilding)
            checked = self._check()
        elif stale is not None:
            self._recompute(checked, stale)
            checked = self._check()
        if checked.info is not None and checked.report.is_determined and self._clear_away(checked):
            checked = self._check()
        aside = self._aside if self._aside.exists() else None
        return RepairResult(before, checked.report, self._actions, self._plan.lost, aside, self._plan)

    def _discard(self) -> None:
        """Delete files that were prepared and not decided."""
        if not is_decided(self.root):
            roll_forward(self.root)

    def _check(self, info_found: DatasetInfo | None = None) -> Checked:
        progress, root = self.progress, self.root
        self._checked = Check(
            root, self.pool, self.width, progress=progress, holding_lock=True, info_found=info_found
        ).run()
        return self._checked

    def _run(self, what: str, jobs: list[Job]) -> dict[Path, Any]:
        """Run jobs; returns results by path, None for a job that failed.

        Raises:
            _UndeterminedError: a job was not run, which says nothing about its file.
        """
        tell = None if self.progress is None else partial(self.progress, what)
        results: dict[Path, Any] = {}
        for outcome in run_jobs(self.pool, jobs, tell, width=self.width):
            if outcome.code is not None and is_undetermined(outcome.code):
                raise _UndeterminedError(f"{outcome.job.path.name}: {outcome.message} Nothing was changed.")
            results[outcome.job.path] = outcome.value
        return results

    def _may_roll_back(self, checked: Checked) -> bool:
        """Whether staging may hold the episode of an interrupted commit."""
        if checked.info is None or checked.report.ok:
            return False
        if checked.info_found:
            return False  # the counts are unknown; whole episodes are kept, and `recover` finds them
        crashes = checked.report.codes & {"reader-crashed", "not-a-file"}
        return not crashes and bool(Staging(self.root).episode_paths())

    def _roll_back(self, checked: Checked) -> bool:
        """Undo an interrupted commit of aiorecord, whose episode is still in staging."""
        assert checked.info is not None
        try:
            changed = rollback(self.root, checked.info)
        except DatasetError:
            return False  # more is damaged than by a commit; the rebuild repairs it
        if changed:
            message = f"Rolled back an interrupted commit ({len(changed)} files); its episode is in staging"
            self._actions.append(f"{message}: run `aiorecord recover`.")
        return bool(changed)

    def _prepare(self, checked: Checked, info: DatasetInfo) -> Rebuilding:
        """Determine which episodes can be kept, and write files needed for that into the pack folder."""
        folder = begin(self.root)
        search = RowSearch(checked, info, folder, self._run)
        trusted = {row.episode: row for part in checked.parts.values() for row in part.rows}
        recovered = {row.episode: row for row in search.recovered_episodes()}
        rows = trusted | {number: row for number, row in recovered.items() if number not in trusted}
        pairing = Pairing(checked, info, read_dataset_id(self.root))
        candidates = search.candidates(rows, set(trusted), pairing)
        self._actions += search.actions
        judge_rows(candidates)
        videos = VideoRepair(checked, info, default_threads(self.width), pairing, self._run)
        for key in checked.video_keys:
            videos.place(key, candidates)
        new_videos = videos.straighten(folder, candidates)
        if new_videos:
            self._plan.steps.append(f"Copy {len(new_videos)} videos without their frames off the grid.")
        tasks, nameless = name_tasks(candidates, checked.tasks, self._said_tasks(checked))
        if nameless:
            self._plan.steps.append(f"Name {len(nameless)} tasks, whose names are lost, so that it is seen.")
        kept = kept_episodes(candidates, {number: name for name, number in tasks.items()})
        note_losses(self._plan, checked, candidates, rows, videos.unreferenced, pairing)
        self._plan.episodes, self._plan.frames = len(kept), sum(k.length for k in kept)
        return Rebuilding(checked, info, folder, kept, tasks, nameless, new_videos)

    def _said_tasks(self, checked: Checked) -> dict[int, str]:
        """Names of tasks, from the descriptions stored in data files."""
        said: dict[int, str] = {}
        for part in checked.data.values():
            if part is not None and part.evidence is not None and part.evidence.fits(part.rows):
                said = {**part.evidence.tasks, **said}
        return said

    def _rebuild(self, new: Rebuilding) -> None:
        """Publish the prepared files."""
        if new.videos:
            self._actions.append(f"Copied {len(new.videos)} videos without their frames off the grid.")
        if new.nameless:
            self._actions.append(
                f"The names of {len(new.nameless)} tasks are lost; they got names that say so."
            )
        if new.checked.info_found:
            self._actions.append("Rebuilt meta/info.json from other files.")
        publish(new, self._aside, self.pool, self.width)
        kept = [episode.found for episode in new.kept]
        known = {k.named.dataset for k in kept if k.named is not None and k.named.dataset is not None}
        if len(known) == 1:
            ensure_dataset_id(self.root, known.pop())
        self._actions.append(
            f"Put the dataset together again: {len(kept)} episodes, {self._plan.frames} frames"
            + (f"; {len(self._plan.lost)} episodes could not be kept." if self._plan.lost else ".")
        )

    def _recompute(self, checked: Checked, stats: dict[int, EpisodeStats]) -> None:
        """Publish the statistics that the check recomputed."""
        publish_statistics(checked, begin(self.root), stats, self._aside, self.pool, self.width)
        self._actions.append(f"Recomputed {whose(stats)}meta/stats.json; nothing else was changed.")

    def _clear_away(self, checked: Checked) -> bool:
        """Remove half-written files, and move files aside that no reader of the dataset uses."""
        places = [f.place for f in checked.report.findings if f.code == "video-orphan"]
        moved = [self.root / place for place in places]
        moved += lerobot_temporaries(self.root)
        moved += [self.root / f.place for f in checked.report.findings if f.code == "not-a-file"]
        if "lerobot-killed-image-folder" in checked.report.codes:
            moved.append(self.root / IMAGES_FOLDER)
        gone = remove_temporaries(self.root) if "temporary-file" in checked.report.codes else []
        if gone:
            self._actions.append(f"Removed {len(gone)} half-written files.")
        count = sum(self._move_aside(path) for path in moved)
        if count:
            self._actions.append(f"Moved {count} files and folders aside that belong to no episode.")
        return bool(gone or count)

    def _move_aside(self, path: Path) -> bool:
        relative = path.relative_to(self.root)
        if any((self.root / parent).is_symlink() for parent in relative.parents if parent != Path()):
            return False  # it is outside of the dataset
        target = self._aside / relative
        with storage.storage_errors(path, "move aside"):
            storage.make_folder(target.parent)
            if target.exists() or not os.path.lexists(path):
                return False
            os.rename(path, target)
            storage.fsync_folder(target.parent)
            storage.fsync_folder(path.parent)
        return True
