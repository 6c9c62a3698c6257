"""What a recorder and a session tell: every stage and every phase, in order, to any number of readers."""

import asyncio
import json

import pytest
from helpers import FPS, H264, STATES, make_frame, record_episode

import aiorecord
from aiorecord import EpisodeBegan, EpisodeEnded, Phase, PhaseChanged, SaveChanged, Stage


class Device:
    name, is_connected = "device", True

    def __init__(self):
        self.observation_features = {"observation.state": STATES["observation.state"]}
        self.action_features = {"action": STATES["action"]}

    async def connect(self): ...

    async def disconnect(self): ...

    async def get_observation(self):
        return {"observation.state": [1.0, 2.0, 3.0]}

    async def get_action(self):
        return {"action": [1.0, 2.0, 3.0]}

    async def send_action(self, action):
        return action


def recorder_for(root):
    clock = aiorecord.FakeClock(auto=True)
    options = {"rgb_encoder": H264, "encode_workers": 1, "encode": "deferred", "clock": clock}
    return aiorecord.Recorder("me/x", root=root / "set", fps=FPS, features=STATES, **options)


async def all_of(stream):
    return [event async for event in stream]


async def test_every_stage_of_every_episode(tmp_path):
    recorder = recorder_for(tmp_path)
    reading = [asyncio.create_task(all_of(recorder.events())) for _ in range(2)]
    await asyncio.sleep(0)
    async with recorder:
        saved = await record_episode(recorder, 3, task="one")
        await saved.save
        held = (await record_episode(recorder, 2, hold=True, task="two")).save
        await recorder.take_back(held)
        async with recorder.episode("three") as episode:
            episode.add_frame(make_frame(0, features=STATES))
            episode.discard()
        with pytest.raises(ZeroDivisionError):
            async with recorder.episode("four") as episode:
                episode.add_frame(make_frame(0, features=STATES))
                raise ZeroDivisionError
    first, second = await asyncio.gather(*reading)
    assert first == second
    assert await all_of(recorder.events()) == [], "it is closed"
    events, save = first, saved.save
    stages = [e.stage for e in events if isinstance(e, SaveChanged) and e.save is save]
    assert stages == [Stage.DURABLE, Stage.ENCODING, Stage.ENCODED, Stage.COMMITTED]
    assert [e.task for e in events if isinstance(e, EpisodeBegan)] == ["one", "two", "three", "four"]
    ended = [e for e in events if isinstance(e, EpisodeEnded)]
    assert [e.outcome for e in ended] == ["saved", "saved", "discarded", "interrupted"]
    assert [e.frames for e in ended] == [3, 2, 1, 1]
    assert [e.stage for e in events if isinstance(e, SaveChanged) and e.save.task == "two"][-1:] == [
        Stage.DISCARDED
    ]
    dicts = json.loads(json.dumps([event.as_dict() for event in events]))
    assert {
        "event": "SaveChanged",
        "episode_id": save.episode_id,
        "task": "one",
        "stage": "committed",
        "episode_index": 0,
        "error": None,
        "frames": 3,
    } in dicts


async def test_a_session_publishes_its_phases(tmp_path):
    async def main():
        async with recorder_for(tmp_path) as recorder:
            reading = asyncio.create_task(all_of(recorder.events()))
            await asyncio.sleep(0)
            plan = aiorecord.SessionPlan("x", num_episodes=2, episode_time_s=0.1, reset_time_s=0.1)
            await aiorecord.Session(recorder, Device(), Device(), plan).run()
        return [(e.phase, e.number) for e in await reading if isinstance(e, PhaseChanged)]

    assert await main() == [
        (Phase.CONNECTING, 1),
        (Phase.RECORDING, 1),
        (Phase.RESETTING, 2),
        (Phase.RECORDING, 2),
        (Phase.DRAINING, 2),
    ]


async def test_a_reader_that_does_not_read_loses_the_oldest_and_is_told_how_many(tmp_path):
    async def main():
        async with recorder_for(tmp_path) as recorder:
            with pytest.raises(aiorecord.ConfigError, match="1 or more"):
                recorder.events(limit=0)
            stream = recorder.events(limit=2)
            for number in range(5):
                recorder.publish(aiorecord.SourceReported(str(number)))
            stream.close()
            return [event.message for event in await all_of(stream)], stream.missed

    assert await main() == (["3", "4"], 3)


async def test_showing_a_failed_save_does_not_count_as_having_seen_it(tmp_path):
    recorder = recorder_for(tmp_path)
    await recorder.open()
    save = (await record_episode(recorder, 2)).save
    recorder.saver.abandon()
    told = SaveChanged(save, save.stage).as_dict()
    assert told["stage"] == "failed"
    assert "stopped before" in told["error"]
    assert not save.job.observed
    await recorder.aclose()
