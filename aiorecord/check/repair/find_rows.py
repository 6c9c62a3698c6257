"""Finds the rows of a damaged dataset that can be read, also in files without footer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from ...dataset.format.episodes import episodes_schema
from ...dataset.format.info_json import DatasetInfo
from ...dataset.format.tables import data_schema
from ..checked import Checked
from ..jobs import Job, RunJobs
from ..pairing import Pairing, by_metadata
from ..readers.data_file import RowsFile, rows_job
from ..readers.folder_tree import file_index
from ..readers.footer import is_footerless
from ..readers.metadata import EpisodeRow, episodes_job
from ..readers.model import RowsPart
from .repair_plan import Candidate
from .rewrite import recover_job


class RowSearch:
    """The search for the rows of a damaged dataset.

    Args:
        checked: the result of the check.
        info: the dataset's info.json.
        folder: the pack folder, for readable copies of files without footer.
        run: runs jobs.

    Attributes:
        actions: what was recovered, one sentence each.
    """

    def __init__(self, checked: Checked, info: DatasetInfo, folder: Path, run: RunJobs) -> None:
        self.actions: list[str] = []
        self._checked, self._info, self._folder, self._run = checked, info, folder, run
        self._root = checked.report.root

    def recovered_episodes(self) -> list[EpisodeRow]:
        """The rows in files of `meta/episodes` without footer. Only their locations are used."""
        footerless = "lerobot-killed-footerless-parquet"
        paths = [path for path, part in self._checked.parts.items() if part.problem == footerless]
        copies = self._copies("metadata", "episodes", paths, episodes_schema(self._info.features))
        keys = tuple(self._checked.video_keys)
        jobs = [Job(copy, episodes_job, (self._root, copy, keys)) for copy, _ in copies.values()]
        parts = self._run("metadata", jobs).values()
        return [row for part in parts if part is not None for row in part.rows]

    def candidates(
        self, rows: Mapping[int, EpisodeRow], trusted: set[int], pairing: Pairing
    ) -> list[Candidate]:
        """Every run of rows that can be read, in the order of the files.

        Args:
            rows: the readable rows of `meta/episodes`.
            trusted: episodes whose row comes from an undamaged file.
            pairing: the ids stored in the files.
        """
        info, data = self._info, self._checked.data
        paths = [path for path in data if is_footerless(path)]
        copies = self._copies("rows", "data", paths, data_schema(info.features))
        jobs = [
            Job(copy, rows_job, (RowsFile(self._root, copy, info.features, info.fps, [], False),))
            for copy, _ in copies.values()
        ]
        recovered: dict[Path, RowsPart | None] = self._run("rows", jobs)
        if copies:
            count = sum(length for _, length in copies.values())
            self.actions.append(f"Recovered {count} rows from {len(copies)} Parquet files without footer.")
        numbers = {file_index(path) for path in data}
        found: list[Candidate] = []
        for path, part in data.items():
            source = copies[path][0] if path in copies else path
            seen = recovered.get(source) if path in copies else part
            index = file_index(path)
            if seen is None or not seen.readable or index is None:
                continue
            for number, run in enumerate(seen.runs):
                row = rows.get(run.episode)
                is_trusted = row is not None and run.episode in trusted
                candidate = Candidate(run, source, index, seen.stats.get(number, {}), row, is_trusted)
                found.append(candidate)
                named = pairing.of_rows(source, run)
                if row is not None and row.data == index and (named is None or row.id in (None, named.id)):
                    candidate.paired = True
                    named = named or by_metadata(row, run)
                candidate.named = named
                if number in seen.bad_images:
                    candidate.problem = "an image of it cannot be used"
                elif row is not None and row.data != index and row.data in numbers:
                    candidate.problem = "its rows are in another file than meta/episodes states"
                elif named is not None and not candidate.paired and pairing.is_foreign(named):
                    candidate.problem = "its rows were recorded into another dataset"
        return found

    def _copies(
        self, what: str, name: str, paths: Sequence[Path], schema: pa.Schema
    ) -> dict[Path, tuple[Path, int]]:
        """Readable copies of files without footer, and the rows in each; files without a row have none."""
        jobs = [
            Job(path, recover_job, (path, self._folder / "recovered" / f"{name}-{number}.parquet", schema))
            for number, path in enumerate(paths)
        ]
        rows = self._run(f"{what} without footer", jobs)
        return {job.path: (job.arguments[1], rows[job.path]) for job in jobs if rows.get(job.path)}
