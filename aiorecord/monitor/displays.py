"""Checks whether a window can be opened here, before a viewer is started that would fail."""

from __future__ import annotations

import os
import re
import socket
import sys
from pathlib import Path

ANSWER_S = 2.0
"""Seconds after which a display, or a viewer on another machine, counts as missing if it does not connect."""


def display_problem() -> str | None:
    """Why no window can be opened; None if one can, or if that is unknown. May block for some seconds."""
    if not sys.platform.startswith("linux") or os.environ.get("WAYLAND_SOCKET"):
        return None
    wayland, x11 = os.environ.get("WAYLAND_DISPLAY"), os.environ.get("DISPLAY")
    if not wayland and not x11:
        return "There is no display here"
    if wayland and _answers([str(Path(os.environ.get("XDG_RUNTIME_DIR", ""), wayland))]):
        return None
    if x11:
        addresses = x11_addresses(x11)
        if addresses is None or _answers(addresses):
            return None
    return f"The display {x11 or wayland} does not answer"


def x11_addresses(display: str) -> list[str | tuple[str, int]] | None:
    """The addresses of the X server that ``$DISPLAY`` names (X(7)): paths of sockets, or host and port.

    Returns:
        The addresses to try; None if the name has another form.
    """
    match = re.fullmatch(r"(?:unix|([\w.-]*)):([0-9]{1,5})(?:\.[0-9]+)?", display)
    if match is None:
        return None
    host, number = match[1], int(match[2])
    if host:
        return [(host, 6000 + number)]
    path = f"/tmp/.X11-unix/X{number}"
    return [path, f"\0{path}"]


def is_listening(host: str, port: int) -> bool:
    """Whether a server accepts connections there. May block for some seconds."""
    return _answers([(host, port)])


def _answers(addresses: list[str | tuple[str, int]]) -> bool:
    for address in addresses:
        try:
            if isinstance(address, tuple):
                socket.create_connection(address, ANSWER_S).close()
            else:
                with socket.socket(socket.AF_UNIX) as unix:
                    unix.settimeout(ANSWER_S)
                    unix.connect(address)
        except (OSError, ValueError, OverflowError):
            continue
        return True
    return False
