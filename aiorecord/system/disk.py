"""Estimates how long the free disk space will last at the measured rate of writing."""

from __future__ import annotations

import os
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from ..errors import StorageError
from .machine_time import monotonic_s
from .storage import free_bytes

WARN_STEPS_S = (15 * 60.0, 5 * 60.0, 60.0)
"""The operator is warned each time there is room for less recording than one of these."""

MARGIN_S = 3.0
"""An episode ends when there is room for no more than this: the disk is checked once a second."""

MEMORY_SAMPLES = 10
"""The rate is an average over this many checks during a running episode."""


@dataclass(frozen=True)
class DiskStatus:
    """A dataset's disk at one moment. Sizes in bytes.

    Attributes:
        free: free space.
        reserve: space that must stay free (`min_free_gb`); 0 for none.
        owed: space that frames in memory, and the final files of episodes not encoded yet, will take.
        bytes_per_s: space that a second of recording takes, including final files; None before it was
            measured.
        problem: why the disk cannot be written at all, in words; None if it can.
    """

    free: int
    reserve: int = 0
    owed: int = 0
    bytes_per_s: float | None = None
    problem: str | None = None

    @property
    def usable(self) -> int:
        """Space for recording; below 0 if the reserve is already used."""
        return self.free - self.reserve - self.owed

    @property
    def seconds_left(self) -> float | None:
        """Seconds of recording for which there is room; None before the rate was measured."""
        return max(0.0, self.usable / self.bytes_per_s) if self.bytes_per_s else None

    @property
    def is_low(self) -> bool:
        """Whether the operator should free space."""
        left_s = self.seconds_left
        return self.is_full or (left_s is not None and left_s < WARN_STEPS_S[0])

    @property
    def is_full(self) -> bool:
        """Whether a running episode must end, and the next cannot begin."""
        if self.problem is not None:
            return True
        return self.reserve > 0 and self.usable <= MARGIN_S * (self.bytes_per_s or 0)

    def describe(self) -> str:
        """The state of the disk for the operator, as a sentence without its full stop."""
        if self.problem is not None:
            return self.problem
        text = f"{_size_text(self.free)} are free on the disk"
        if self.reserve:
            text += f", of which {_size_text(self.reserve)} stay free (min_free_gb)"
        if self.owed >= 500_000:  # smaller sizes round to 0 MB
            text += f" and {_size_text(self.owed)} are needed for what waits to be written"
        left_s = self.seconds_left
        if left_s is not None and not self.is_full:
            text += f": room for {left_s / 60:.0f} min" if left_s >= 60 else f": room for {left_s:.0f} s"
        return text


class DiskMeter:
    """Measures the disk under a dataset. `look` blocks; everything else is cheap.

    Args:
        root: the dataset's folder; it need not exist yet.
        reserve: bytes that must stay free.

    Attributes:
        root: the dataset's folder.
        status: the newest measurement.
    """

    def __init__(self, root: Path, reserve: int) -> None:
        self.root = root
        self._reserve = reserve
        self._looking = threading.Lock()
        self._steps: deque[tuple[float, int]] = deque(maxlen=MEMORY_SAMPLES)  # seconds, bytes
        self._seen: tuple[Path, float, int] | None = None  # the running episode at the last check
        self.status = DiskStatus(0, reserve)

    def look(self, episode: Path | None, final_bytes_per_s: float, owed: int) -> DiskStatus:
        """Measure. Blocking.

        Args:
            episode: the folder of the running episode, None if there is none.
            final_bytes_per_s: bytes of the final files per second of recording, as far as known.
            owed: see `DiskStatus`.
        """
        with self._looking:  # threads of several callers
            return self._look(episode, final_bytes_per_s, owed)

    def _look(self, episode: Path | None, final_bytes_per_s: float, owed: int) -> DiskStatus:
        problem = None
        try:
            free = free_bytes(self.root)
            if _is_read_only(self.root):
                problem = f"The disk of {self.root} is read-only; mount it for writing again"
            self._measure(episode)
        except OSError as error:
            free = 0
            problem = f"The disk of {self.root} does not answer: {error.strerror or error}"
        seconds = sum(step[0] for step in self._steps)
        rate = sum(step[1] for step in self._steps) / seconds + final_bytes_per_s if seconds else None
        self.status = DiskStatus(free, self._reserve, owed, rate or None, problem)
        return self.status

    def _measure(self, episode: Path | None) -> None:
        if episode is None:
            self._seen = None  # the rate of the last episode is kept
            return
        now_s, size = monotonic_s(), _folder_bytes(episode)
        if self._seen is not None and self._seen[0] == episode and now_s > self._seen[1]:
            self._steps.append((now_s - self._seen[1], max(0, size - self._seen[2])))
        self._seen = (episode, now_s, size)


class DiskAlert:
    """Alerts once each with room for 15, 5 and 1 min left, with no room, and when there is room again."""

    def __init__(self) -> None:
        self._step = 0

    def look(self, status: DiskStatus) -> str | None:
        """A line for the operator if the disk got worse, or has room again; else None."""
        left_s = status.seconds_left
        step = len(WARN_STEPS_S) + 1 if status.is_full else 0
        if left_s is not None and not step:
            step = sum(left_s < limit_s for limit_s in WARN_STEPS_S)
        was, self._step = self._step, step
        if step > was:
            return f"DISK: {status.describe()}"
        return f"disk: {status.describe()}" if was and not step else None


def disk_refused(error: BaseException | None) -> bool:
    """Whether the disk caused an error, so that a retry may work once the disk does."""
    while error is not None:
        if isinstance(error, StorageError):
            return True
        error = error.__cause__
    return False


def _size_text(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _is_read_only(path: Path) -> bool:
    if not hasattr(os, "statvfs"):  # Windows
        return False
    while not path.exists():
        path = path.parent
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return True
    # Linux 6.18's ext4 stays mounted for writing after an error, and refuses every write.
    return "emergency_ro" in filesystem(path)[1]


def filesystem(path: Path) -> tuple[str, list[str]]:
    """Type and options of the filesystem that holds a path (proc_pid_mountinfo(5)); empty if not on Linux."""
    path = path.resolve()
    longest, found = "", ("", list[str]())
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return found
    for line in lines:
        mount, _, described = line.partition(" - ")
        point = mount.split()[4].replace("\\040", " ")
        # Of several in one place, the last one is on top.
        if path.is_relative_to(point) and len(point) >= len(longest) and described:
            kind, *_, options = described.split()
            longest, found = point, (kind, options.split(","))
    return found


def _folder_bytes(folder: Path) -> int:
    """Bytes that a folder's files take on the disk; 0 if it has just been deleted."""
    total = 0
    try:
        for entry in os.scandir(folder):
            status = entry.stat(follow_symlinks=False)
            # Blocks, for a file of zeros may take none; 512 bytes each, whatever the filesystem's are.
            total += status.st_blocks * 512 if hasattr(status, "st_blocks") else status.st_size
    except FileNotFoundError:
        return total
    return total
