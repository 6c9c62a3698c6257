"""Sessions whose robot, cameras and teleoperator fail: no take is lost, and the operator stays in charge."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any

import numpy as np
import pytest
from guard_devices import FRONT, STATE, Device, broken, instead, without
from helpers import FEATURES, FPS, H264, episodes_of, leaked, picture, rows_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import aiorecord
from aiorecord import (
    Command,
    FakeClock,
    Phase,
    Recorder,
    Session,
    SessionEvents,
    SessionPlan,
    SourceError,
    SourceLostError,
    SourcePolicy,
)
from aiorecord.robots import ThreadedRobot
from aiorecord.robots.blocking import threaded
from aiorecord.robots.faults import CALL_KINDS, VALUE_KINDS, Fault, FaultyRobot, FaultyTeleoperator
from aiorecord.robots.guarding.sent_action import recording_sent_action
from aiorecord.staging.folder import EpisodeFolder, Staging

QUICK = SourcePolicy(retries=0, max_hold_s=0.2, call_timeout_s=0.02, reconnect_s=5)


def always(fault: Any, start: int, stop: int = 10**6) -> Any:
    """A fault in every call of a range."""

    class Calls(dict[int, Any]):
        def get(self, n: int, default: Any = None) -> Any:
            return fault if start <= n < stop else default

    return Calls()


class Run:
    """A session that was run to its end, and what was seen of it."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.said: list[str] = []
        self.session: Session
        self.error: Exception | None = None

    @property
    def frames(self) -> list[int]:
        return [record.frames for record in self.session.records]


async def run(
    root: Any,
    robot: Any,
    teleop: Any = None,
    *,
    plan: SessionPlan | None = None,
    policy: SourcePolicy = QUICK,
    features: Any = FEATURES,
    on_tick: Any = lambda session: None,
    on_source: Any = lambda session, line: None,
    clock: Any = None,
) -> Run:
    out = Run()

    async with Recorder(
        "t/s",
        root=root / "set",
        fps=FPS,
        features=features,
        rgb_encoder=H264,
        clock=clock or FakeClock(auto=True),
        encode_workers=1,
    ) as recorder:
        session = out.session = Session(
            recorder,
            robot,
            teleop or robot,
            plan or SessionPlan("T", 2, 1.0, 0.5),
            policy=policy,
        )
        session.events = SessionEvents(
            on_phase=lambda phase: out.seen.append(phase.value),
            on_tick=lambda ticker: on_tick(session),
            on_source=lambda line: (out.said.append(line), on_source(session, line)),
        )
        try:
            await session.run()
        except Exception as error:  # noqa: BLE001 - looked at by the test
            out.error = error
    if clock is not None:
        clock.close()
    assert leaked() == (set(), set())
    # Whatever happened: what ended is in the dataset, and nothing else is.
    assert [e["length"] for e in episodes_of(root / "set")] == out.frames
    return out


def quality_of(root: Any) -> list[dict[str, Any]]:
    lines = (root / "set/meta/aiorecord/episodes.jsonl").read_text().splitlines()
    return [json.loads(line)["facts"] for line in lines]


@pytest.mark.parametrize(
    "fault",
    [without(FRONT), instead(FRONT, None), instead(FRONT, picture(0)[:9]), instead(FRONT, picture(0) / 2)],
    ids=["missing", "None", "shape", "dtype"],
)
async def test_a_camera_that_fails_for_a_moment_costs_no_frame_and_is_marked(
    tmp_path: Any, fault: Any
) -> None:
    device = Device(get_observation=always(fault, 10, 15))
    done = await run(tmp_path, device)
    assert (done.error, done.frames) == (None, [30, 30])
    first, second = done.session.records
    assert first.sources == {
        FRONT: {
            "errors": 5,
            "retries": 0,
            "held": 5,
            "held_frames": [[10, 15]],
            "last_error": first.sources[FRONT]["last_error"],
        }
    }
    assert second.sources == {}
    quality = quality_of(tmp_path)
    assert quality[0]["sources"][FRONT]["held_frames"] == [[10, 15]]
    assert "sources" not in quality[1]
    # The other values of these frames are what they were.
    assert [row[STATE][0] for row in rows_of(tmp_path / "set")][:30] == list(range(30))
    assert [line.split(":")[0] for line in done.said] == ["front", "front is back after 0.2 s."]


