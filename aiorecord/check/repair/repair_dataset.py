"""Repairs a dataset: keeps or renumbers what is whole, and moves everything else aside.

The rules are those of recovery: an interrupted packing or repair is rolled forward, and what an interrupted
commit left is rolled back as long as staging can make it again. The remaining damage is cut out: all new
files are prepared in the pack folder and published through its journal, so that a repair can be killed at any
point and run again. Nothing that cannot be rebuilt is deleted: every file that is replaced or dropped is
first linked or moved into ``.aiorecord-aside-<n>``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...dataset.commit.lock import DatasetLock
from ...dataset.commit.rollback import rollback
from ...dataset.exchange.pack_evidence import ASIDE
from ...dataset.exchange.pack_journal import PACK_FOLDER, begin, is_decided, roll_forward
from ...dataset.format import layout
from ...dataset.format.episodes import episodes_schema
from ...dataset.format.info_json import DatasetInfo
from ...dataset.format.layout import FileIndex, parse_index
from ...dataset.format.numbered_files import remove_temporaries
from ...dataset.format.tables import data_schema
from ...errors import DatasetError
from ...media.evidence import ensure_dataset_id, read_dataset_id
from ...staging.folder import STAGING_FOLDER, Staging
from ...system import storage
from ...workers.pool import WorkerPool
from ..check_dataset import Check, ProgressCallback, default_workers
from ..checked import Checked
from ..findings import CODES, UNDETERMINED, Report
from ..jobs import Job, run_jobs
from ..pairing import Pairing, by_metadata
from ..readers.data_file import RowsFile, rows_job
from ..readers.folder_tree import IMAGES_FOLDER, asides, lerobot_temporaries
from ..readers.footer import is_footerless
from ..readers.metadata import EpisodeRow, episodes_job
from ..readers.model import RowsPart
from .find_info import find_info
from .losses import note_losses
from .publish import publish
from .repair_plan import Candidate, RepairPlan, judge_rows, kept_episodes, name_tasks
from .repair_videos import VideoRepair
from .rewrite import Kept, recover_job
from .statistics_repair import (
    STATISTICS,
    publish_statistics,
    recomputed_statistics,
    statistics_step,
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
            return _Repair(root, pool, width, progress).run(accept_loss, dry_run, on_plan)
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


@dataclass
class _Rebuilding:
    """The prepared files of a repair, which `_Repair._rebuild` publishes."""

    checked: Checked
    info: DatasetInfo
    folder: Path
    kept: list[Kept]
    tasks: dict[str, int]
    nameless: list[int]
    videos: dict[str, str]


class _UndeterminedError(Exception):
    """Something could not be determined: only known damage is repaired."""


def _refuse_undetermined(checked: Checked) -> None:
    if not checked.report.is_determined:
        places = [f.place for f in checked.report.findings if f.severity == UNDETERMINED]
        more = f" and {len(places) - 3} more" if len(places) > 3 else ""
        raise _UndeterminedError(
            f"nothing is repaired while something is undetermined ({', '.join(places[:3])}{more})."
        )


class _Repair:
    def __init__(self, root: Path, pool: WorkerPool, width: int, progress: ProgressCallback | None) -> None:
        self._root, self._pool, self._width, self._progress = root, pool, width, progress
        number = len(asides(root)) + 1
        while (root / f"{ASIDE}{number}").exists():
            number += 1
        self._aside = root / f"{ASIDE}{number}"
        self._actions: list[str] = []
        self._lost: dict[int, str] = {}
        self._plan = RepairPlan()

    def run(
        self, accept_loss: bool, dry_run: bool, on_plan: Callable[[RepairPlan], None] | None
    ) -> RepairResult:
        if dry_run and is_decided(self._root):
            self._plan.steps.append("Finish a packing or repair that had been interrupted, then check again.")
        elif roll_forward(self._root):
            self._actions.append("Finished a packing or repair that had been interrupted.")
        checked = self._check()
        before = checked.report
        try:
            if checked.info is None and checked.report.codes & {"info-missing", "info-invalid"}:
                _refuse_undetermined(checked)
                found = find_info(self._root, self._run)
                self._plan.steps += found.said
                checked = self._check(found.info) if found.info is not None else checked
            return self._repair(checked, accept_loss, dry_run, on_plan)
        except _UndeterminedError as error:
            self._discard()
            after = self._checked.report
            return RepairResult(before, after, self._actions, plan=self._plan, undetermined=str(error))

    def _repair(
        self,
        checked: Checked,
        accept_loss: bool,
        dry_run: bool,
        on_plan: Callable[[RepairPlan], None] | None,
    ) -> RepairResult:
        """Repair step by step, as long as everything is determined."""
        before = checked.report
        _refuse_undetermined(checked)
        if self._may_roll_back(checked):
            if dry_run:
                self._plan.steps.append("Roll back an interrupted commit, whose episode is in staging.")
            elif self._roll_back(checked):
                checked = self._check()
                _refuse_undetermined(checked)
        rebuilding: _Rebuilding | None = None
        stale: Checked | None = None
        if checked.info is not None and not is_decided(self._root):
            if not checked.report.ok:
                rebuilding = self._prepare(checked, checked.info)
            elif checked.report.codes & STATISTICS:
                stale = checked
                self._plan.steps.append(statistics_step(len(recomputed_statistics(checked))))
        if on_plan is not None:
            on_plan(self._plan)
        refused = self._plan.loses and not accept_loss
        if refused or dry_run:
            self._discard()
            return RepairResult(before, checked.report, self._actions, plan=self._plan, refused=refused)
        self._lost = self._plan.lost
        if rebuilding is not None:
            self._rebuild(rebuilding)
            checked = self._check()
        elif stale is not None:
            self._recompute(stale)
            checked = self._check()
        if checked.info is not None and checked.report.is_determined and self._clear_away(checked):
            checked = self._check()
        aside = self._aside if self._aside.exists() else None
        return RepairResult(before, checked.report, self._actions, self._lost, aside, self._plan)

    def _discard(self) -> None:
        """Delete files that were prepared and not decided."""
        if not is_decided(self._root):
            roll_forward(self._root)

    def _check(self, info_found: DatasetInfo | None = None) -> Checked:
        check = Check(
            self._root,
            self._pool,
            self._width,
            progress=self._progress,
            holding_lock=True,
            info_found=info_found,
        )
        self._checked = check.run()
        return self._checked

    def _run(self, what: str, jobs: list[Job]) -> dict[Path, Any]:
        """Run jobs; returns results by path, None for a job that failed.

        Raises:
            _UndeterminedError: a job was not run, which says nothing about its file.
        """

        def tell(done: int, total: int) -> None:
            if self._progress is not None:
                self._progress(what, done, total)

        results: dict[Path, Any] = {}
        for outcome in run_jobs(self._pool, jobs, tell, width=self._width):
            if outcome.code is not None and CODES[outcome.code][0] == UNDETERMINED:
                raise _UndeterminedError(f"{outcome.job.path.name}: {outcome.message} Nothing was changed.")
            results[outcome.job.path] = outcome.value
        return results

    def _may_roll_back(self, checked: Checked) -> bool:
        """Whether staging may hold the episode of an interrupted commit."""
        crashes = {"reader-crashed", "not-a-file"}
        if checked.info_found:
            return False  # the counts are unknown; whole episodes are kept, and `recover` finds them
        if checked.info is None or not Staging(self._root).episode_paths() or checked.report.codes & crashes:
            return False
        return not checked.report.ok

    def _roll_back(self, checked: Checked) -> bool:
        """Undo an interrupted commit of aiorecord, whose episode is still in staging."""
        assert checked.info is not None
        try:
            changed = rollback(self._root, checked.info)
        except DatasetError:
            return False  # more is damaged than by a commit; the rebuild repairs it
        if changed:
            self._actions.append(
                f"Rolled back an interrupted commit ({len(changed)} files); its episode is in staging: run "
                "`aiorecord recover`."
            )
        return bool(changed)

    # Find the whole episodes

    def _prepare(self, checked: Checked, info: DatasetInfo) -> _Rebuilding:
        """Determine which episodes can be kept, and write files needed for that into the pack folder."""
        folder = begin(self._root)
        rows = {row.episode: row for part in checked.parts.values() for row in part.rows}
        trusted = set(rows)
        for episode, row in self._recovered_rows(checked, info, folder).items():
            rows.setdefault(episode, row)
        pairing = Pairing(checked, info, read_dataset_id(self._root))
        candidates = self._candidates(checked, info, folder, rows, trusted, pairing)
        judge_rows(candidates)
        check = Check(self._root, self._pool, self._width)
        videos = VideoRepair(checked, info, check, pairing, self._run)
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
        return _Rebuilding(checked, info, folder, kept, tasks, nameless, new_videos)

    def _said_tasks(self, checked: Checked) -> dict[int, str]:
        """Names of tasks, from the descriptions stored in data files."""
        said: dict[int, str] = {}
        for part in checked.data.values():
            if part is not None and part.evidence is not None and part.evidence.fits(part.rows):
                said = {**part.evidence.tasks, **said}
        return said

    def _rebuild(self, new: _Rebuilding) -> None:
        """Publish the prepared files."""
        if new.videos:
            self._actions.append(f"Copied {len(new.videos)} videos without their frames off the grid.")
        if new.nameless:
            self._actions.append(
                f"The names of {len(new.nameless)} tasks are lost; they got names that say so."
            )
        checked, kept = new.checked, new.kept
        if checked.info_found:
            self._actions.append("Rebuilt meta/info.json from other files.")
        publish(
            checked, new.info, new.folder, kept, new.tasks, new.videos, self._aside, self._pool, self._width
        )
        known = {k.named.dataset for k in kept if k.named is not None and k.named.dataset is not None}
        if len(known) == 1:
            ensure_dataset_id(self._root, known.pop())
        self._actions.append(
            f"Put the dataset together again: {len(kept)} episodes, {sum(k.length for k in kept)} frames"
            + (f"; {len(self._lost)} episodes could not be kept." if self._lost else ".")
        )

    def _recompute(self, checked: Checked) -> None:
        """Publish the statistics that the check recomputed."""
        stats = recomputed_statistics(checked)
        publish_statistics(checked, begin(self._root), stats, self._aside, self._pool, self._width)
        whose = f"the statistics of {len(stats)} episodes and " if stats else ""
        self._actions.append(f"Recomputed {whose}meta/stats.json; nothing else was changed.")

    def _recovered_rows(self, checked: Checked, info: DatasetInfo, folder: Path) -> dict[int, EpisodeRow]:
        """Rows of `meta/episodes` files without footer. Only their locations are used."""
        schema = episodes_schema(info.features)
        jobs = [
            Job(path, recover_job, (path, folder / "recovered" / f"episodes-{number}.parquet", schema))
            for number, (path, part) in enumerate(checked.parts.items())
            if part.problem == "lerobot-killed-footerless-parquet"
        ]
        whole = [path for path, rows in self._run("metadata without footer", jobs).items() if rows]
        copies = {job.path: job.arguments[1] for job in jobs if job.path in whole}
        keys = tuple(checked.video_keys)
        parts = self._run(
            "metadata", [Job(copy, episodes_job, (self._root, copy, keys)) for copy in copies.values()]
        )
        return {row.episode: row for part in parts.values() if part is not None for row in part.rows}

    def _candidates(
        self,
        checked: Checked,
        info: DatasetInfo,
        folder: Path,
        rows: dict[int, EpisodeRow],
        trusted: set[int],
        pairing: Pairing,
    ) -> list[Candidate]:
        """Every run of rows that can be read, in the order of the files."""
        schema = data_schema(info.features)
        jobs = [
            Job(path, recover_job, (path, folder / "recovered" / f"data-{number}.parquet", schema))
            for number, path in enumerate(checked.data)
            if is_footerless(path)
        ]
        recovered = self._run("rows without footer", jobs)
        copies = {job.path: job.arguments[1] for job in jobs if recovered.get(job.path)}
        looked = self._run(
            "rows",
            [
                Job(copy, rows_job, (RowsFile(self._root, copy, info.features, info.fps, [], False),))
                for copy in copies.values()
            ],
        )
        if copies:
            count = sum(recovered[path] for path in copies)
            self._actions.append(f"Recovered {count} rows from {len(copies)} Parquet files without footer.")
        found: list[Candidate] = []
        for path, part in checked.data.items():
            source = copies.get(path, path)
            seen: RowsPart | None = looked.get(source) if path in copies else part
            index = parse_index(f"{path.parent.name}/{path.name}")
            if seen is None or not seen.readable or index is None:
                continue
            for number, run in enumerate(seen.runs):
                row = rows.get(run.episode)
                named = pairing.of_rows(source, run)
                candidate = Candidate(
                    run,
                    source,
                    index,
                    seen.stats.get(number, {}),
                    row,
                    run.episode in trusted and row is not None,
                )
                if row is not None and row.data == index and (named is None or row.id in (None, named.id)):
                    candidate.paired = True
                    named = named or by_metadata(row, run)
                candidate.named = named
                if number in seen.bad_images:
                    candidate.problem = "an image of it cannot be used"
                elif row is not None and row.data != index and row.data in _numbers(checked.data):
                    candidate.problem = "its rows are in another file than meta/episodes states"
                elif named is not None and not candidate.paired and pairing.is_foreign(named):
                    candidate.problem = "its rows were recorded into another dataset"
                found.append(candidate)
        return found

    def _clear_away(self, checked: Checked) -> bool:
        """Remove half-written files, and move files aside that no reader of the dataset uses."""
        places = [f.place for f in checked.report.findings if f.code == "video-orphan"]
        moved = [self._root / place for place in places]
        moved += lerobot_temporaries(self._root)
        moved += [self._root / f.place for f in checked.report.findings if f.code == "not-a-file"]
        if "lerobot-killed-image-folder" in checked.report.codes:
            moved.append(self._root / IMAGES_FOLDER)
        gone = remove_temporaries(self._root) if "temporary-file" in checked.report.codes else []
        if gone:
            self._actions.append(f"Removed {len(gone)} half-written files.")
        count = sum(self._move_aside(path) for path in moved)
        if count:
            self._actions.append(f"Moved {count} files and folders aside that belong to no episode.")
        return bool(gone or count)

    def _move_aside(self, path: Path) -> bool:
        relative = path.relative_to(self._root)
        if any((self._root / parent).is_symlink() for parent in relative.parents if parent != Path()):
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


def _numbers(paths: Iterable[Path]) -> set[FileIndex]:
    found = (parse_index(f"{path.parent.name}/{path.name}") for path in paths)
    return {index for index in found if index is not None}
