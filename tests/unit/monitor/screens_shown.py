"""Snapshots of a session that the tests of the live view show."""

from aiorecord.capture.episode import CameraStatus
from aiorecord.errors import StorageError
from aiorecord.monitor.snapshot import SaveRow, Snapshot, Take
from aiorecord.robots.guarding.source_policy import SourceStatus
from aiorecord.saving.backlog import Backlog
from aiorecord.saving.handle import Stage
from aiorecord.session import Phase
from aiorecord.system.disk import DiskStatus

TERMINALS = [(120, 30), (80, 24), (60, 20), (40, 12)]


def camera(captured, queued=0, queued_bytes=0, spilled=0, error=None, **more):
    return CameraStatus(captured, queued, queued_bytes, spilled, 0, error, **more)


def snapshot(**changes):
    values = {
        "phase": Phase.RECORDING,
        "number": 2,
        "total": 5,
        "task": "Pick up the cube and put it into the bin on the left side",
        "seconds_left": 7.4,
        "fps": 30,
        "rate": 29.97,
        "late_ms": 14.8,
        "late_ticks": 3,
        "frames": 78,
        "episodes": 1,
        "cameras": {"front": camera(78, 1, 921600), "wrist": camera(78, spilled=12)},
        "saves": [SaveRow("episode 0", 300, Stage.ENCODING, 0.42, False, None)],
        "backlog": Backlog(348, 9.0, 0),
        "disk": DiskStatus(77_800_000_000, bytes_per_s=77_800_000_000 / (131 * 60)),
        "messages": ["the robot answered late"],
        "index": 1,
        "phase_s": 10.0,
    }
    return Snapshot(**(values | changes))


def take(**changes):
    values = {
        "name": "episode 0",
        "frames": 300,
        "duration_s": 10.0,
        "fps": 29.95,
        "worst_ms": 31.5,
        "late_ticks": 4,
        "missed": 0,
        "problems": ["front: 12 spilled"],
        "can_be_taken_back": True,
    }
    return Take(**(values | changes))


RESET = {"phase": Phase.RESETTING, "seconds_left": 2.0, "phase_s": 3.0, "cameras": {}, "messages": []}
SAVES = [
    SaveRow(f"episode {n}", 300, Stage.ENCODING if n < 2 else Stage.DURABLE, 0.42, False, None)
    for n in range(12)
]

STATES = {
    "recording": snapshot(),
    "recording, all goes wrong": snapshot(
        sources=[
            SourceStatus("observation.images.front", 7, 2, 5, 1, 3, 0.2, "is None [sic]"),
            SourceStatus("teleop", 4, 0, 4, 0, 0, None, "cable"),
        ],
        disk=DiskStatus(1_200_000_000, reserve=1_000_000_000, bytes_per_s=200_000_000 / (4 * 60)),
        running_flags=["it was recorded at 11.25 fps, less than 0.95 x 30 fps: 90 frames in 8.00 s"],
        cameras={
            "front": camera(70, 3, 2_921_600, 31, repeated=53, stale=64, lost=75),
            "wrist": camera(78, error=StorageError("No space left on device")),
        },
    ),
    "reset": snapshot(
        **RESET, last=take(), saves=[SaveRow("episode 0", 300, Stage.ENCODING, 0.42, True, None)]
    ),
    "reset, committed": snapshot(**RESET, last=take(can_be_taken_back=False, problems=[]), saves=[]),
    "reset, flagged last": snapshot(
        **RESET,
        last=take(name="episode 4"),
        saves=[SaveRow("episode 4", 300, Stage.RECORDING, 0.0, True, None)],
        over=True,
        flags=["a tick was 90.0 ms late, the limit is 50 ms"],
    ),
    "saving": snapshot(
        phase=Phase.DRAINING, seconds_left=None, phase_s=None, rate=None, saves=SAVES, messages=[], cameras={}
    ),
    "saving in the foreground": snapshot(
        **RESET, rate=None, last=take(can_be_taken_back=False), foreground=True
    ),
    "waiting": snapshot(
        phase=Phase.WAITING, seconds_left=None, phase_s=None, backlog=Backlog(348, 9.0, 4 * 10**9), wait_s=42
    ),
}
