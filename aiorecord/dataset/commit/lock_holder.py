"""Identifies the process that a lock file names, and tells it from a later process with the same number."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from ...system.machine_time import unix_ns

_HOLDER_BYTES = 4096


def same_process(one: dict[str, Any], other: dict[str, Any] | None) -> bool:
    return other is not None and all(one.get(name) == other.get(name) for name in ("pid", "host"))


def this_process() -> dict[str, Any]:
    """A description of this process that distinguishes it from another one with its number."""
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started": unix_ns() / 1e9,
        "boot": _boot_id(),
        "pid_ns": _pid_namespace(),
        "start_ticks": _start_ticks(os.getpid()),
    }


def _boot_id() -> str | None:
    """The boot id of the running kernel (random(4)); None if there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _pid_namespace() -> str | None:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def _start_ticks(pid: int) -> int | None:
    """When a process started, in ticks since the boot (proc(5)); None if unknown, 0 for a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def write_holder(fd: int, holder: dict[str, Any]) -> None:
    os.lseek(fd, 0, os.SEEK_SET)
    os.truncate(fd, 0)
    os.write(fd, json.dumps(holder).encode())
    os.fsync(fd)


def read_holder(path: Path) -> dict[str, Any] | None:
    """The content of the lock file, None if it is missing, empty or not readable."""
    try:
        if not path.is_file():
            return None  # opening a pipe would block
        with path.open("rb") as file:
            holder = json.loads(file.read(_HOLDER_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return holder if isinstance(holder, dict) else None


def is_dead(holder: dict[str, Any]) -> bool:
    """Whether the named process is known to have ended."""
    pid = holder.get("pid")
    if holder.get("host") != socket.gethostname() or not isinstance(pid, int) or pid < 1:
        return False
    if sys.platform == "win32":
        return False  # on Windows, os.kill would end the process
    boot, now = holder.get("boot"), _boot_id()
    if boot is not None and now is not None and boot != now:
        return True
    if holder.get("pid_ns") not in (None, _pid_namespace()):
        return False  # a process number in a container means nothing here
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # the latter: no process can have that number
        return True
    except PermissionError:
        pass
    ticks, known = _start_ticks(pid), holder.get("start_ticks")
    return ticks == 0 or (known is not None and ticks is not None and ticks != known)
