"""Opens a dataset's own files for an upload: only files below its folder, and never through a link.

A dataset may come from anybody, and somebody may change it during the upload. A symbolic link in it, or a
file with a hard link elsewhere, would upload data that the user never meant to send. So each part of a path
is opened separately, relative to the folder before it (openat(2) with O_NOFOLLOW), the opened file is checked
through its descriptor (fstat(2)), and the content is read from that descriptor.

Windows has no openat; there each part is checked before it is opened and compared with what was opened.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Self

from ...errors import DatasetError
from ...system.storage import storage_errors

_RELATIVE = os.open in os.supports_dir_fd and os.scandir in os.supports_fd and hasattr(os, "O_NOFOLLOW")
_FILE = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)

_ADVICE = (
    "Only files in the dataset's own folder are sent: replace it by a copy of the file (cp -rL copies a "
    "whole dataset so), or remove it."
)


class OwnFiles:
    """The files in a dataset's folder. The folder is opened once; a context manager closes it.

    Args:
        root: the folder. A link in the path to it is followed, since the user named that path.

    Raises:
        DatasetError: it is not a folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._fd = -1
        self._names: dict[tuple[int, int], int] | None = None
        if not root.is_dir():
            raise DatasetError(f"{root} is not a folder.", path=root)
        if _RELATIVE:
            with storage_errors(root, "read"):
                self._fd = os.open(root, _FOLDER | getattr(os, "O_CLOEXEC", 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading.

        Args:
            name: relative to the folder, with ``/``.

        Raises:
            DatasetError: it is missing, or not the dataset's own: it is a link, or behind one, a pipe, a
                device, a folder, or has another name outside of the dataset's folder.
        """
        path = self.root / name
        with self._parent(name) as folder:
            before = _lstat(folder, path)
            if stat.S_ISLNK(before.st_mode):
                raise _not_own(path, "is a symbolic link")
            if not stat.S_ISREG(before.st_mode):  # not opened: opening a device may have effects
                raise _not_own(path, "is not a plain file")
            with storage_errors(path, "read"), _links(path):
                if folder >= 0:
                    fd = os.open(path.name, _FILE | _NO_LINK, dir_fd=folder)
                else:
                    fd = os.open(path, _FILE | _NO_LINK)
        file = os.fdopen(fd, "rb")
        try:
            status = os.fstat(fd)
            if not os.path.samestat(before, status) or not stat.S_ISREG(status.st_mode):
                raise _not_own(path, "was exchanged while it was opened")
            if status.st_nlink > 1 and self._named_here(status) < status.st_nlink:
                raise _not_own(path, "has another name outside of the dataset (a hard link)")
        except BaseException:
            file.close()
            raise
        return file

    def names(self, folder: str) -> list[str]:
        """Names in a folder that are not folders, sorted; empty if the folder is missing.

        Raises:
            DatasetError: the folder is a link, or behind one.
        """
        path = self.root / folder
        try:
            with (
                self._parent(f"{folder}/x") as fd,
                storage_errors(path, "read"),
                os.scandir(fd if fd >= 0 else path) as entries,
            ):
                return sorted(e.name for e in entries if not e.is_dir(follow_symlinks=False))
        except _MissingError:
            return []

    def check(self, *left_out: str) -> None:
        """Check that nothing in the folder leads out of it.

        Args:
            left_out: names in the folder itself that are not checked.

        Raises:
            DatasetError: there is a link, a pipe, a device, or a file with a name outside.
        """

        def refuse(error: OSError) -> None:
            raise error

        with storage_errors(self.root, "read"):
            for folder, folders, names in os.walk(self.root, onerror=refuse):
                if Path(folder) == self.root:
                    folders[:] = [name for name in folders if name not in left_out]
                    names = [name for name in names if name not in left_out]
                for name in folders:
                    if Path(folder, name).is_symlink():
                        raise _not_own(Path(folder, name), "is a symbolic link")
                for name in names:
                    self.open(Path(folder, name).relative_to(self.root).as_posix()).close()

    @contextlib.contextmanager
    def _parent(self, name: str) -> Iterator[int]:
        """The folder that holds a name, opened part by part; -1 on systems without openat."""
        *parts, last = name.split("/")
        if not last or any(part in ("", ".", "..") for part in (*parts, last)):
            raise _not_own(self.root / name, "is not a name in the dataset")
        path, fd = self.root, self._fd
        try:
            for part in parts:
                path = path / part
                before = _lstat(fd, path)
                if not stat.S_ISDIR(before.st_mode):
                    is_link = stat.S_ISLNK(before.st_mode)
                    raise _not_own(path, "is a symbolic link" if is_link else "is not a folder")
                if fd >= 0:
                    with storage_errors(path, "read"), _links(path):
                        below = os.open(part, _FOLDER | _NO_LINK, dir_fd=fd)
                    if fd != self._fd:
                        os.close(fd)
                    fd = below
            yield fd
        finally:
            if fd not in (self._fd, -1):
                os.close(fd)

    def _named_here(self, status: os.stat_result) -> int:
        """How many names a file has in the dataset's folder; packing and repair make some."""
        if self._names is None:
            self._names = {}
            for folder, _, names in os.walk(self.root):
                for name in names:
                    with contextlib.suppress(FileNotFoundError), storage_errors(self.root, "read"):
                        other = os.lstat(Path(folder, name))
                        key = (other.st_dev, other.st_ino)
                        self._names[key] = self._names.get(key, 0) + 1
        return self._names.get((status.st_dev, status.st_ino), 0)


class _MissingError(DatasetError):
    """There is no such file."""


def _lstat(folder: int, path: Path) -> os.stat_result:
    try:
        with storage_errors(path, "read"):
            if folder >= 0:
                return os.stat(path.name, dir_fd=folder, follow_symlinks=False)
            return os.lstat(path)
    except OSError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise _MissingError(f"{path} is missing, the dataset is incomplete.", path=path) from error
        raise


@contextlib.contextmanager
def _links(path: Path) -> Iterator[None]:
    """Raise DatasetError for a link that O_NOFOLLOW refused: one made after the check."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENOTDIR):  # EMLINK: FreeBSD's error
            raise _not_own(path, "is a symbolic link") from error
        raise


def _not_own(path: Path, what: str) -> DatasetError:
    return DatasetError(f"{path} {what}. {_ADVICE}", path=path)
