"""A whole session on a fake clock: episodes, resets, re-recording, failures."""

import numpy as np
import pytest
from helpers import FPS, STATES, episodes_of, leaked, rows_of

from aiorecord import Command, FakeClock, Phase, Recorder, Session, SessionEvents, SessionPlan, SourceError
from aiorecord.robots.guarding.source_policy import SourcePolicy
from aiorecord.staging.folder import EpisodeFolder, Staging


class Robot:
    """Counts its steps; fails on request."""

    name = "counter"

    def __init__(self):
        self.connected = 0
        self.step = 0
        self.fail_at = None
        self.fail_to_connect = False

    async def connect(self):
        if self.fail_to_connect:
            raise SourceError("no power", source="robot", call="connect")
        self.connected += 1

    async def disconnect(self):
        self.connected = 0

    async def get_observation(self):
        self.step += 1
        if self.step == self.fail_at:
            raise SourceError("cable", source="robot", call="get_observation")
        return {"observation.state": np.full(3, self.step, np.float32)}

    async def get_action(self):
        return {"action": np.full(3, -self.step, np.float32)}

    async def send_action(self, action):
        return action


async def run(
    tmp_path, plan, script=None, robot=None, expect=None, on_phase=lambda session: None, **settings
):
    """Run a session and call `script(session, ticks)` after each tick; returns it and what was seen."""
    robot = robot or Robot()
    seen = []

    async def main():
        clock = FakeClock(auto=True)
        async with Recorder(
            "t/s", root=tmp_path / "set", fps=FPS, features=STATES, clock=clock, encode_workers=1
        ) as recorder:
            session = Session(recorder, robot, robot, plan, **settings)
            ticks = 0

            def on_tick(ticker):
                nonlocal ticks
                ticks += 1
                if script is not None:
                    script(session, ticks)

            session.events = SessionEvents(
                on_phase=lambda phase: (seen.append(phase.value), on_phase(session)),
                on_tick=on_tick,
                on_dropped=lambda number: seen.append(f"dropped {number}"),
                on_episode=lambda record: seen.append(f"kept {record.number}"),
            )
            if expect is None:
                await session.run()
            else:
                with pytest.raises(expect):
                    await session.run()
        assert robot.connected == 0
        assert leaked() == (set(), set())
        return session

    return await main(), seen


async def test_a_plain_session(tmp_path):
    session, seen = await run(tmp_path, SessionPlan("T", 2, 1.0, 0.5))
    assert seen == ["connecting", "recording", "kept 1", "resetting", "recording", "kept 2", "saving"]
    assert [record.frames for record in session.records] == [30, 30]
    assert [e["length"] for e in episodes_of(tmp_path / "set")] == [30, 30]
    # The robot is driven while resetting, but nothing is recorded: 15 steps lie between the episodes.
    steps = [row["observation.state"][0] for row in rows_of(tmp_path / "set")]
    assert steps == [*range(1, 31), *range(46, 76)]
    first, second = session.records
    assert first.dead_time_s is None
    assert 0 <= second.dead_time_s <= 1 / FPS
    assert second.save.result().episode_index == 1


async def test_ending_early_and_stopping(tmp_path):
    def script(session, ticks):
        if ticks == 10:
            session.command(Command.END_EARLY)
        if ticks == 10 + 15 + 5:
            session.command(Command.STOP)

    session, seen = await run(tmp_path, SessionPlan("T", 5, 1.0, 0.5), script)
    assert [record.frames for record in session.records] == [10, 5]
    assert seen[-1] == "saving"
    assert len(rows_of(tmp_path / "set")) == 15


async def test_rerecording_the_running_and_the_last_episode(tmp_path):
    def script(session, ticks):
        if ticks == 10:
            session.command(Command.RERECORD)  # drops the running one
        if session.phase is Phase.RESETTING and len(session.records) == 1 and session.dropped == 1:
            session.command(Command.RERECORD)  # takes the last one back

    session, seen = await run(tmp_path, SessionPlan("T", 1 + 1, 1.0, 0.5), script)
    assert seen == [
        *("connecting", "recording", "dropped 1", "resetting", "recording", "kept 1", "resetting"),
        *("dropped 1", "recording", "kept 1", "resetting", "recording", "kept 2", "saving"),
    ]
    assert [record.repeats for record in session.records] == [2, 0]
    assert [e["length"] for e in episodes_of(tmp_path / "set")] == [30, 30]
    assert not (tmp_path / "set" / ".aiorecord").exists()


async def test_a_command_between_the_change_of_phase_and_its_first_tick_counts(tmp_path):
    def on_phase(session):
        if session.phase is Phase.RESETTING:
            session.command(Command.END_EARLY if len(session.records) == 1 else Command.STOP)

    _, seen = await run(tmp_path, SessionPlan("T", 5, 0.5, 100), on_phase=on_phase)
    assert seen == [
        "connecting",
        "recording",
        "kept 1",
        "resetting",
        "recording",
        "kept 2",
        "resetting",
        "saving",
    ]
    steps = [row["observation.state"][0] for row in rows_of(tmp_path / "set")]
    assert steps == list(range(1, 31))  # not one step of resetting


async def test_a_robot_that_fails_ends_the_session_and_the_rest_is_kept(tmp_path):
    robot = Robot()
    robot.fail_at = 30 + 15 + 8
    policy = SourcePolicy(on_error="raise", retries=0)
    await run(tmp_path, SessionPlan("T", 3, 1.0, 0.5), robot=robot, expect=SourceError, policy=policy)
    assert [e["length"] for e in episodes_of(tmp_path / "set")] == [30]
    folder = EpisodeFolder.load(Staging(tmp_path / "set").episode_paths()[0])
    assert (folder.manifest.length, folder.manifest.interrupted) == (7, True)


async def test_a_robot_that_does_not_connect_is_let_go(tmp_path):
    robot = Robot()
    robot.fail_to_connect = True
    await run(tmp_path, SessionPlan("T", 1, 1.0, 0), robot=robot, expect=SourceError)
    assert not (tmp_path / "set").exists()


async def test_a_robot_in_lerobots_flat_style(tmp_path):
    class Flat(Robot):
        async def get_observation(self):
            return {name: float(self.step) for name in "abc"}

        async def get_action(self):
            return dict.fromkeys("abc", -1.0)

    await run(tmp_path, SessionPlan("T", 1, 0.2, 0), robot=Flat())
    row = rows_of(tmp_path / "set")[0]
    assert (row["observation.state"], row["action"]) == ([0, 0, 0], [-1, -1, -1])


async def test_the_rate_shown_is_that_of_the_loop_from_its_first_tick(tmp_path):
    from aiorecord.monitor.snapshot import Observer

    shown = []
    plan = SessionPlan("x", num_episodes=1, episode_time_s=1, reset_time_s=0)
    await run(tmp_path, plan, lambda session, ticks: shown.append(Observer(session).take().rate))
    assert shown == [pytest.approx(FPS)] * FPS
