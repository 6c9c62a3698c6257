"""Files to which whole records are appended."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from ..system.storage import storage_errors


class AppendFile:
    """A new file to which records are appended, unbuffered: what was appended survives a killed process.

    A record that the disk refuses is cut off again, so that the file ends with a whole one and appending
    can be tried again. Only `storage.fsync_file` makes it survive a power loss. Not thread-safe.

    Args:
        path: the file; must not exist.

    Attributes:
        path: the file.
        size: bytes appended.

    Raises:
        StorageError: the file exists, or the disk refused.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        with storage_errors(path, "create"):
            self._file = path.open("xb", buffering=0)

    def append(self, *parts: bytes | memoryview) -> None:
        """Append one record, given in parts.

        Raises:
            StorageError: the disk refused; the file is as it was before.
        """
        written = 0
        with storage_errors(self.path, "write"):
            try:
                for part in parts:
                    rest = memoryview(part).cast("B")
                    while rest:
                        count = self._file.write(rest) or 0
                        written += count
                        rest = rest[count:]
            except OSError:
                self.cut(self.size)
                raise
        self.size += written

    def cut(self, size: int) -> None:
        """Take back what was appended beyond a size.

        Raises:
            StorageError: the disk refused.
        """
        with storage_errors(self.path, "cut"):
            self._file.truncate(size)
            self._file.seek(size)
        self.size = size

    def close(self) -> None:
        """Close the file. Idempotent.

        Raises:
            StorageError: the disk refused.
        """
        with storage_errors(self.path, "close"):
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
