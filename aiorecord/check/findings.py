"""The problems that a check reports: a `Finding` per problem, each with a stable code, and their `Report`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ERROR, WARNING, NOTE = "error", "warning", "note"
UNDETERMINED = "undetermined"
"""Findings for which there is evidence neither of damage nor of soundness. Never repaired."""

_REPAIR = "Run `aiorecord check ROOT --repair`."
_REPAIR_CUTS = "Run `aiorecord check ROOT --repair`: it keeps the whole episodes and moves the rest aside."
_REPAIR_STATISTICS = (
    "No data is damaged: versions of lerobot and its dataset tools compute, merge and keep statistics "
    "differently. `aiorecord check ROOT --repair` recomputes the statistics and changes nothing else."
)

_LATER = (
    "Check again when the recording has ended: while a program writes into the dataset, nothing is repaired."
)

FOOTERLESS = "It has no footer: its writer died before it was finished (LeRobot 0.6 writes it in finalize())."
"""The message about such a file, whatever is in it."""

CODES: dict[str, tuple[str, str]] = {
    # The dataset as a whole.
    "info-missing": (
        ERROR,
        "Restore meta/info.json from a copy, or run `aiorecord check ROOT --repair`: it rebuilds it from "
        "other files, as far as possible.",
    ),
    "info-invalid": (
        ERROR,
        "Restore meta/info.json from a copy, or correct what the message names, or run `aiorecord check ROOT "
        "--repair`: it rebuilds it from other files, as far as possible.",
    ),
    "info-counts": (ERROR, _REPAIR),
    "dataset-locked": (
        NOTE,
        "Check again when the recording has ended; the episode being written was not checked.",
    ),
    "not-a-file": (ERROR, "Replace it by the file that belongs there. It was not opened."),
    "aside-folder": (
        NOTE,
        "It holds files that an earlier repair moved aside. Delete it when you do not need it.",
    ),
    "staging-unfinished": (WARNING, "Run `aiorecord recover ROOT`: it finishes these episodes."),
    "staging-packing": (WARNING, "Run `aiorecord recover ROOT`: it finishes what was under way."),
    "temporary-file": (WARNING, _REPAIR),
    "reader-crashed": (ERROR, "The file crashes the library that reads it, twice. " + _REPAIR_CUTS),
    # What could not be determined.
    "reader-stalled": (
        UNDETERMINED,
        "Check again; if it happens again, the file may hang the library that reads it.",
    ),
    "reader-starved": (UNDETERMINED, "Check again when the machine is less busy, or with fewer --workers."),
    "reader-killed": (UNDETERMINED, "Check again; if memory ran out, with fewer --workers."),
    "reader-memory": (UNDETERMINED, "Check again where there is more memory, and with fewer --workers."),
    "file-unread": (
        UNDETERMINED,
        "Check the disk, its cable, the network or the permissions, then run the check again.",
    ),
    "dataset-changed": (UNDETERMINED, "Check again when no program writes into the dataset."),
    # Tasks and statistics.
    "tasks-unreadable": (ERROR, _REPAIR),
    "task-unknown": (ERROR, _REPAIR),
    "stats-missing": (ERROR, _REPAIR),
    "stats-invalid": (ERROR, _REPAIR),
    "stats-mismatch": (ERROR, _REPAIR),
    "stats-total": (WARNING, _REPAIR_STATISTICS),
    "stats-stale": (WARNING, _REPAIR_STATISTICS),
    # meta/episodes.
    "episodes-unreadable": (ERROR, _REPAIR_CUTS),
    "episodes-columns": (ERROR, _REPAIR_CUTS),
    "episodes-order": (ERROR, _REPAIR),
    "episodes-uncounted": (
        ERROR,
        "Run `aiorecord recover ROOT` if aiorecord was recording, else `--repair`.",
    ),
    # Rows.
    "data-missing": (ERROR, _REPAIR_CUTS),
    "data-unreadable": (ERROR, _REPAIR_CUTS),
    "data-columns": (ERROR, _REPAIR_CUTS),
    "data-orphan": (ERROR, _REPAIR),
    "rows-count": (ERROR, _REPAIR_CUTS),
    "rows-index": (ERROR, _REPAIR),
    "rows-timestamp": (ERROR, _REPAIR_CUTS),
    "episode-flagged": (
        WARNING,
        "The recording exceeded its limits, see `aiorecord info ROOT`. Record it again or leave it out.",
    ),
    "rows-other-episode": (ERROR, "A data file was exchanged. Restore the right one. " + _REPAIR_CUTS),
    "values-not-finite": (
        WARNING,
        "Examine the sensor that returned NaN or infinity, or leave the episode out.",
    ),
    # Cameras.
    "image-undecodable": (ERROR, _REPAIR_CUTS),
    "image-size": (ERROR, _REPAIR_CUTS),
    "video-missing": (ERROR, _REPAIR_CUTS),
    "video-unreadable": (ERROR, _REPAIR_CUTS),
    "video-undecodable": (ERROR, _REPAIR_CUTS),
    "video-size": (ERROR, _REPAIR_CUTS),
    "video-grid": (ERROR, _REPAIR_CUTS),
    "video-info": (
        WARNING,
        "Readers use the file's real properties; programs that rely on `info` in meta/info.json may fail.",
    ),
    "depth-settings": (
        WARNING,
        "Depth is read correctly only with the settings it was recorded with: put these into the camera's "
        "`info` in meta/info.json, or leave the camera out.",
    ),
    "video-frames-missing": (ERROR, _REPAIR_CUTS),
    "video-overlap": (ERROR, _REPAIR_CUTS),
    "video-frames-refused": (
        WARNING,
        "The frames are whole, but lerobot refuses them unless it is given a larger tolerance_s.",
    ),
    "video-other-episode": (
        ERROR,
        "A video was exchanged. Restore the right one, or run `aiorecord check ROOT --repair`: it pairs "
        "rows and videos by the episode ids stored in the files.",
    ),
    "evidence-stale": (NOTE, "The description stored in such a file is ignored."),
    "video-unused-frames": (WARNING, "Nothing needs these frames; readers skip them."),
    "video-orphan": (WARNING, _REPAIR),
    "video-replaced": (
        NOTE,
        "The next recording, or `aiorecord recover ROOT`, deletes them once an hour has passed.",
    ),
    "camera-frozen": (WARNING, "Look at these frames; leave the episode out if the camera hung."),
    # Leftovers of a killed LeRobot 0.6.
    "lerobot-killed-footerless-parquet": (ERROR, _REPAIR_CUTS),
    "lerobot-killed-metadata-behind": (ERROR, _REPAIR_CUTS),
    "lerobot-frames-dropped": (ERROR, _REPAIR_CUTS),
    "lerobot-killed-image-folder": (WARNING, _REPAIR),
    "lerobot-killed-temporary-video": (WARNING, _REPAIR),
}
"""Every code, with its severity and advice. Codes are stable: scripts may rely on them."""


def is_undetermined(code: str) -> bool:
    """Whether findings of a code say neither that there is damage nor that there is none."""
    return CODES[code][0] == UNDETERMINED


@dataclass(frozen=True)
class Finding:
    """One problem.

    Attributes:
        code: a key of `CODES`.
        place: the file or folder, relative to the dataset's root, with ``/``.
        message: what is wrong, one sentence or two.
        episode: the episode it is about, or None.
        camera: the camera's feature key, or None.
        first_frame: frame index in the episode where it begins, or None.
        last_frame: the last frame it is about, or None.
        is_ahead: it concerns an episode that info.json does not count, so a commit under way explains it.
        is_live: a program writes into the dataset, so nothing can be repaired now.
    """

    code: str
    place: str
    message: str
    episode: int | None = None
    camera: str | None = None
    first_frame: int | None = None
    last_frame: int | None = None
    is_ahead: bool = False
    is_live: bool = False

    @property
    def severity(self) -> str:
        """``error``, ``undetermined``, ``warning`` or ``note``."""
        return CODES[self.code][0]

    @property
    def hint(self) -> str:
        """What the user should do."""
        hint = CODES[self.code][1]
        return _LATER if self.is_live and ("--repair" in hint or "recover" in hint) else hint

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; parts that do not apply are left out."""
        out: dict[str, Any] = {"code": self.code, "severity": self.severity, "place": self.place}
        optional = ("episode", "camera", "first_frame", "last_frame")
        out |= {name: value for name in optional if (value := getattr(self, name)) is not None}
        return out | {"message": self.message, "hint": self.hint}


