"""The operator's commands mean what lerobot's keys mean."""

import pytest

from aiorecord.errors import ConfigError
from aiorecord.session import Command, Phase, SessionMachine, SessionPlan


def machine(episodes=2, reset_s=3):
    m = SessionMachine(SessionPlan("task", episodes, 10, reset_s))
    m.connected()
    return m


def test_a_plain_session_alternates_and_skips_the_last_reset():
    m = machine()
    assert (m.phase, m.number) == (Phase.RECORDING, 1)
    assert m.recorded(300)
    assert (m.phase, m.number) == (Phase.RESETTING, 2)
    assert not m.reset()
    assert (m.phase, m.number) == (Phase.RECORDING, 2)
    assert m.recorded(300)
    assert m.phase is Phase.DRAINING
    assert m.kept == 2


def test_without_reset_time_the_next_episode_follows_at_once():
    m = machine(reset_s=0)
    m.recorded(300)
    assert m.phase is Phase.RECORDING


def test_ending_early_keeps_the_episode():
    m = machine()
    assert m.command(Command.END_EARLY)
    assert m.recorded(5)
    assert m.phase is Phase.RESETTING
    assert m.command(Command.END_EARLY)
    assert not m.reset()
    assert m.phase is Phase.RECORDING


def test_rerecord_while_recording_drops_it_and_resets_even_after_the_last():
    m = machine(episodes=1)
    assert m.command(Command.RERECORD)
    assert not m.recorded(300)
    assert (m.phase, m.kept, m.number) == (Phase.RESETTING, 0, 1)
    assert not m.reset()
    assert m.recorded(300)
    assert m.phase is Phase.DRAINING


def test_rerecord_while_resetting_takes_the_last_one_back():
    m = machine()
    m.recorded(300)
    assert m.command(Command.RERECORD)
    assert m.number == 1
    assert m.reset()
    assert (m.phase, m.kept, m.number) == (Phase.RECORDING, 0, 1)


def test_rerecord_twice_does_not_take_back_the_episode_before():
    m = machine(episodes=3)
    m.recorded(300)
    m.reset()
    m.command(Command.RERECORD)
    m.recorded(300)
    m.command(Command.RERECORD)
    assert not m.reset()
    assert m.kept == 1


def test_stop_while_recording_keeps_what_there_is():
    m = machine()
    assert m.command(Command.STOP)
    assert m.recorded(7)
    assert (m.phase, m.kept) == (Phase.DRAINING, 1)


def test_stop_before_the_first_frame_keeps_nothing():
    m = machine()
    m.command(Command.STOP)
    assert not m.recorded(0)
    assert (m.phase, m.kept) == (Phase.DRAINING, 0)


def test_stop_while_resetting_keeps_the_last_one():
    m = machine()
    m.recorded(300)
    m.command(Command.STOP)
    assert not m.reset()
    assert (m.phase, m.kept) == (Phase.DRAINING, 1)


def test_stop_while_connecting_records_nothing():
    m = SessionMachine(SessionPlan("task", 2, 10, 3))
    m.command(Command.STOP)
    m.connected()
    assert m.phase is Phase.DRAINING


def test_commands_mean_nothing_while_saving():
    m = machine(episodes=1)
    m.recorded(300)
    assert not m.command(Command.RERECORD)
    assert not m.command(Command.END_EARLY)
    assert m.kept == 1


@pytest.mark.parametrize(
    "plan",
    [
        {"num_episodes": 0},
        {"episode_time_s": 0},
        {"episode_time_s": float("nan")},
        {"reset_time_s": -1},
    ],
)
def test_impossible_plans_are_refused(plan):
    with pytest.raises(ConfigError):
        SessionPlan(**plan)
