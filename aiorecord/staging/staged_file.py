"""Reads one file of staging with `read` and not by mapping, so that a disk failure raises an exception.

Memory is allocated only for bytes that the file really has. Only plain files are read: a link leads
elsewhere, a pipe may never answer.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from ..errors import DamageError, StorageError
from ..system.storage import storage_errors

_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


@dataclass
class Extent:
    """How far a file was read, and is whole.

    Attributes:
        present: there is such a file.
        size: its size in bytes when it was opened.
        end: bytes, from its beginning, that are verified to be whole.
        fault: why it is whole no further, in words; None at the end of what was written.
        altered: some bytes are not what was written; False if it is only too short.
    """

    present: bool = False
    size: int = 0
    end: int = 0
    fault: str | None = None
    altered: bool = False


class StagedFile:
    """A file of staging, open for reading from its beginning on.

    Attributes:
        path: the file.
        size: bytes, when it was opened.
        position: bytes read so far.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size
        self.position = 0

    @classmethod
    def open(cls, path: Path, extent: Extent | None = None) -> Self | None:
        """Open a file.

        Args:
            path: the file.
            extent: filled in with whether it is there, and its size.

        Returns:
            None if there is no such file.

        Raises:
            DamageError: it is a link, a pipe, a folder or a device.
            StorageError: it cannot be opened.
        """
        with storage_errors(path, "read"):
            try:
                descriptor = os.open(path, _FLAGS)
            except FileNotFoundError:
                return None
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO):
                    raise DamageError(f"{path} is not a plain file.", path=path) from error
                raise
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise DamageError(f"{path} is not a plain file.", path=path)
                file = cls(path, descriptor)
            except BaseException:
                os.close(descriptor)
                raise
        if extent is not None:
            extent.present, extent.size = True, file.size
        return file

    @property
    def left(self) -> int:
        """Bytes that are still to be read."""
        return self.size - self.position

    def read(self, size: int = -1) -> bytes:
        """The next bytes, as many as asked for unless the file ends before.

        Raises:
            StorageError: the disk refused, or returned less than the file's size.
        """
        wanted = self.left if size < 0 else min(size, self.left)
        parts: list[bytes] = []
        with storage_errors(self.path, "read"):
            while wanted:
                part = os.read(self._descriptor, wanted)
                if not part:
                    problem = f"Could not read {self.path}: it ended at byte {self.position} of {self.size}"
                    raise StorageError(problem, path=self.path, reading=True)
                parts.append(part)
                self.position += len(part)
                wanted -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_whole(path: Path, max_bytes: int) -> bytes:
    """A whole file.

    Raises:
        DamageError: it is missing, not a plain file, or larger than the limit.
        StorageError: it cannot be read.
    """
    file = StagedFile.open(path)
    if file is None:
        raise DamageError(f"{path} is missing.", path=path)
    with file:
        if file.size > max_bytes:
            raise DamageError(f"{path} is larger than it can be ({file.size} bytes).", path=path)
        return file.read()