async def test_a_camera_that_is_gone_ends_the_episode_keeps_it_and_is_connected_again(tmp_path: Any) -> None:
    device = Device(get_observation=always(without(FRONT), 10, 20))
    done = await run(tmp_path, device)
    # Six frames of 0.2 s are held, then the camera is lost; the plan's two episodes are both there.
    assert (done.error, done.frames) == (None, [16, 30])
    assert done.seen == ["connecting", "recording", "resetting", "recording", "saving"]
    first, second = done.session.records
    assert "front was lost" in first.end_reason
    assert first.sources[FRONT]["held_frames"] == [[10, 16]]
    assert second.end_reason is None
    assert quality_of(tmp_path)[0]["end_reason"] == first.end_reason
    assert device.connects == 1 + device.disconnects - 1 > 1
    status = {s.source: s for s in done.session.sources()}
    assert (status[FRONT].lost, status[FRONT].held_s) == (1, None)
    assert status[FRONT].reconnects == device.connects - 2 > 0  # it is robot and teleoperator
    assert any("Trying to bring it back" in line for line in done.said)
    assert any("front is back" in line for line in done.said)


@pytest.mark.parametrize(
    ("call", "source"),
    [("get_observation", "robot"), ("get_action", "teleop"), ("send_action", "robot.send_action")],
)
@pytest.mark.parametrize("reset_s", [0, 0.5])
async def test_a_call_that_raises_for_long_and_then_works_again(
    tmp_path: Any, call: str, source: str, reset_s: float
) -> None:
    device = Device(**{call: always(broken(call), 10, 22)})
    done = await run(tmp_path, device, plan=SessionPlan("T", 3, 1.0, reset_s))
    assert (done.error, done.frames) == (None, [16, 30, 30])
    assert done.session.records[0].sources[source]["held"] == 6
    assert done.seen.count("resetting") == (2 if reset_s else 1)  # one is needed to bring it back
    assert device.disconnects == device.connects
    assert not device.is_connected


async def test_no_old_action_reaches_the_robot(tmp_path: Any) -> None:
    device = Device(get_action=always(broken("get_action"), 10, 20))
    done = await run(tmp_path, device)
    assert done.error is None
    sent = [int(action["action"][0]) for action in device.sent]
    assert sent == sorted(set(sent))  # none twice
    assert not set(range(10, 20)) & set(sent)


@pytest.mark.parametrize(
    ("call", "source"),
    [("get_observation", "robot"), ("get_action", "teleop"), ("send_action", "robot.send_action")],
)
async def test_a_call_that_raises_for_ever_ends_the_session_in_order(
    tmp_path: Any, call: str, source: str
) -> None:
    device = Device(**{call: always(broken(call), 45 + 10)})
    done = await run(tmp_path, device, plan=SessionPlan("T", 5, 1.0, 0.5))
    assert isinstance(done.error, SourceLostError)
    assert "did not come back within 5 s" in str(done.error)
    assert done.frames == [30, 16]  # the one it ended is there like any other
    assert not device.is_connected
    assert not (tmp_path / "set/.aiorecord").exists()


async def test_a_device_that_does_not_connect_again(tmp_path: Any) -> None:
    device = Device(get_observation=always(broken(), 10), connect=always(broken("connect"), 2))
    done = await run(tmp_path, device)
    assert isinstance(done.error, SourceLostError)
    assert done.frames == [16]
    assert any("connecting again, attempt 2" in line for line in done.said)
    assert not device.is_connected


async def test_the_operator_can_stop_while_a_source_is_away(tmp_path: Any) -> None:
    device = Device(get_observation=always(broken(), 10))

    def stop(session: Session, line: str) -> None:
        if "attempt 1" in line or "bring it back" in line:
            session.command(Command.STOP)

    done = await run(tmp_path, device, on_source=stop)
    assert (done.error, done.frames) == (None, [16])
    assert done.seen == ["connecting", "recording", "resetting", "saving"]
    assert not device.is_connected


async def test_the_operator_can_take_the_cut_episode_back(tmp_path: Any) -> None:
    device = Device(get_observation=always(broken(), 10, 20))

    def again(session: Session, line: str) -> None:
        if "bring it back" in line:
            session.command(Command.RERECORD)

    done = await run(tmp_path, device, on_source=again)
    assert (done.error, done.frames) == (None, [30, 30])
    assert (done.session.dropped, done.session.records[0].repeats) == (1, 1)


