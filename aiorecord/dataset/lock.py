"""One writer per dataset: a lock file that the operating system releases when its holder dies."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .. import storage
from ..capture.staging import STAGING_FOLDER
from ..errors import DatasetLockedError, StateError, StorageError

LOCK_FILE = "lock"

_ATTEMPTS = 100
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # nor wait for a pipe
_HOLDER_BYTES = 4096
_LOCKED_BYTE = 1 << 30  # Windows locks are mandatory: lock a byte that nobody reads


class DatasetLock:
    """The right to write into a dataset. Also a context manager.

    The lock is an flock(2) (Windows: a byte range lock) on ``.aiorecord/lock``, so a crashed holder leaves
    nothing to clean up. On filesystems without locks the file itself is the lock: it is taken over when the
    process it names is dead on this host.

    Args:
        root: the dataset's root folder.
    """

    def __init__(self, root: Path) -> None:
        self.path = root / STAGING_FOLDER / LOCK_FILE
        self._fd: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._fd is not None

    def acquire(self) -> None:
        """Take the lock without waiting. Creates the folder of the lock file, and the root if need be.

        Raises:
            DatasetLockedError: another process, or another lock object of this one, holds it.
            StateError: this object holds it already.
            StorageError: the disk refused.
        """
        if self._fd is not None:
            raise StateError(f"{self.path} is already locked by this object.")
        with storage.storage_errors(self.path, "lock"):
            if self.path.parent.is_symlink() or self.path.is_symlink():
                raise StorageError(f"{self.path} is behind a symbolic link, not written.", path=self.path)
            for _ in range(_ATTEMPTS):
                fd = self._try()
                if fd is not None:
                    self._fd = fd
                    return
        raise StorageError(f"Could not lock {self.path}: it keeps disappearing.", path=self.path)

    def release(self) -> None:
        """Give the lock back; removes the file, and the staging area when nothing is in it. Idempotent."""
        fd, self._fd = self._fd, None
        if fd is None:
            return
        with contextlib.suppress(OSError):  # not there, or not empty
            (self.path.parent / "episodes").rmdir()
        try:
            # Removed while it is still locked: whoever opened the old file sees that the name is gone.
            if sys.platform != "win32" and _is_named(fd, self.path):
                with contextlib.suppress(OSError):  # a disk that failed keeps the name, which holds nothing
                    self.path.unlink(missing_ok=True)
        finally:
            os.close(fd)
        if sys.platform == "win32":
            with contextlib.suppress(PermissionError):  # another process has it open, and will own it
                self.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty, or another writer's by now
            self.path.parent.rmdir()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _try(self) -> int | None:
        """One attempt: the locked descriptor, or None when the file was replaced meanwhile."""
        try:
            storage.make_folder(self.path.parent)
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o666)
        except (FileNotFoundError, FileExistsError):  # another holder removes the folder just now
            return None
        try:
            if not _lock(fd):
                raise self._locked()
            if not _is_named(fd, self.path):
                os.close(fd)
                return None
            _write_holder(fd)
        except OSError as error:
            os.close(fd)
            if error.errno in _NO_LOCKS and not isinstance(error, StorageError):
                return self._try_without_locks()
            raise
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _try_without_locks(self) -> int | None:
        # The file was created, empty, by the attempt to lock it; who puts a name in first has it.
        holder = _read_holder(self.path)
        if holder is not None and not _is_dead(holder):
            raise self._locked()
        own = storage.temporary_name(self.path)
        fd = os.open(own, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            _write_holder(fd)
            os.replace(own, self.path)
            now = _read_holder(self.path)
        except BaseException:
            os.close(fd)
            raise
        if now is None or now.get("pid") != os.getpid():
            os.close(fd)
            raise self._locked()
        return fd

    def _locked(self) -> DatasetLockedError:
        holder = _read_holder(self.path) or {}
        pid, host = holder.get("pid"), holder.get("host")
        who = f"process {pid} on {host}" if pid else "another process"
        return DatasetLockedError(
            f"{self.path.parent.parent} is being written by {who}. Wait for it, or stop it.",
            path=self.path,
            pid=pid if isinstance(pid, int) else None,
            host=host if isinstance(host, str) else None,
        )


def is_locked(root: Path) -> bool:
    """Whether a process holds the dataset's lock at this moment. Writes nothing.

    Where the system cannot tell without taking the lock for good, the file is asked, see `live_holder`.
    """
    path = root / STAGING_FOLDER / LOCK_FILE
    if sys.platform == "win32":
        return live_holder(root) is not None
    import fcntl

    try:
        fd = os.open(path, os.O_RDONLY | _NO_LINK)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return live_holder(root) is not None
    finally:
        os.close(fd)
    return False


def live_holder(root: Path) -> str | None:
    """Who records into a dataset, as "process N on HOST"; None when nobody does. Only reads.

    The file names its holder; a holder on this host that is known to be dead does not count.
    """
    holder = _read_holder(root / STAGING_FOLDER / LOCK_FILE)
    if holder is None or _is_dead(holder) or not isinstance(holder.get("pid"), int):
        return None
    return f"process {holder['pid']} on {holder.get('host')}"


def _lock(fd: int) -> bool:
    """Lock a descriptor; False when another one holds the lock."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EDEADLK):
                return False
            raise
        return True
    import fcntl

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_named(fd: int, path: Path) -> bool:
    """Whether `path` still is the file that `fd` has open."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _write_holder(fd: int) -> None:
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "started": time.time()}
    os.lseek(fd, 0, os.SEEK_SET)
    os.truncate(fd, 0)
    os.write(fd, json.dumps(holder).encode())
    os.fsync(fd)


def _read_holder(path: Path) -> dict[str, Any] | None:
    """What the lock file says, None when it is missing, empty or not readable."""
    try:
        if not path.is_file():
            return None  # a pipe would not answer
        with path.open("rb") as file:
            holder = json.loads(file.read(_HOLDER_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return holder if isinstance(holder, dict) else None


def _is_dead(holder: dict[str, Any]) -> bool:
    """Whether the named process is known not to run any more."""
    pid = holder.get("pid")
    if holder.get("host") != socket.gethostname() or not isinstance(pid, int) or pid < 1:
        return False
    if sys.platform == "win32":
        return False  # there, os.kill would end the process
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # the latter: no process can have that number
        return True
    except PermissionError:
        return False
    return False
