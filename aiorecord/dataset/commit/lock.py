"""Allows one writer per dataset, with a lock file that the operating system releases when its holder dies."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import socket
import sys
import threading
import time
import uuid
import weakref
from pathlib import Path
from typing import Any, Self

from ...errors import DatasetLockedError, StateError, StorageError
from ...staging.folder import STAGING_FOLDER
from ...system import storage
from .lock_holder import is_dead, read_holder, same_process, this_process, write_holder

LOCK_FILE = "lock"

_ATTEMPTS = 100
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # never block on a pipe
_CLAIM_SUFFIX = ".claim"
_CLAIMS = 20
_CLAIM_WAIT_S = 0.005
"""Processes that try at the same moment wait up to this long, and longer each time, before a new try."""
_LOCKED_BYTE = 1 << 30  # Windows locks are mandatory: lock a byte that is never read


class DatasetLock:
    """The right to write into a dataset. Also a context manager.

    The lock is an flock(2) (Windows: a byte range lock) on ``.aiorecord/lock``, so a crashed holder leaves
    nothing to clean up. A forked child does not inherit it.

    Where flock is refused, or does not exclude others, a lock is a claim: a separate file next to ``lock``
    that names its process. A process writes its claim first, then reads the others', and removes its own if
    another one may be alive. Of two at once, at least one sees the other, so they never both hold the lock.
    A claim of a process known to be dead is ignored; one whose process cannot be checked, such as on another
    host, counts. No clock is used.
    """

    def __init__(self, root: Path) -> None:
        self.path = root / STAGING_FOLDER / LOCK_FILE
        self._fd: int | None = None
        self._claim: Path | None = None
        _LOCKS.add(self)

    @property
    def is_locked(self) -> bool:
        """Whether this object holds the lock."""
        return self._fd is not None

    def acquire(self) -> None:
        """Take the lock without waiting. Creates the folder of the lock file, and the root if needed.

        Raises:
            DatasetLockedError: another process, or another lock object of this one, holds it.
            StateError: this object holds it already.
        """
        if self._fd is not None:
            raise StateError(f"{self.path} is already locked by this object.")
        with storage.storage_errors(self.path, "lock"):
            if self.path.parent.is_symlink() or self.path.is_symlink():
                raise StorageError(f"{self.path} is behind a symbolic link, not written.", path=self.path)
            for _ in range(_ATTEMPTS):
                try:
                    fd = self._try()
                except FileNotFoundError:  # another holder is removing the folder
                    continue
                if fd is not None:
                    self._fd = fd
                    return
        raise StorageError(f"Could not lock {self.path}: it keeps disappearing.", path=self.path)

    def release(self) -> None:
        """Release the lock; removes its file, and the staging area if it is empty. Idempotent."""
        fd, self._fd = self._fd, None
        if fd is None:
            return
        with contextlib.suppress(OSError):  # not there, or not empty
            (self.path.parent / "episodes").rmdir()
        claim, self._claim = self._claim, None
        try:
            # Removed while it is still locked: a process that opened the old file sees that the name is gone.
            if sys.platform != "win32" and _is_named(fd, self.path):
                with contextlib.suppress(OSError):  # after a disk failure the name stays, which locks nothing
                    self.path.unlink(missing_ok=True)
        finally:
            with contextlib.suppress(OSError):  # closed in any case; the error does not matter now
                _close(fd)
            if claim is not None:  # last: until now no other process could hold it
                with contextlib.suppress(OSError):
                    claim.unlink(missing_ok=True)
        if sys.platform == "win32":
            with contextlib.suppress(PermissionError):  # another process has it open, and will hold it
                self.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty, or another writer has it by now
            self.path.parent.rmdir()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def _try(self) -> int | None:
        """One attempt: the locked descriptor, or None when the file was replaced meanwhile."""
        try:
            storage.make_folder(self.path.parent)
            fd = _open(self.path, os.O_RDWR | os.O_CREAT | _NO_LINK)
        except (FileNotFoundError, FileExistsError):  # another holder is removing the folder
            return None
        try:
            locks = True
            try:
                if not _lock(fd):
                    raise self._locked()
            except OSError as error:
                if error.errno not in _NO_LOCKS or isinstance(error, StorageError):
                    raise
                locks = False
            if not _is_named(fd, self.path):
                _close(fd)
                return None
            if os.fstat(fd).st_nlink > 1:
                self._renew()  # its other names may be a backup, or an unrelated file
                _close(fd)
                return None
            if locks and _excludes(self.path):
                write_holder(fd, this_process())
                # A process on another host, to which these locks are not visible, may hold a claim.
                if living := _living_claims(self.path, own=None):
                    raise self._locked(living[0])
                return fd
        except BaseException:
            _close(fd)
            raise
        _close(fd)
        return self._try_without_locks()

    def _renew(self) -> None:
        """Replace the locked file, which is not written to, by a new, empty one."""
        own = storage.temporary_name(self.path)
        own.unlink(missing_ok=True)
        try:
            os.close(os.open(own, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666))
            os.replace(own, self.path)
        finally:
            own.unlink(missing_ok=True)

    def _try_without_locks(self) -> int | None:
        for attempt in range(_CLAIMS):
            claim, fd = self._write_claim()
            try:
                others = _living_claims(self.path, own=claim)
                if not others:
                    # Replaced, not written, so that no process reads half of it.
                    own = storage.temporary_name(claim)
                    own.unlink(missing_ok=True)  # never written through another name
                    own.write_bytes(json.dumps(this_process()).encode())
                    os.replace(own, self.path)
                    os.dup2(opened := _open(self.path, os.O_RDWR | _NO_LINK), fd, inheritable=False)
                    _close(opened)
                    self._claim = claim
                    return fd
            except BaseException:
                _close(fd)
                claim.unlink(missing_ok=True)
                raise
            _close(fd)
            claim.unlink(missing_ok=True)
            holder = read_holder(self.path)
            if attempt + 1 == _CLAIMS or any(not each or same_process(each, holder) for each in others):
                raise self._locked(others[0])  # not the claim of another process that is only trying
            time.sleep(random.uniform(0, _CLAIM_WAIT_S * (attempt + 1)))
        return None

    def _write_claim(self) -> tuple[Path, int]:
        """Write a claim: a separate file, which is complete from the moment it has its name."""
        claim = self.path.with_name(f"{LOCK_FILE}.{uuid.uuid4().hex}{_CLAIM_SUFFIX}")
        storage.make_folder(claim.parent)
        own = storage.temporary_name(claim)
        fd = _open(own, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            write_holder(fd, {**this_process(), "claim": claim.name})
            os.replace(own, claim)
            storage.fsync_folder(claim.parent)
        except BaseException:
            _close(fd)
            own.unlink(missing_ok=True)
            raise
        return claim, fd

    def _locked(self, holder: dict[str, Any] | None = None) -> DatasetLockedError:
        holder = holder or read_holder(self.path) or {}
        pid, host = holder.get("pid"), holder.get("host")
        root = self.path.parent.parent
        if pid == os.getpid() and host == socket.gethostname():
            message = (
                f"{root} is being written by another recorder of this process ({pid}). Close that one first."
            )
        elif pid and host != socket.gethostname():
            message = (
                f"{root} is being written by process {pid} on {host}, as far as can be determined from this "
                f"host. Wait for it, or stop it there; if it is not running any more, delete "
                f"{self.path.parent / (holder.get('claim') or LOCK_FILE)}."
            )
        else:
            who = f"process {pid} on {host}" if pid else "another process"
            message = f"{root} is being written by {who}. Wait for it, or stop it."
        return DatasetLockedError(
            message,
            path=self.path,
            pid=pid if isinstance(pid, int) else None,
            host=host if isinstance(host, str) else None,
        )

    def forget_in_child(self) -> None:
        """Forget the lock in a forked child: only its parent holds it."""
        self._fd, self._claim = None, None


def is_locked(root: Path) -> bool:
    """Whether a process holds the dataset's lock at this moment. Writes nothing.

    If the system cannot tell without taking the lock, the lock file is read, see `live_holder`.
    """
    path = root / STAGING_FOLDER / LOCK_FILE
    if sys.platform == "win32":
        return live_holder(root) is not None
    import fcntl

    try:
        fd = _open(path, os.O_RDONLY | _NO_LINK)
    except OSError:
        return bool(_living_claims(path, own=None))
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return live_holder(root) is not None
    finally:
        _close(fd)
    return bool(_living_claims(path, own=None))


def live_holder(root: Path) -> str | None:
    """The process that records into a dataset, as "process N on HOST"; None if there is none. Only reads.

    The lock file names its holder; a holder on this host that is known to be dead does not count.
    """
    holder = read_holder(root / STAGING_FOLDER / LOCK_FILE)
    if holder is None or is_dead(holder) or not isinstance(holder.get("pid"), int):
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


def _excludes(path: Path) -> bool:
    """Whether a lock that was just taken excludes a second descriptor: some filesystems grant every lock."""
    if sys.platform == "win32":
        return True
    fd = _open(path, os.O_RDWR | _NO_LINK)
    try:
        return not _lock(fd)
    finally:
        _close(fd)


def _living_claims(path: Path, *, own: Path | None) -> list[dict[str, Any]]:
    """Other processes that may hold or want the lock, by their claims; claims of dead ones are removed.

    Args:
        path: the lock file.
        own: the caller's claim; then the lock file is read too. None reads only the claims.
    """
    living: list[dict[str, Any]] = []
    try:
        names = os.listdir(path.parent)
    except FileNotFoundError:
        return []
    for name in sorted(names):
        claim = path.with_name(name)
        if not (name.startswith(f"{LOCK_FILE}.") and name.endswith(_CLAIM_SUFFIX)) or claim == own:
            continue
        holder = read_holder(claim)
        if holder is None:
            # It was just removed, since a claim gets its content before its name; or it cannot be read.
            if os.path.lexists(claim):
                living.append({})
            continue
        if not is_dead(holder):
            living.append(holder)
        elif own is not None:
            claim.unlink(missing_ok=True)
    if own is not None and not living:
        holder = read_holder(path)
        if holder is not None and not is_dead(holder) and not _is_given_up(holder, path):
            living.append(holder)
    return living


def _is_given_up(holder: dict[str, Any], path: Path) -> bool:
    """Whether the named process is this one, and none of its lock objects holds that lock."""
    mine = this_process()
    is_own = all(holder.get(name) == mine[name] for name in ("pid", "host", "boot", "start_ticks", "pid_ns"))
    return is_own and not any(lock.is_locked and lock.path == path for lock in list(_LOCKS))


_GUARD = threading.Lock()
"""Held while a descriptor is opened and recorded, and while this process forks."""

_TAKEN: set[int] = set()
"""Descriptors of lock files. A forked child closes them: it would keep the lock after its parent's death."""

_LOCKS: weakref.WeakSet[DatasetLock] = weakref.WeakSet()


def _open(path: Path, flags: int) -> int:
    with _GUARD:
        fd = os.open(path, flags, 0o666)
        _TAKEN.add(fd)
    return fd


def _close(fd: int) -> None:
    with _GUARD:
        _TAKEN.discard(fd)
        os.close(fd)


def _after_fork() -> None:
    for fd in _TAKEN:
        with contextlib.suppress(OSError):
            os.close(fd)
    _TAKEN.clear()
    for lock in list(_LOCKS):
        lock.forget_in_child()
    _GUARD.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_GUARD.acquire, after_in_parent=_GUARD.release, after_in_child=_after_fork)
