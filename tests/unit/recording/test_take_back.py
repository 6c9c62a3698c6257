"""What the operator is offered in a reset can be done, and what cannot be done is not offered."""

import pytest
from helpers import FPS, episodes_of

from aiorecord import FakeClock, Recorder
from aiorecord.errors import ConfigError
from aiorecord.monitor.sinks.plain import describe
from aiorecord.monitor.snapshot import Observer
from aiorecord.robots import SimRobot, SimRobotConfig, SimTeleopConfig, SimTeleoperator, dataset_features
from aiorecord.session import Command, Phase, Session, SessionEvents, SessionMachine, SessionPlan


async def run_session(root, plan, act, *, late=(), **options):
    """Run a session; `act(session, said)` is called on each phase. Returns the session and what was said.

    The takes whose numbers are in `late` have a tick that comes late, and are flagged.
    """
    said = []

    async def main():
        clock = FakeClock(auto=True)
        robot, teleop = SimRobot(SimRobotConfig(cameras={})), SimTeleoperator(SimTeleopConfig())
        features = dataset_features(robot.observation_features, teleop.action_features)
        async with Recorder("t/b", root=root, fps=FPS, clock=clock, features=features, **options) as recorder:
            session = Session(recorder, robot, teleop, plan)

            def on_tick(ticker):
                running = session.phase is Phase.RECORDING and not session.dropped
                if running and session.machine.number in late and len(ticker.lateness) == 2:
                    clock.advance(0.3)

            session.events = SessionEvents(
                on_phase=lambda phase: act(session, said),
                on_tick=on_tick,
                on_dropped=lambda number: said.append(f"dropped {number}"),
                on_refused=said.append,
            )
            await session.run()
            act(session, said)
            await recorder.drain()
            return session

    return await main(), said


def noting(session, said):
    said.append(session.phase.value)


async def test_the_last_episode_is_not_held_and_not_offered(tmp_path):
    held = []

    def act(session, said):
        if session.records:
            save = session.records[-1].save
            shown = Observer(session).take()
            assert not any(row.held for row in shown.saves)
            assert not session.can_take_back(save)
            held.append((session.phase, save.held))

    await run_session(tmp_path / "set", SessionPlan("T", 2, 0.2, 0), act)
    assert held[-1] == (Phase.DRAINING, False)
    assert (Phase.RECORDING, False) in held  # without a reset nothing can be taken back either


async def test_in_a_reset_the_take_before_can_be_taken_back_and_is(tmp_path):
    names = []

    def act(session, said):
        noting(session, said)
        if session.phase is Phase.RESETTING and not session.dropped:
            shown = Observer(session).take()
            assert shown.last.can_be_taken_back
            assert [row.held for row in shown.saves] == [True]
            names.append((shown.last.name, shown.index, shown.number))
            session.command(Command.RERECORD)
            again = Observer(session).take()
            names.append((again.last.name, again.index, again.number))

    session, said = await run_session(tmp_path / "set", SessionPlan("T", 2, 0.2, 0.1), act)
    assert names == [("episode 0", 1, 2), ("episode 0", 0, 1)]
    assert "dropped 1" in said
    assert [record.save.result().episode_index for record in session.records] == [0, 1]


async def test_what_is_saved_in_the_foreground_cannot_be_taken_back(tmp_path):
    def act(session, said):
        if session.phase is Phase.RESETTING:
            assert not Observer(session).take().last.can_be_taken_back
            session.command(Command.RERECORD)

    session, said = await run_session(
        tmp_path / "set", SessionPlan("T", 2, 0.2, 0.1), act, async_saving=False
    )
    assert said == ["episode 0 cannot be taken back any more."]
    assert (len(session.records), session.dropped) == (2, 0)
    assert len(episodes_of(tmp_path / "set")) == 2


async def test_a_save_in_the_foreground_is_shown_as_one(tmp_path):
    shown = []

    def act(session, said):
        saver = session.recorder.saver
        save_now = saver.save_now

        async def saving(save):
            shown.append(Observer(session).take())
            return await save_now(save)

        saver.save_now = saving

    await run_session(tmp_path / "set", SessionPlan("T", 2, 0.2, 0.1), act, async_saving=False)
    first = shown[0]
    assert first.foreground
    assert describe(first).startswith("[saving]  in the foreground")


async def test_a_flagged_last_episode_gets_a_reset_also_without_reset_time(tmp_path):
    def act(session, said):
        noting(session, said)
        if session.phase is Phase.RESETTING:
            assert session.phase_s == 5
            assert Observer(session).take().over
            session.command(Command.RERECORD)
            assert not Observer(session).take().over

    plan = SessionPlan("T", 1, 0.3, 0, max_late_ms=50)
    session, said = await run_session(tmp_path / "set", plan, act, late=(1,))
    assert said[1:] == ["recording", "resetting", "dropped 1", "recording", "saving", "saving"]
    assert [record.flags for record in session.records] == [[]]
    assert len(episodes_of(tmp_path / "set")) == 1


@pytest.mark.parametrize(("late", "flagged_reset_s"), [((1,), 5), ((1, 2), 0), ((), 5)])
async def test_no_other_reset_without_reset_time(tmp_path, late, flagged_reset_s):
    plan = SessionPlan("T", 2, 0.3, 0, max_late_ms=50, flagged_reset_s=flagged_reset_s)
    _, said = await run_session(tmp_path / "set", plan, noting, late=late)
    assert "resetting" not in said


async def test_episodes_are_called_by_their_number_in_the_dataset(tmp_path):
    root, names = tmp_path / "set", []
    await run_session(root, SessionPlan("T", 2, 0.2, 0), noting)

    def act(session, said):
        if session.phase is Phase.RESETTING:
            names.append((session.next_index, *(session.name_of(r.save) for r in session.records)))

    session, _ = await run_session(root, SessionPlan("T", 3, 0.2, 0.1), act, resume=True)
    assert names == [(3, "episode 2"), (4, "episode 2", "episode 3")]
    assert [session.name_of(record.save) for record in session.records] == [f"episode {n}" for n in (2, 3, 4)]
    assert [record.save.result().episode_index for record in session.records] == [2, 3, 4]


def test_the_machine_takes_a_flagged_last_one_back():
    machine = SessionMachine(SessionPlan("T", 1, 10, 0))
    machine.connected()
    assert machine.recorded(5, flagged=True)
    assert (machine.phase, machine.finished) == (Phase.RESETTING, True)
    machine.command(Command.RERECORD)
    assert not machine.finished
    assert machine.reset()
    assert machine.phase is Phase.RECORDING


def test_an_impossible_time_for_it_is_refused():
    with pytest.raises(ConfigError, match="flagged_reset_s"):
        SessionPlan("T", 1, 10, 0, flagged_reset_s=-1)
