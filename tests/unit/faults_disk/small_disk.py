"""Small real filesystems to fill, and a robot that records on them."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


def can_mount() -> bool:
    """Whether this process may mount filesystems."""
    return sys.platform == "linux" and os.geteuid() == 0 and shutil.which("mount") is not None


@contextlib.contextmanager
def small_disk(place: Path, kind: str, megabytes: int) -> Iterator[Path]:
    """A mounted ``tmpfs``, or ``ext4`` on a loop device, of some megabytes. Skips where it cannot be."""
    if not can_mount():
        pytest.skip("only root can mount a small filesystem")
    point = place / "disk"
    point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(point)]
    if kind == "ext4":
        image = place / "image"
        with image.open("wb") as file:
            file.truncate(megabytes << 20)
        if shutil.which("mkfs.ext4") is None:
            pytest.skip("there is no mkfs.ext4")
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
        command = ["mount", "-o", "loop", str(image), str(point)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"this system mounts no {kind}: {mounted.stderr.strip()}")
    try:
        yield point
    finally:
        subprocess.run(["umount", "-l", str(point)], check=True)


def remount(point: Path, mode: str) -> None:
    """Make it ``ro`` or ``rw``. Skips where that is not allowed."""
    done = subprocess.run(["mount", "-o", f"remount,{mode}", str(point)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this system does not remount: {done.stderr.strip()}")


def fill(point: Path, leave: int = 0) -> Path:
    """Take all space but some bytes; delete the file to give it back."""
    ballast = point / "ballast"
    size = shutil.disk_usage(point).free - leave
    with ballast.open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):  # the last blocks may be metadata's
            while size > 0:
                size -= file.write(bytes(min(size, 1 << 20)))
    return ballast


def break_ext4(point: Path) -> None:
    """Let the kernel find an error in it and make it read-only. Skips where the kernel cannot be told to."""
    with Path("/proc/mounts").open() as mounts:
        device = next(line.split()[0] for line in mounts if line.split()[1] == str(point))
    trigger = Path("/sys/fs/ext4") / Path(device).name / "trigger_fs_error"
    try:
        subprocess.run(["mount", "-o", "remount,errors=remount-ro", str(point)], check=True)
        trigger.write_text("1")
    except OSError as error:
        pytest.skip(f"this kernel does not break a filesystem on request: {error}")
