"""Lists cameras and serial ports, and whether this user may open them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .diagnosis import Finding, Level, judged

_QUERYCAP = 0x80685600  # VIDIOC_QUERYCAP of linux/videodev2.h: struct v4l2_capability, 104 bytes
_CAPTURE = 0x00000001 | 0x00001000  # V4L2_CAP_VIDEO_CAPTURE, also multi-planar
_DEVICE_CAPS = 0x80000000
_LISTED = 16
REALSENSE = "pyrealsense2"
"""The library that finds RealSense cameras; lerobot's uses it too."""


def cameras() -> Iterator[Finding]:
    """Video devices: names, drivers, and whether they can be opened."""
    if sys.platform != "linux":
        yield Finding("cameras", "not looked for on this system", Level.NOTE)
        yield from realsense()
        return
    found = sorted(Path("/dev").glob("video*"), key=lambda path: (len(path.name), path.name))
    shown = [finding for path in found[: 4 * _LISTED] if (finding := _camera(path)) is not None]
    yield from shown[:_LISTED]
    if not shown:
        yield Finding(
            "cameras",
            "no video device",
            Level.NOTE,
            "Plug one in, or try --robot.type=sim. Network cameras and those with a driver of their own are "
            "not listed here.",
        )
    yield from realsense()


def realsense() -> Iterator[Finding]:
    """RealSense cameras, found by their own library; lerobot's type for them is ``intelrealsense``."""
    if find_spec(REALSENSE) is None:
        yield Finding(
            "RealSense",
            f"{REALSENSE} is not installed, so none can be found",
            Level.NOTE,
            "Only if you use one: uv pip install 'lerobot[intelrealsense]'",
        )
        return
    library: Any = import_module(REALSENSE)
    found = list(library.context().query_devices())
    if not found:
        yield Finding("RealSense", "none is plugged in")
    for device in found[:_LISTED]:
        facts = {
            name: device.get_info(info)
            for name in ("name", "serial_number", "usb_type_descriptor", "firmware_version")
            if device.supports(info := getattr(library.camera_info, name))
        }
        serial = facts.get("serial_number", "no serial number")
        usb, firmware = facts.get("usb_type_descriptor", "?"), facts.get("firmware_version", "?")
        text = f"{facts.get('name', 'camera')}, USB {usb}, firmware {firmware}"
        slow = usb.startswith(("1", "2"))
        advice = "Use a USB 3 port and cable: at USB 2 it has fewer sizes and rates."
        yield judged(f"RealSense {serial}", text, slow, advice)


def ports() -> Iterator[Finding]:
    """Serial ports, on which most arms hang."""
    if sys.platform != "linux":
        return
    found = [path for name in ("ttyACM*", "ttyUSB*") for path in sorted(Path("/dev").glob(name))]
    if not found:
        yield Finding("serial ports", "none (ttyACM, ttyUSB): no arm is plugged in", Level.NOTE)
    for path in found[:_LISTED]:
        opens = os.access(path, os.R_OK | os.W_OK)
        text = "can be opened" if opens else "may not be opened"
        yield judged(str(path), text, not opens, _join_group(path, "dialout"))


def _camera(path: Path) -> Finding | None:
    """The finding about a video device; None if it takes no pictures (metadata, an encoder)."""
    import fcntl

    known = Path("/sys/class/video4linux", path.name, "name")
    name = known.read_text(errors="replace").strip() if known.is_file() else "video device"
    try:
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except PermissionError:
        return Finding(str(path), f"{name}: may not be opened", Level.WARN, _join_group(path, "video"))
    except OSError as error:
        return Finding(
            str(path),
            f"{name}: {error.strerror}",
            Level.WARN,
            "Unplug it and plug it in again, and close other programs that use it.",
        )
    try:
        answer = bytearray(104)
        fcntl.ioctl(fd, _QUERYCAP, answer)
    except OSError:
        return None
    finally:
        os.close(fd)
    everything, own = (int.from_bytes(answer[at : at + 4], sys.byteorder) for at in (84, 88))
    if not (own if everything & _DEVICE_CAPS else everything) & _CAPTURE:
        return None
    driver = bytes(answer[:16]).split(b"\0")[0].decode(errors="replace")
    return Finding(str(path), f"{name} ({driver}), can be opened")


def _join_group(path: Path, usual: str) -> str:
    import grp

    try:
        group = grp.getgrgid(path.stat().st_gid).gr_name
    except (KeyError, OSError):
        group = usual
    if group == "root":  # no group has access: a udev rule must give it to one
        group = usual
    return f'Allow it: sudo usermod -aG {group} "$USER", then log in again.'
