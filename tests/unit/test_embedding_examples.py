"""The examples of programs that embed a recorder do what they show."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import episodes_of

import aiorecord

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_web_app(tmp_path):
    testing = pytest.importorskip("fastapi.testclient")
    with testing.TestClient(load("web_app").make_app(tmp_path / "set")) as client:
        with client.websocket_connect("/events") as socket:
            assert socket.receive_json() == {"event": "Connected"}
            assert client.post("/episode/end").status_code == 409
            assert client.post("/episode", params={"task": "one"}).json() == {"recording": "one"}
            assert client.post("/episode", params={"task": "two"}).status_code == 409
            assert socket.receive_json()["event"] == "EpisodeBegan"
            while not client.get("/status").json()["frames"]:
                pass
            assert client.post("/episode/end").json() == {"kept": True}
            ended = socket.receive_json()
            assert (ended["event"], ended["outcome"], ended["task"]) == ("EpisodeEnded", "saved", "one")
            stages = [socket.receive_json()["stage"] for _ in range(4)]
            assert stages == ["durable", "encoding", "encoded", "committed"]
            client.post("/episode", params={"task": "two"})
            assert client.post("/episode/end", params={"keep": False}).json() == {"kept": False}
            assert [socket.receive_json()["event"] for _ in range(2)] == ["EpisodeBegan", "EpisodeEnded"]
        assert client.get("/status").json()["episodes"] == 1
        assert "Start" in client.get("/").text
    assert [episode["tasks"] for episode in episodes_of(tmp_path / "set")] == [["one"]]
    info = json.loads((tmp_path / "set" / "meta" / "info.json").read_text())
    assert info["robot_type"] == "sim"


def test_callback_robot(tmp_path):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "callback_robot.py"), str(tmp_path / "set")],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lengths = [episode["length"] for episode in episodes_of(tmp_path / "set")]
    assert len(lengths) == 2
    assert f"episode 1: {lengths[1]} frames" in done.stdout
    for line in ("recording: take 1 of 2", "resetting: take 2 of 2", "  Wave: committed"):
        assert line in done.stdout


async def test_a_topic_that_falls_silent_is_a_failure_of_that_topic():
    example = load("callback_robot")

    robot = example.CallbackRobot(example.Node({example.STATE: 200, example.IMAGE: 50}))
    await robot.connect()
    try:
        observation = await robot.get_observation()
        assert set(observation) == {"front", *example.JOINTS}
        assert robot.frame_times_ns().keys() == {"front"}
        robot._silence_ns = -1
        with pytest.raises(aiorecord.SourceError, match="has been silent for"):
            await robot.get_observation()
    finally:
        await robot.disconnect()
    assert not robot.is_connected
