"""The machine's own time, even in a program that replaces the functions of `time`.

Tests of applications freeze or move the time (`freezegun`, a patched `time.monotonic`). aiorecord needs real
time to judge whether an encoder, a driver or a disk makes progress, and how long a reader needs a file: a
moved clock would look like a stall. On Linux other calls of the same clocks are used, which such tools do not
replace; elsewhere, the functions as they were when this module was imported.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

# Partials: tools that replace the functions of `time` in all modules do not find them here.
if sys.platform == "linux":
    monotonic_ns: Callable[[], int] = partial(time.clock_gettime_ns, time.CLOCK_MONOTONIC)
    monotonic_s: Callable[[], float] = partial(time.clock_gettime, time.CLOCK_MONOTONIC)
    unix_ns: Callable[[], int] = partial(time.clock_gettime_ns, time.CLOCK_REALTIME)
else:
    monotonic_ns = partial(time.monotonic_ns)
    monotonic_s = partial(time.monotonic)
    unix_ns = partial(time.time_ns)
