"""The machine's own time, also in a program that replaces the functions of `time`.

Tests of applications freeze or move the time (`freezegun`, a patched `time.monotonic`). What aiorecord
judges by time is real: whether an encoder, a driver or a disk gets on, and how long a reader needs a
file. It would take a moved clock for a stall. On Linux these are other calls of the same clocks, which
nobody replaces; elsewhere they are the functions as they were when this module was imported.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

# Partials: who replaces functions by what they are finds none of `time` in this module.
if sys.platform == "linux":
    monotonic_ns: Callable[[], int] = partial(time.clock_gettime_ns, time.CLOCK_MONOTONIC)
    monotonic_s: Callable[[], float] = partial(time.clock_gettime, time.CLOCK_MONOTONIC)
    unix_ns: Callable[[], int] = partial(time.clock_gettime_ns, time.CLOCK_REALTIME)
else:
    monotonic_ns = partial(time.monotonic_ns)
    monotonic_s = partial(time.monotonic)
    unix_ns = partial(time.time_ns)
