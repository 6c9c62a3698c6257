"""Jobs that go wrong, for a worker process."""

import os
import signal
import threading

import numpy as np


def crash(progress):
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(progress):
    progress.update(1)
    threading.Event().wait()


def eat(progress):
    return sum(block.size for block in [np.empty(1 << 30, np.uint8) for _ in range(64)])


def fail(progress):
    raise ValueError("these bytes make no sense")


def work(progress):
    return "done"


def stop(progress):
    progress.update(1)
    os.kill(os.getpid(), signal.SIGSTOP)


def busy(progress):
    while True:
        pass


def killed(progress):
    os.kill(os.getpid(), signal.SIGKILL)


def crash_once(flag, progress):
    if flag.exists():
        return "done"
    flag.touch()
    os.kill(os.getpid(), signal.SIGSEGV)


def crash_then_killed(flag, progress):
    first, _ = flag.exists(), flag.touch()
    os.kill(os.getpid(), signal.SIGKILL if first else signal.SIGSEGV)
