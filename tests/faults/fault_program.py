"""The real program with a robot whose frames are known, telling another process what it was given.

``python fault_program.py record --robot.type=coded ...`` is ``python -m aiorecord record ...``: the command
runs as it is. It is only watched: a line goes to the file descriptor in ``FAULT_EVENTS`` for

    B                    the command begins
    C / D                the robot was connected / disconnected
    P <phase>            the session entered a phase
    F <id> <session> <step>   `add_frame` has returned; if picture or action are of other steps, those follow
    Y <id> <rows>        a flush has returned that holds this many rows and frames
    S <id> <stage>       a save reached a stage
    U <id> <frames>      an episode was cut to what the disk took
    L <open or done>     the recorder is open; the command returns

``python fault_program.py embed <settings>`` is a small application of its own; see fault_embed.py.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import fault_content as content
from fault_embed import embed
from fault_encode import Strike, StruckPool

from aiorecord.capture import journal as journal_module
from aiorecord.cli import main, record_config
from aiorecord.cli.commands import record
from aiorecord.recording import episode as episode_module
from aiorecord.recording import recorder as recorder_module
from aiorecord.recording.core import RecorderCore
from aiorecord.robots import ROBOTS, TELEOPERATORS
from aiorecord.robots.faults import Fault
from aiorecord.saving import job as job_module
from aiorecord.saving import saver as saver_module

CAMERA = "observation.images.front"
STATE = "observation.state"
DEPTH = "observation.images.depth"


def tell(line: str) -> None:
    """Tell the watching process, and the log of the disk if one is written."""
    mark = getattr(ctypes.CDLL(None), "fault_mark", None)
    if mark is not None:
        mark(line.encode())
    fd = os.environ.get("FAULT_EVENTS")
    if fd:
        os.write(int(fd), line.encode() + b"\n")


@record_config.RobotChoice.register_subclass("coded")
@dataclass
class CodedRobotChoice(record_config.RobotChoice):
    """The coded robot."""

    session: int = 0
    depth: bool = False
    # Seconds that connecting takes, a frame of which the loop is free.
    connect_s: float = 0
    faults: list[Fault] = field(default_factory=list)


@record_config.TeleopChoice.register_subclass("coded")
@dataclass
class CodedTeleopChoice(record_config.TeleopChoice):
    """Its teleoperator."""

    session: int = 0
    faults: list[Fault] = field(default_factory=list)


class CodedRobot:
    """Shows picture and state number 0, 1, 2, ..."""

    name = "coded"

    def __init__(self, config: CodedRobotChoice) -> None:
        self.config = config
        self.is_connected = False
        self.step = -1

    @property
    def observation_features(self) -> dict[str, Any]:
        features = content.features()
        del features["action"]
        if self.config.depth:
            features[DEPTH] = {
                "dtype": "video",
                "shape": (content.HEIGHT, content.WIDTH, 1),
                "names": ["height", "width", "channels"],
                "info": {"is_depth_map": True},
            }
        return features

    @property
    def action_features(self) -> dict[str, Any]:
        return {"action": content.features()["action"]}

    async def connect(self) -> None:
        tell("C")
        self.is_connected = True
        if self.config.connect_s:
            await asyncio.sleep(self.config.connect_s)

    async def disconnect(self) -> None:
        if self.is_connected:
            tell("D")
        self.is_connected = False

    async def get_observation(self) -> dict[str, Any]:
        self.step += 1
        session = self.config.session
        values = {STATE: content.state(session, self.step), CAMERA: content.picture(session, self.step)}
        if self.config.depth:
            values[DEPTH] = content.depth(session, self.step)
        return values

    async def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        return action


class CodedTeleoperator:
    """Asks for action number 0, 1, 2, ..."""

    name = "coded"

    def __init__(self, config: CodedTeleopChoice) -> None:
        self.config = config
        self.is_connected = False
        self.step = -1

    @property
    def action_features(self) -> dict[str, Any]:
        return {"action": content.features()["action"]}

    async def connect(self) -> None:
        self.is_connected = True

    async def disconnect(self) -> None:
        self.is_connected = False

    async def get_action(self) -> dict[str, Any]:
        self.step += 1
        return {"action": content.action(self.config.session, self.step)}


ROBOTS["coded"] = (CodedRobotChoice, CodedRobot)
TELEOPERATORS["coded"] = (CodedTeleopChoice, CodedTeleoperator)


def watch() -> None:
    """Tell what the program does, from outside it."""
    add_frame = episode_module.Episode.add_frame
    mark = job_module.SaveJob.mark
    cut_to = job_module.SaveJob.cut_to
    sync, sync_at_end = journal_module.EpisodeJournal._sync, journal_module.EpisodeJournal.sync
    events = record.RecordCommand._events
    opened = recorder_module.Recorder.open

    def watched_add_frame(self: Any, frame: Any, **more: Any) -> int:
        index = add_frame(self, frame, **more)
        tell(
            f"F {self.id} {' '.join(map(str, content.code_of(frame[STATE], frame[CAMERA], frame['action'])))}"
        )
        return index

    def watched_cut_to(self: Any, length: int, failure: BaseException | None) -> None:
        cut_to(self, length, failure)
        tell(f"U {self.episode_id} {length}")

    def watched_mark(self: Any, stage: Any) -> None:
        mark(self, stage)
        tell(f"S {self.episode_id} {stage}")

    def durable_frames(self: Any) -> int:
        # The muxer of a live capture writes a frame when the next one comes.
        frames = [camera.encoded + camera.spilled - 1 for camera in self._cameras.values()]
        return max(0, min([self._rows.rows - len(self._rows._pending), *frames]))

    def watched_sync(self: Any) -> bool:
        count = durable_frames(self)
        if is_done := sync(self):  # else the end of the episode came meanwhile
            tell(f"Y {self._folder.id} {count}")
        return is_done

    def watched_sync_at_end(self: Any) -> None:
        count = durable_frames(self)
        sync_at_end(self)
        tell(f"Y {self._folder.id} {count}")

    def watched_events(self: Any, *args: Any) -> Any:
        made = events(self, *args)
        on_phase = made.on_phase

        def told(phase: Any) -> None:
            tell(f"P {phase}")
            on_phase(phase)

        made.on_phase = told
        return made

    async def watched_open(self: Any) -> None:
        await opened(self)
        tell("L open")

    episode_module.Episode.add_frame = watched_add_frame  # type: ignore[method-assign]
    job_module.SaveJob.mark = watched_mark  # type: ignore[method-assign]
    job_module.SaveJob.cut_to = watched_cut_to  # type: ignore[method-assign]
    journal_module.EpisodeJournal._sync = watched_sync  # type: ignore[method-assign]
    journal_module.EpisodeJournal.sync = watched_sync_at_end  # type: ignore[method-assign]
    record.RecordCommand._events = watched_events  # type: ignore[method-assign]
    recorder_module.Recorder.open = watched_open  # type: ignore[method-assign]


def encode_here() -> None:
    """Encode in threads of this process, where starting a worker process is not the point."""
    RecorderCore.make_pool = staticmethod(ThreadPoolExecutor)  # type: ignore[assignment]
    saver_module.WorkerPool = ThreadPoolExecutor  # type: ignore[misc, assignment]


def let_encodes_fail(strikes: list[dict[str, Any]]) -> None:
    """Some encodes meet a fault in their worker process; see fault_encode.py."""

    def make(workers: int, **options: Any) -> StruckPool:
        return StruckPool(workers, [Strike(**strike) for strike in strikes], **options)

    RecorderCore.make_pool = staticmethod(make)  # type: ignore[assignment]


def clock_stepping_back() -> None:
    """The wall clock goes back by an hour with every look at it."""
    now = [time.time()]

    def backwards() -> float:
        now[0] -= 3600
        return now[0]

    time.time = backwards
    time.time_ns = lambda: int(backwards() * 1e9)
    for module in list(sys.modules.values()):
        if module.__name__.startswith("aiorecord") and hasattr(module, "unix_ns"):
            module.unix_ns = time.time_ns


def run(argv: list[str]) -> int:
    """Run a command as `python -m aiorecord` does."""
    if os.environ.get("FAULT_ENCODE_HERE"):
        encode_here()
    if os.environ.get("FAULT_CLOCK_BACK"):
        clock_stepping_back()
    if strikes := os.environ.get("FAULT_ENCODE"):
        let_encodes_fail(json.loads(strikes))
    if limit := os.environ.get("FAULT_FILE_SIZE"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    watch()
    tell("B")
    code = embed(argv[1]) if argv[0] == "embed" else main(argv)
    tell("L done")
    return code


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
