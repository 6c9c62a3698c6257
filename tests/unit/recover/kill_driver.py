"""Kills the real `aiorecord recover` at each step: ``python kill_driver.py ROOT FOLDER START EVERY``.

For n = START, START + EVERY, ... until it ends by itself: a copy of ROOT is recovered by a forked process
that kills itself with SIGKILL at the n-th rename, link, unlink, mkdir, rmdir or fsync, then by a second one
that is left alone. A line of JSON on each goes to standard output.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import aiorecord.cli.commands.recover  # noqa: F401 - before the fork
from aiorecord.cli import main
from aiorecord.dataset.exchange import swap_folders
from aiorecord.saving import saver

STEPS = ("replace", "rename", "link", "unlink", "rmdir", "mkdir", "fsync")
START, EVERY = int(sys.argv[3]), int(sys.argv[4])


def die_before(step: int) -> None:
    done = 0

    def wrap(function: Any) -> Any:
        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal done
            if done >= step:
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1
            return function(*args, **kwargs)

        return counted

    for name in STEPS:
        setattr(os, name, wrap(getattr(os, name)))
    swap_folders.swap = wrap(swap_folders.swap)


def run(root: Path, step: int | None) -> int:
    """Recover in a forked process; its exit code, negative if it was killed."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            saver.WorkerPool = ThreadPoolExecutor  # type: ignore[misc, assignment]
            if step is not None:
                die_before(step)
            with contextlib.redirect_stdout(io.StringIO()):
                code = main(["recover", str(root)])
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def digest(root: Path) -> dict[str, Any]:
    """What the dataset holds: looked at in a process of its own, since it starts threads."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            from helpers import episodes_of, rows_of

            from aiorecord.media.video_file import count_packets

            found = {
                "rows": hashlib.sha256(repr(rows_of(root)).encode()).hexdigest(),
                "lengths": [episode["length"] for episode in episodes_of(root)],
                "info": hashlib.sha256((root / "meta/info.json").read_bytes()).hexdigest(),
                "stats": hashlib.sha256((root / "meta/stats.json").read_bytes()).hexdigest(),
                "frames": sum(count_packets(path) for path in root.glob("videos/*/*/*.mp4")),
                "left": sorted(path.name for path in root.glob(".*")),
                "temporary": sorted(path.name for path in root.rglob("*aiorecord-tmp")),
            }
            os.write(writing, json.dumps(found).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        found = json.loads(file.read())
    os.waitpid(pid, 0)
    return found


def sweep(prepared: Path, folder: Path) -> None:
    step = START
    while True:
        root = folder / f"set-{step}"
        shutil.copytree(prepared, root)
        first = run(root, step)
        again = run(root, None)
        print(json.dumps({"step": step, "first": first, "again": again, **digest(root)}), flush=True)
        shutil.rmtree(root)
        if first >= 0:
            return
        step += EVERY


if __name__ == "__main__":
    sweep(Path(sys.argv[1]), Path(sys.argv[2]))
