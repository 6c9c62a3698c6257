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
