"""Reports versions, installed extras and the processor."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..system.installation import install_hint, installation
from ..system.processor import processor_name, usable_processors
from .diagnosis import Finding, Level, judged

NEEDED = ("av", "numpy", "pyarrow", "draccus", "rich", "anyio", "aiofiles", "pyyaml")
EXTRAS = {
    "lerobot": ("lerobot", "real robots, and lerobot's own scripts"),
    "viz": ("rerun-sdk", "--display_data"),
    "hub": ("huggingface-hub", "uploading"),
    "bench": ("matplotlib", "bench --plot"),
}
"""For each extra, the package that identifies it, and what it is for."""


def packages() -> Iterator[Finding]:
    """aiorecord, Python, and the packages that matter."""
    here = installation()
    commit = "" if here.checkout is None else _commit(here.checkout)
    yield Finding("aiorecord", f"{_version('aiorecord')}{commit}, {here.described()}")
    yield Finding("Python", f"{platform.python_version()} ({platform.python_implementation()})")
    found = {name: _version(name) for name in NEEDED}
    yield Finding("packages", ", ".join(f"{name} {text}" for name, text in found.items()))
    yield Finding("FFmpeg", _libraries())
    for extra, (package, use) in EXTRAS.items():
        text = _version(package)
        missing = text == "-"
        text = f"not installed; for {use}" if missing else f"{package} {text}"
        yield judged(f"extra {extra}", text, missing, install_hint(extra), Level.NOTE)


def machine() -> Iterator[Finding]:
    """The system and its processors."""
    yield Finding("system", f"{platform.system()} {platform.release()}, {platform.machine()}")
    usable = usable_processors()
    text = f"{os.cpu_count()} of {processor_name()}"
    if usable != os.cpu_count():
        text += f", {usable} of them for this process"
    advice = "One processor for the loop and the encoders: use few cameras, and --encode=deferred."
    yield judged("processors", text, usable < 2, advice)
    if hasattr(os, "getloadavg"):
        load = os.getloadavg()[0]
        advice = "Other programs take the processors. Close them before you record or measure."
        yield judged("load", f"{load:.1f} over the last minute", load > usable, advice)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "-"


def _commit(checkout: Path) -> str:
    """The commit of a checkout, and whether it was changed; empty if git cannot tell."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(  # git's error messages are of no use here
            command, capture_output=True, text=True, timeout=5, stdin=subprocess.DEVNULL, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return f" ({done.stdout.strip()})" if done.returncode == 0 and done.stdout.strip() else ""


def _libraries() -> str:
    import av

    names = ("libavcodec", "libavformat", "libswscale")
    return ", ".join(
        f"{name} {'.'.join(map(str, av.library_versions[name]))}"
        for name in names
        if name in av.library_versions
    )