async def test_a_source_lost_in_a_reset_is_brought_back_there(tmp_path: Any) -> None:
    device = Device(get_observation=always(broken(), 35, 44))
    done = await run(tmp_path, device)
    assert (done.error, done.frames) == (None, [30, 30])
    assert device.connects > 2


async def test_without_reconnecting_it_is_only_asked_again(tmp_path: Any) -> None:
    device = Device(get_observation=always(broken(), 10, 20))
    policy = SourcePolicy(retries=0, max_hold_s=0.2, reconnect=False)
    done = await run(tmp_path, device, policy=policy)
    assert (done.error, done.frames) == (None, [16, 30])
    assert (device.connects, device.disconnects) == (2, 2)  # as robot and as teleoperator


async def test_a_source_that_never_came_is_said_at_once(tmp_path: Any) -> None:
    device = Device(get_observation=always(instead(FRONT, picture(0)[:8]), 0))
    done = await run(tmp_path, device)
    assert isinstance(done.error, SourceLostError)
    assert "expected (48, 64, 3)" in str(done.error)
    assert not any("bring it back" in line for line in done.said)
    assert not device.is_connected


async def test_end_ends_the_episode_at_the_first_failure(tmp_path: Any) -> None:
    device = Device(get_observation={10: without(FRONT)})
    done = await run(tmp_path, device, policy=SourcePolicy(on_error="end"))
    assert (done.error, done.frames) == (None, [10, 30])
    assert all("held_frames" not in facts for facts in done.session.records[0].sources.values())


async def test_raise_keeps_the_partial_episode_in_staging(tmp_path: Any) -> None:
    error = broken()
    done = await run(
        tmp_path,
        Device(get_observation={40: error}),
        policy=SourcePolicy(on_error="raise", retries=0),
        plan=SessionPlan("T", 3, 1.0, 0),
    )
    assert done.error is error
    folder = EpisodeFolder.load(Staging(tmp_path / "set").episode_paths()[0])
    assert (folder.manifest.length, folder.manifest.interrupted) == (10, True)


async def test_a_robot_that_hangs_leaves_the_loop_alive(tmp_path: Any) -> None:
    device = Device(get_observation={10: "hang", 55: "hang deaf"})
    ticks = 0

    def release(session: Session) -> None:
        nonlocal ticks
        ticks += bool(
            device.inside and session.records
        )  # the second one swallows its cancellation until it is let go
        if ticks == 3:
            device.release.set()

    done = await run(tmp_path, device, on_tick=release)
    assert done.error is None
    assert len(done.frames) == 2
    assert [record.sources["robot"]["held"] for record in done.session.records] == [1, 3]
    assert not device.is_connected


class Driver:
    """A blocking robot that sticks in one call until it is let go."""

    name = "driver"

    def __init__(self, stick_at: int) -> None:
        self.stick_at = stick_at
        self.stuck, self.go_on = threading.Event(), threading.Event()
        self.step = self.inside = 0
        self.is_connected = False
        self.calls: list[str] = []
        self.observation_features = {STATE: FEATURES[STATE]}
        self.action_features = {"action": FEATURES["action"]}

    def connect(self) -> None:
        self.calls.append("connect")
        self.is_connected = True

    def disconnect(self) -> None:
        self.calls.append("disconnect")
        self.is_connected = False

    def get_observation(self) -> Any:
        assert self.inside == 0
        self.inside += 1
        try:
            if self.step == self.stick_at:
                self.stuck.set()
                assert self.go_on.wait(60)
            self.step += 1
            return {STATE: np.full(3, self.step, np.float32)}
        finally:
            self.inside -= 1

    def send_action(self, action: Any, /) -> Any:
        assert self.inside == 0
        return action


STATES = {key: FEATURES[key] for key in (STATE, "action")}