@dataclass
class Report:
    """The outcome of a check.

    Attributes:
        root: the dataset.
        findings: in the order of `CODES`, then of place and episode.
        episodes: checked episodes.
        frames: checked rows.
        video_frames: coded video frames read (decoded unless `fast`).
        files: data and video files read.
        fast: nothing was decoded.
        seconds: how long it took.
    """

    root: Path
    findings: list[Finding] = field(default_factory=list)
    episodes: int = 0
    frames: int = 0
    video_frames: int = 0
    files: int = 0
    fast: bool = False
    seconds: float = 0.0

    def add(self, findings: Iterable[Finding]) -> None:
        """Add findings, keeping the order."""
        order = {code: place for place, code in enumerate(CODES)}
        self.findings.extend(findings)
        self.findings.sort(key=lambda f: (order[f.code], f.place, f.episode or 0, f.first_frame or 0))

    def count(self, severity: str) -> int:
        """How many findings of a severity there are."""
        return sum(finding.severity == severity for finding in self.findings)

    @property
    def ok(self) -> bool:
        """No errors, and nothing undetermined; warnings and notes are allowed."""
        return not self.count(ERROR) and self.is_determined

    @property
    def is_determined(self) -> bool:
        """Whether everything could be checked."""
        return self.count(UNDETERMINED) == 0

    @property
    def exit_code(self) -> int:
        """0 no errors, 1 errors, 3 no errors seen but something could not be determined."""
        return 1 if self.count(ERROR) else 0 if self.is_determined else 3

    @property
    def codes(self) -> set[str]:
        """The codes that were found."""
        return {finding.code for finding in self.findings}

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        names = ("episodes", "frames", "video_frames", "files", "fast")
        return {
            "root": str(self.root),
            "ok": self.ok,
            "errors": self.count(ERROR),
            "undetermined": self.count(UNDETERMINED),
            "warnings": self.count(WARNING),
            **{name: getattr(self, name) for name in names},
            "seconds": round(self.seconds, 3),
            "findings": [finding.as_dict() for finding in self.findings],
        }
