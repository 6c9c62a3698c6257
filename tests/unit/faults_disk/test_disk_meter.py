"""What is measured of a disk, and what is said about it."""

import os
import shutil
from pathlib import Path

import pytest
from small_disk import remount, small_disk

import aiorecord
from aiorecord.system import disk
from aiorecord.system.disk import DiskAlert, DiskMeter, DiskStatus, disk_refused

GB = 10**9


def test_how_long_it_will_last():
    status = DiskStatus(free=5 * GB, reserve=GB, owed=GB, bytes_per_s=1e6)
    assert status.usable == 3 * GB
    assert status.seconds_left == pytest.approx(3000)
    assert not status.is_low
    assert "room for 50 min" in status.describe()
    assert DiskStatus(free=5 * GB).seconds_left is None


@pytest.mark.parametrize(
    ("status", "low", "full"),
    [
        (DiskStatus(5 * GB, GB), False, False),
        (DiskStatus(2 * GB, GB, 0, 1e6), False, False),
        (DiskStatus(int(1.8 * GB), GB, 0, 1e6), True, False),
        (DiskStatus(GB + 2_000_000, GB, 0, 1e6), True, True),
        (DiskStatus(GB // 2, GB), True, True),
        (DiskStatus(GB // 2, 0), False, False),  # nobody asked
        (DiskStatus(1000, 0, 0, 1e6), True, False),
        (DiskStatus(0, 0, problem="It is read-only"), True, True),
    ],
)
def test_when_it_is_low_and_when_it_is_full(status, low, full):
    assert (status.is_low, status.is_full) == (low, full)
    assert status.describe()


def test_the_operator_is_told_once_for_each_step():
    alert = DiskAlert()
    minutes = [60, 20, 14, 13, 4, 3, 0.5, 0.4, 20, 14]
    said = [alert.look(DiskStatus(round(m * 60e6) + GB, GB, 0, 1e6)) for m in minutes]
    told = ["14 min", "4 min", "30 s", "20 min", "14 min"]
    assert [line.rsplit("room for ")[1] for line in said if line] == told
    assert [bool(line) for line in said] == [False, False, True, False, True, False, True, False, True, True]
    assert "DISK" in alert.look(DiskStatus(0, GB))


def test_what_an_episode_writes_is_measured(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(disk, "monotonic_s", lambda: now[0])
    folder = tmp_path / "episode"
    folder.mkdir()
    meter = DiskMeter(tmp_path / "not" / "there" / "yet", 0)
    assert meter.look(None, 0, 0).bytes_per_s is None
    assert meter.status.free == pytest.approx(shutil.disk_usage(tmp_path).free, abs=1 << 30)
    meter.look(folder, 0, 0)
    for second in range(3):
        (folder / f"part-{second}").write_bytes(os.urandom(2 << 20))
        now[0] += 1
        status = meter.look(folder, 1000.0, 7)
    assert status.bytes_per_s == pytest.approx((2 << 20) + 1000, rel=0.01)
    assert status.owed == 7
    shutil.rmtree(folder)
    now[0] += 1
    assert meter.look(folder, 1000.0, 0).bytes_per_s > 1e6, "a folder that vanishes is no negative rate"
    assert meter.look(None, 1000.0, 0).bytes_per_s > 1e6, "between episodes it stays"


def test_a_disk_that_does_not_answer_is_said_to(tmp_path, monkeypatch):
    def broken(path: Path) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(disk, "free_bytes", broken)
    status = DiskMeter(tmp_path, 0).look(None, 0, 0)
    assert status.is_full
    assert "Input/output error" in status.describe()


def test_a_read_only_disk_is_full_whatever_is_free(tmp_path):
    with small_disk(tmp_path, "ext4", 8) as disk:
        meter = DiskMeter(disk, 0)
        assert not meter.look(None, 0, 0).is_full
        remount(disk, "ro")
        assert meter.look(None, 0, 0).is_full
        assert "read-only" in meter.status.describe()
        remount(disk, "rw")
        assert not meter.look(None, 0, 0).is_full


def test_which_errors_are_the_disks():
    storage = aiorecord.StorageError("full")
    save = aiorecord.SaveError("no", episode_id="x")
    save.__cause__ = storage
    assert disk_refused(storage)
    assert disk_refused(save)
    assert not disk_refused(aiorecord.EncodeError("bad"))
    assert not disk_refused(None)