async def test_the_operator_is_in_charge_while_a_driver_is_stuck_in_its_thread(
    tmp_path: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(threaded, "STUCK_S", 0.05)
    driver = Driver(stick_at=10)
    ticks = 0

    def on_tick(session: Session) -> None:
        nonlocal ticks
        if driver.stuck.is_set():
            ticks += 1
            if ticks == 3:
                session.command(Command.STOP)

    policy = SourcePolicy(retries=0, max_hold_s=100, call_timeout_s=0.5)
    out = Run()

    async with Recorder("t/s", root=tmp_path / "set", fps=FPS, features=STATES) as recorder:
        session = out.session = Session(
            recorder, ThreadedRobot(driver), Device(), SessionPlan("T", 2, 100, 100), policy=policy
        )
        session.events = SessionEvents(on_tick=lambda ticker: on_tick(session))
        with pytest.raises(SourceError, match=r"does not return from get_observation"):
            await session.run()
        # The driver is let go at last: it disconnects by itself.
        driver.go_on.set()
        while driver.is_connected:
            await asyncio.sleep(0.001)
    assert ticks == 3
    assert out.frames == [13]
    assert [e["length"] for e in episodes_of(tmp_path / "set")] == [13]
    assert out.session.records[0].sources["robot"]["held_frames"] == [[10, 13]]
    assert driver.calls == ["connect", "disconnect"]


async def test_a_stuck_driver_that_returns_is_asked_again_and_not_connected_again(
    tmp_path: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(threaded, "STUCK_S", 0.05)
    driver = Driver(stick_at=10)
    policy = SourcePolicy(retries=0, max_hold_s=0.1, call_timeout_s=0.5, reconnect_s=100)

    def on_source(session: Session, line: str) -> None:
        if "attempt 1" in line:
            assert "does not return from get_observation" in line
            driver.go_on.set()

    done = await run(
        tmp_path,
        ThreadedRobot(driver),
        Device(),
        policy=policy,
        features=STATES,
        on_source=on_source,
        plan=SessionPlan("T", 2, 100, 0.1),
        clock=aiorecord.SystemClock(),
        on_tick=lambda session: session.command(Command.END_EARLY) if driver.step == 30 else None,
    )
    assert done.error is None
    assert len(done.frames) == 2
    assert "robot was lost" in done.session.records[0].end_reason
    assert driver.calls == ["connect", "disconnect"]


class SlowDriver(Driver):
    """Needs more than half a period for each observation, and at times blocks for longer than it is held."""

    def __init__(self, blocks: set[int]) -> None:
        super().__init__(stick_at=-1)
        self.blocks, self.asked = blocks, 0

    def get_observation(self) -> dict[str, Any]:
        self.asked += 1
        time.sleep(0.6 if self.asked in self.blocks else 0.022)
        return super().get_observation()


@pytest.mark.parametrize("blocks", [{8, 20}, {8, 9}], ids=["now and then", "in a burst"])
async def test_a_slow_driver_that_blocks_is_had_back_each_time_without_a_connection(
    tmp_path: Any, blocks: set[int]
) -> None:
    driver = SlowDriver(blocks)
    policy = SourcePolicy(retries=0, max_hold_s=0.1, call_timeout_s=0.2, reconnect_s=60)

    def on_tick(session: Session) -> None:
        if driver.asked >= 40:
            session.command(Command.STOP)

    done = await run(
        tmp_path,
        ThreadedRobot(driver),
        Device(),
        policy=policy,
        features=STATES,
        plan=SessionPlan("T", 50, 100, 0.1),
        clock=aiorecord.SystemClock(),
        on_tick=on_tick,
    )
    assert done.error is None
    # Those that were ended by the blocks are kept; a burst ends one.
    assert len(done.frames) >= (3 if 20 in blocks else 2)
    assert driver.calls == ["connect", "disconnect"]


class SlowToConnect(Device):
    """Fails until it is connected again, which takes far longer than a call may."""

    async def connect(self) -> None:
        if self.connects:
            loop = asyncio.get_running_loop()
            time = loop.time
            loop.time = lambda: time() + 5 * QUICK.call_timeout_s  # whoever waits that long has waited
            for _ in range(10):
                await asyncio.sleep(0)
            self.faults = {}
        await super().connect()


async def test_a_device_that_is_slow_to_connect_is_had_back(tmp_path: Any) -> None:
    device = SlowToConnect(get_observation=always(broken(), 10))
    done = await run(tmp_path, device, Device(), features=STATES)
    assert done.error is None
    assert done.frames == [16, 30]
    assert device.connects == 2


async def test_recording_the_sent_action_while_the_teleoperator_fails(tmp_path: Any) -> None:
    device, hand = Device(), Device(get_action=always(broken("get_action"), 10, 14))
    robot, teleop = recording_sent_action(device, hand)
    done = await run(tmp_path, robot, teleop)
    assert (done.error, done.frames) == (None, [30, 30])
    actions = [row["action"][0] for row in rows_of(tmp_path / "set")][:30]
    assert actions == [*range(10), 9, 9, 9, 9, *range(14, 30)]
    assert len(device.sent) == len({int(action["action"][0]) for action in device.sent})
    assert set(done.session.records[0].sources) == {"teleop", "action", "robot.send_action"}


async def test_recorder_record_with_and_without_guards(tmp_path: Any) -> None:
    async with Recorder(
        "t/s", root=tmp_path / "set", fps=FPS, features=FEATURES, rgb_encoder=H264,
        clock=FakeClock(auto=True), encode_workers=1,
    ) as recorder:  # fmt: skip
        device = Device(get_observation=always(broken(), 10, 12))
        await device.connect()
        guards = aiorecord.guarded(device, device, FEATURES, QUICK, fps=FPS, clock=recorder.clock)
        save = await recorder.record(guards.robot, guards.teleop, seconds=1)
        assert (await save).length == 30
        device.faults["get_observation"] = always(broken(), 40)
        save = await recorder.record(guards.robot, guards.teleop, seconds=1)
        assert (await save).length == 16
        with pytest.raises(SourceError) as caught:
            await recorder.record(device, device, seconds=1)
        assert not isinstance(caught.value, SourceLostError)
    first, second = quality_of(tmp_path)
    assert first["sources"]["robot"]["held_frames"] == [[10, 12]]
    assert "robot was lost" in second["end_reason"]


async def test_phases_are_reset_when_a_source_is_lost_with_no_reset_planned(tmp_path: Any) -> None:
    device = Device(get_observation=always(without(FRONT), 10, 20))
    done = await run(tmp_path, device, plan=SessionPlan("T", 2, 1.0, 0))
    assert done.seen == ["connecting", "recording", "resetting", "recording", "saving"]
    assert done.session.phase is Phase.DRAINING


SMALL = {
    STATE: FEATURES[STATE],
    FRONT: {"dtype": "image", "shape": (48, 64, 3), "names": ["height", "width", "channels"]},
    "action": FEATURES["action"],
}
AT = st.integers(0, 40)
CALLS = st.integers(1, 12)
FAULTS = st.one_of(
    st.builds(
        Fault,
        st.sampled_from(["robot", "robot.send_action", "teleop"]),
        st.sampled_from(CALL_KINDS),
        AT,
        CALLS,
    ),
    st.builds(Fault, st.sampled_from(["front", STATE, "action"]), st.sampled_from(VALUE_KINDS), AT, CALLS),
)
POLICIES = st.builds(
    SourcePolicy,
    on_error=st.sampled_from(["hold", "hold", "end", "raise"]),
    max_hold_s=st.sampled_from([0.0, 0.1, 1.0]),
    retries=st.integers(0, 2),
    call_timeout_s=st.just(0.01),
    resend=st.booleans(),
    reconnect=st.booleans(),
    reconnect_s=st.sampled_from([0.0, 1.0, 30.0]),
)


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    faults=st.lists(FAULTS, min_size=1, max_size=5),
    policy=POLICIES,
    reset_s=st.sampled_from([0, 0.2]),
    commands=st.dictionaries(st.integers(1, 60), st.sampled_from(list(Command)), max_size=3),
)
async def test_whatever_fails_every_episode_that_ended_is_saved(
    tmp_path_factory: Any,
    faults: list[Fault],
    policy: SourcePolicy,
    reset_s: float,
    commands: dict[int, Command],
) -> None:
    device, hand = Device(), Device()
    robot = FaultyRobot(device, [f for f in faults if f.source not in ("teleop", "action")])
    teleop = FaultyTeleoperator(hand, [f for f in faults if f.source in ("teleop", "action")])
    ticks = 0

    def on_tick(session: Session) -> None:
        nonlocal ticks
        ticks += 1
        if ticks in commands:
            session.command(commands[ticks])

    done = await run(  # checks that the dataset holds what was kept, and that no task or thread is left
        tmp_path_factory.mktemp("faults"),
        robot,
        teleop,
        plan=SessionPlan("T", 2, 0.8, reset_s),
        policy=policy,
        features=SMALL,
        on_tick=on_tick,
    )
    assert done.error is None or isinstance(done.error, SourceError), done.error
    assert not device.is_connected
    assert not hand.is_connected
    for record in done.session.records:
        assert record.save.result().success
        for facts in record.sources.values():
            assert facts["held"] == sum(stop - start for start, stop in facts.get("held_frames", []))
            assert all(0 <= start < stop <= record.frames for start, stop in facts.get("held_frames", []))
    assert len(device.sent) <= device.calls.get("send_action", 0)
