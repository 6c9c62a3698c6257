"""Reports the progress of an encode from its process to others, through a small file."""

from __future__ import annotations

import struct
from pathlib import Path
from types import TracebackType
from typing import Self

from ..staging.folder import EpisodeFolder
from ..system.storage import storage_errors

_PROGRESS = struct.Struct("<qq")


def progress_path(folder: EpisodeFolder, camera: str) -> Path:
    """The file in which an encode stores its progress: two little-endian int64, done and total."""
    return folder.path / f"{camera}.progress"


def read_progress(path: Path) -> tuple[int, int]:
    """The progress that a `Progress` wrote: done and total; (0, 0) if there is none yet. Cheap.

    Raises:
        StorageError: the file is there but cannot be read.
    """
    with storage_errors(path, "read"):
        try:
            with path.open("rb") as file:
                data = file.read(_PROGRESS.size)
        except FileNotFoundError:
            return 0, 0
    if len(data) < _PROGRESS.size:
        return 0, 0
    done, total = _PROGRESS.unpack_from(data)
    return done, total


class Progress:
    """Writes the progress file; use it as a context manager.

    A plain write of 16 bytes per frame: through a memory map, a full disk would be a SIGBUS and not an error.

    Args:
        path: see `progress_path`; replaced if it exists.
        total: frames to come.

    Raises:
        StorageError: the disk refused.
    """

    def __init__(self, path: Path, total: int) -> None:
        self._path = path
        self._total = total
        with storage_errors(path, "create"):
            # A new file: an existing one may be a link to another file, which must not be overwritten.
            path.unlink(missing_ok=True)
            self._file = path.open("xb", buffering=0)
        self.update(0)

    def update(self, done: int) -> None:
        """Write how many frames are done.

        Raises:
            StorageError: the disk refused.
        """
        with storage_errors(self._path, "write"):
            self._file.seek(0)
            self._file.write(_PROGRESS.pack(done, self._total))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
