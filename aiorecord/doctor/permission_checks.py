"""Checks what this user may do: priorities, keys, open files, speech, a display."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from ..system.scheduling import realtime
from ..system.speech import speech_command
from .diagnosis import Finding, Level, judged

RTPRIO = (
    'Allow it: echo "$USER - rtprio 1" | sudo tee /etc/security/limits.d/90-rtprio.conf, then log in again. '
    "Without it ticks may be some milliseconds late on a busy machine."
)
FEW_FILES = 1024
"""Descriptors that a recording with many cameras and a long backlog may need."""


def permissions() -> Iterator[Finding]:
    """Whether the control loop gets its priority, the keys are read, and so on."""
    yield _priority()
    yield _keys()
    if sys.platform != "win32":
        yield _files()
    yield _display()
    yield _speech()


def _priority() -> Finding:
    if sys.platform != "linux":
        return Finding("priority", "real-time priority exists only on Linux", Level.NOTE)
    with realtime() as allowed:
        pass
    text = f"the control loop may {'' if allowed else 'not '}be real-time"
    return judged("priority", text, not allowed, RTPRIO)


def _keys() -> Finding:
    if sys.platform == "win32":
        return Finding(
            "keys",
            "not read on Windows",
            Level.NOTE,
            "Ctrl-C ends an episode and the recording; episodes end by --dataset.episode_time_s.",
        )
    if sys.stdin is not None and sys.stdin.isatty():
        return Finding("keys", "read from this terminal; no permission is needed, also over SSH")
    return Finding(
        "keys",
        "standard input is no terminal, so no keys are read here",
        Level.NOTE,
        "Start `aiorecord record` in a terminal to steer it with keys.",
    )


def _files() -> Finding:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = soft != resource.RLIM_INFINITY and soft < FEW_FILES
    limit = "no limit" if soft == resource.RLIM_INFINITY else f"{soft} at once"
    advice = f"Raise it before recording: ulimit -n {min(4096, hard) if hard > 0 else 4096}."
    return judged("open files", limit, few, advice)


def _display() -> Finding:
    if sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return Finding("display", "a viewer (--display_data) can open here")
    return Finding(
        "display",
        "none, so no viewer can open here",
        Level.NOTE,
        "Send views elsewhere: --display_data --display_ip=ADDRESS, or serve them: --display_mode=foxglove.",
    )


def _speech() -> Finding:
    command = speech_command("")
    if command is not None:
        return Finding("speech", f"phases are spoken by {command[0]}, unless --play_sounds=false")
    return Finding(
        "speech",
        "no speech program (spd-say), so phases are not spoken",
        Level.NOTE,
        "If you want them spoken: sudo apt install speech-dispatcher",
    )
