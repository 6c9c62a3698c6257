"""What a test leaves behind in this process: threads, child processes, file descriptors, temporary folders.

`snapshot()` lists what there is, `left_since(before)` what has come since and stays. What is about to end
is waited for: a thread by joining it, a process by its descriptor.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import select
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiorecord.workers.pool import WorkerPool

ENDING_S = 10.0
"""How long what is about to end may take on a busy machine. A test that leaves nothing waits for nothing."""

HAS_PROC = sys.platform == "linux"

KNOWN_THREADS = {
    "pytest_timeout": "the timer of pytest-timeout, on systems without SIGALRM",
    "tqdm_monitor": "tqdm's, one for the process from its first progress bar on",
    "kept by the tests": "pools of a test module, which all its tests share; they grow with use",
}
"""Beginnings of the names of threads that outlive a test, with the reason."""

KNOWN_FOLDERS = {
    "pymp-": "multiprocessing's own, made once in a process and deleted at its end",
    "hypothesis": "Hypothesis's database",
}
"""Beginnings of the names of entries of the temporary folder that outlive a test, with the reason."""

KNOWN_DESCRIPTORS = {
    "/dev/urandom": "Python keeps it open where there is no getrandom()",
    "/mpl-data/fonts/": "matplotlib keeps the files of its fonts open",
}
"""Parts of what descriptors that outlive a test lead to, with the reason."""


KEPT_POOLS: list[WorkerPool] = []
"""Pools of worker processes that tests share; a worker that is replaced meanwhile is no leftover."""


@dataclass(frozen=True)
class Held:
    """What this process holds at a moment, each under what makes it unique, with what to call it."""

    threads: dict[int, threading.Thread]
    children: frozenset[int]
    descriptors: dict[int, str]
    folders: frozenset[str]


def snapshot() -> Held:
    """What this process holds now."""
    return Held(
        threads={id(thread): thread for thread in threading.enumerate()},
        children=_children(),
        descriptors=_descriptors(),
        folders=frozenset(os.listdir(tempfile.gettempdir())),
    )


def left_since(before: Held, meant: tuple[str, ...] = ()) -> list[str]:
    """A line for each thing that has come since `before` and does not end, and has no text of `meant`."""

    def new() -> list[str]:
        return [line for line in _new(before) if not any(text in line for text in meant)]

    if not new():
        return []
    gc.collect()  # what only a reference cycle holds is not held
    give_up = time.monotonic() + ENDING_S
    while lines := new():
        if time.monotonic() > give_up:
            return lines
        _wait_for_an_end(before)
    return []


async def tasks_left(before: set[asyncio.Task[object]]) -> list[str]:
    """A line for each task of the running loop that has come since `before` and does not end."""
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    if left:
        _, left = await asyncio.wait(left, timeout=ENDING_S)
    return [f"task {task.get_name()}: {task.get_coro()}" for task in left]


def _new(before: Held) -> list[str]:
    now = snapshot()
    came = {n: target for n, target in now.descriptors.items() if before.descriptors.get(n) != target}
    pipes = _pipes_of_workers() if came else set()
    return [
        *(
            f"thread {thread.name}"
            for key, thread in now.threads.items()
            if key not in before.threads and not thread.name.startswith(tuple(KNOWN_THREADS))
        ),
        *(f"process {pid}: {_command(pid)}" for pid in now.children - before.children - _known_children()),
        *(
            f"file descriptor {number}: {target}"
            for number, target in came.items()
            if number not in _known_descriptors()
            and target not in pipes
            and not any(known in target for known in KNOWN_DESCRIPTORS)
        ),
        *(
            f"temporary {name}"
            for name in now.folders - before.folders
            if not name.startswith(tuple(KNOWN_FOLDERS))
        ),
    ]


def _wait_for_an_end(before: Held) -> None:
    """Wait until a new thread or process ends, or a moment where neither is there to wait for."""
    now = snapshot()
    for key, thread in now.threads.items():
        if key not in before.threads and not thread.name.startswith(tuple(KNOWN_THREADS)):
            thread.join(0.1)
            return
    for pid in now.children - before.children - _known_children():
        with contextlib.suppress(OSError):
            ended = os.pidfd_open(pid)
            select.select([ended], [], [], 0.1)
            os.close(ended)
            break
    time.sleep(0.01)  # a grandchild's files, or a child that its owner has still to collect


def _children() -> frozenset[int]:
    if not HAS_PROC:
        return frozenset(child.pid for child in multiprocessing.active_children() if child.pid)
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # collects none: its owner does
    except ChildProcessError:
        return frozenset()  # the usual case, at the price of one call
    parent = str(os.getpid()).encode()
    found = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):  # one that has just ended
            if (
                name.isdigit()
                and Path(f"/proc/{name}/stat").read_bytes().rpartition(b")")[2].split()[1] == parent
            ):
                found.append(int(name))
    return frozenset(found)


def _known_children() -> set[int | None]:
    """Two helpers that multiprocessing starts once and keeps for the process, and the shared workers."""
    return {
        multiprocessing.resource_tracker._resource_tracker._pid,
        multiprocessing.forkserver._forkserver._forkserver_pid,
        *(pid for pool in KEPT_POOLS for pid in pool.pids()),
    }


def _pipes_of_workers() -> set[str]:
    """The pipes to the workers of `KEPT_POOLS`."""
    found = set()
    for pid in (pid for pool in KEPT_POOLS for pid in pool.pids()):
        with contextlib.suppress(OSError):  # it has ended
            found |= {os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir()}
    return {target for target in found if target.startswith("pipe:")}


def _known_descriptors() -> set[int | None]:
    """The pipes to these helpers."""
    return {
        multiprocessing.resource_tracker._resource_tracker._fd,
        multiprocessing.forkserver._forkserver._forkserver_alive_fd,
    }


def _descriptors() -> dict[int, str]:
    if not HAS_PROC:
        return {}
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of listing itself
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def _command(pid: int) -> str:
    if not HAS_PROC:
        return "?"
    with contextlib.suppress(OSError):
        said = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return said.strip() or "ended, and not waited for"
    return "gone"
