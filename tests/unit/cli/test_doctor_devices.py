"""`aiorecord doctor` lists RealSense cameras and says what speaks."""

import sys

import pytest

from aiorecord.doctor import Level, device_checks, permission_checks

LIBRARY = """
class camera_info:
    name, serial_number, usb_type_descriptor, firmware_version = range(4)

class Device:
    def __init__(self, *facts):
        self._facts = dict(enumerate(facts))
    def supports(self, info):
        return self._facts.get(info) is not None
    def get_info(self, info):
        return self._facts[info]

class context:
    def query_devices(self):
        return DEVICES
"""
"""What `pyrealsense2` looks like from here: cameras cannot be plugged into a test."""


@pytest.fixture
def library(tmp_path, monkeypatch):
    def install(devices_text):
        (tmp_path / "fake_realsense.py").write_text(f"{LIBRARY}\nDEVICES = {devices_text}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setattr(device_checks, "REALSENSE", "fake_realsense")
        monkeypatch.delitem(sys.modules, "fake_realsense", raising=False)

    return install


def test_realsense_cameras_are_listed(library):
    library("[Device('D435', '0123', '3.2', '5.16'), Device('D405', None, '2.1', None)]")
    good, slow = device_checks.realsense()
    assert (good.name, good.text, good.level) == (
        "RealSense 0123",
        "D435, USB 3.2, firmware 5.16",
        Level.OK,
    )
    assert (slow.name, slow.level) == ("RealSense no serial number", Level.WARN)
    assert "USB 3 port" in slow.advice


def test_without_one_and_without_the_library_it_says_so(library, monkeypatch):
    library("[]")
    (none,) = device_checks.realsense()
    assert (none.text, none.level) == ("none is plugged in", Level.OK)
    monkeypatch.setattr(device_checks, "REALSENSE", "no_such_library")
    (missing,) = device_checks.realsense()
    assert "not installed" in missing.text
    assert "lerobot[intelrealsense]" in missing.advice
    assert any(found.name == "RealSense" for found in device_checks.cameras())


@pytest.mark.skipif(sys.platform != "linux", reason="other systems bring a program that speaks")
def test_what_speaks(tmp_path, monkeypatch):
    def speech():
        (found,) = [each for each in permission_checks.permissions() if each.name == "speech"]
        return found

    monkeypatch.setenv("PATH", str(tmp_path))
    silent = speech()
    assert silent.level is Level.NOTE
    assert "install speech-dispatcher" in silent.advice
    program = tmp_path / "spd-say"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert "spd-say" in speech().text
    assert not speech().advice
