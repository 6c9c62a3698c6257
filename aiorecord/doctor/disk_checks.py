"""Checks the disk for datasets, temporary folders, and memory."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ..system.disk import filesystem
from .diagnosis import Finding, Level, judged

RESERVE_BYTES = 1e9
"""Space that a recording leaves free by default (`min_free_gb`): with less, none begins."""

LITTLE_BYTES = 10e9
SLOW_BYTES_PER_S = 30e6
"""Two cameras of 640x480 at 30 fps are captured at about that rate."""

SLOW_SYNC_S = 0.2
_BLOCK = 4 << 20
_WRITTEN = 16 * _BLOCK
_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "glusterfs"}


def disk(folder: Path, *, fast: bool) -> Iterator[Finding]:
    """The disk where datasets go, and the one for temporary files; how fast it writes unless `fast`."""
    yield _space(folder)
    yield _temporary()
    if not fast:
        yield from _speed(folder)


def _space(folder: Path) -> Finding:
    place = _existing(folder)
    free = shutil.disk_usage(place).free
    kind, _ = filesystem(place)
    text = f"{folder}: {free / 1e9:.1f} GB free{f' ({kind})' if kind else ''}"
    if not os.access(place, os.W_OK):
        advice = "Choose another folder: --dataset.root=..., or make it yours."
        return Finding("space", f"{folder} may not be written", Level.BLOCK, advice)
    if free < RESERVE_BYTES:
        advice = "Make room, choose another disk (--dataset.root), or lower --min_free_gb."
        return Finding("space", text, Level.BLOCK, advice)
    if free < LITTLE_BYTES:
        return Finding("space", text, Level.WARN, "Make room: two cameras take 1 to 2 GB a minute.")
    if kind in _REMOTE:
        advice = "Record to a disk of this machine and copy datasets afterwards: a network may stall."
        return Finding("space", text, Level.WARN, advice)
    return Finding("space", text)


def _temporary() -> Finding:
    try:
        with tempfile.TemporaryFile() as file:
            file.write(b"x")
            file.flush()
        free = shutil.disk_usage(tempfile.gettempdir()).free
    except OSError as error:
        advice = "Set TMPDIR to a folder that can be written."
        return Finding("temporary files", f"cannot be made: {error}", Level.BLOCK, advice)
    text = f"{tempfile.gettempdir()}: {free / 1e9:.1f} GB free"
    advice = "Checking and measuring need some 100 MB. Make room, or set TMPDIR."
    return judged("temporary files", text, free < 200e6, advice)


def memory() -> Iterator[Finding]:
    """Memory that is free, and shared memory."""
    if sys.platform != "linux":
        return
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    kib = {fields[0].rstrip(":"): int(fields[1]) for fields in lines if len(fields) > 1}
    total, available = kib.get("MemTotal", 0) << 10, kib.get("MemAvailable", 0) << 10
    text = f"{available / 1e9:.1f} GB available of {total / 1e9:.1f} GB"
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (given := limit.read_text().strip()).isdecimal():
        available = min(available, int(given))
        text += f", at most {int(given) / 1e9:.1f} GB for this container"
    advice = "Close other programs, or use --encode_workers=1 and --buffer_mb=64."
    yield judged("memory", text, available < 1e9, advice)
    shared = Path("/dev/shm")
    if shared.is_dir():
        free = shutil.disk_usage(shared).free
        text = f"{shared}: {free / 1e9:.2f} GB free"
        advice = "aiorecord needs none; lerobot's training does (docker run --shm-size=2g)."
        yield judged("shared memory", text, free < 64e6, advice, Level.NOTE)


def _speed(folder: Path) -> Iterator[Finding]:
    """How fast the disk writes, measured with a file that is deleted again."""
    place = _existing(folder)
    if not os.access(place, os.W_OK) or shutil.disk_usage(place).free < RESERVE_BYTES:
        return
    data = os.urandom(_BLOCK)
    with tempfile.TemporaryDirectory(prefix=".aiorecord-doctor-", dir=place) as name:
        path = Path(name, "speed")
        with path.open("wb", buffering=0) as file:
            started_s = time.perf_counter()
            for _ in range(_WRITTEN // _BLOCK):
                file.write(data)
            os.fsync(file.fileno())
            rate = _WRITTEN / (time.perf_counter() - started_s)
            syncs = []
            for _ in range(5):
                file.write(data[:4096])
                started_s = time.perf_counter()
                os.fsync(file.fileno())
                syncs.append(time.perf_counter() - started_s)
    sync_s = sorted(syncs)[len(syncs) // 2]
    text = f"{rate / 1e6:.0f} MB/s written and synced, {1e3 * sync_s:.1f} ms to sync a small write"
    advice = "It is slow for several cameras: record to another disk (--dataset.root), or use fewer pixels."
    yield judged("speed", text, rate < SLOW_BYTES_PER_S or sync_s > SLOW_SYNC_S, advice)


def _existing(folder: Path) -> Path:
    """The folder, or its nearest existing parent."""
    return next((path for path in (folder, *folder.parents) if path.is_dir()), Path("/"))
