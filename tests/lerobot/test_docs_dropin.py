"""The Python blocks of the pages that need lerobot, as they stand there, with short episodes."""

import pytest
from command_blocks import fences
from helpers import FEATURES, episodes_of, make_frame

pytest.importorskip("lerobot")
pytestmark = pytest.mark.lerobot

from lerobot.datasets import dataset_metadata, lerobot_dataset  # noqa: E402

import aiorecord.lerobot  # noqa: E402
from aiorecord import cli  # noqa: E402


def block(page, mark):
    (found,) = [text for kind, text in fences(page) if kind == "python" and mark in text]
    return found


@pytest.fixture
def names(tmp_path, monkeypatch):
    """What the pages take for granted; datasets go where they go without a root."""
    monkeypatch.setattr(lerobot_dataset, "HF_LEROBOT_HOME", tmp_path, raising=False)
    monkeypatch.setattr(dataset_metadata, "HF_LEROBOT_HOME", tmp_path, raising=False)
    monkeypatch.setenv("HF_LEROBOT_HOME", str(tmp_path))
    frames = [{**make_frame(k, features=FEATURES), "task": "Test"} for k in range(4)]
    return {"features": FEATURES, "num_episodes": 2, "frames_of_my_robot": lambda: iter(frames)}


@pytest.mark.parametrize(
    ("mark", "episodes"), [("AsyncLeRobotDataset.create(", 2), ("aiorecord.lerobot.install()", 2)]
)
def test_the_drop_in(names, tmp_path, mark, episodes):
    code = block("docs/lerobot.md", mark).replace("range(10)", "range(2)")
    code = code.replace(".create(", f".create(root={str(tmp_path / 'set')!r}, repo_id=", 1)
    code = code.replace("features=features", "features=features, rgb_encoder=codec")
    from lerobot.configs.video import RGBEncoderConfig

    try:
        exec(compile(code, "docs/lerobot.md", "exec"), {**names, "codec": RGBEncoderConfig(vcodec="h264")})
    finally:
        aiorecord.lerobot.uninstall()
    assert [e["length"] for e in episodes_of(tmp_path / "set")] == [4] * episodes


@pytest.mark.parametrize(
    ("page", "name"), [("README.md", "pick-cube"), ("docs/quickstart.md", "two-cameras")]
)
def test_what_a_reader_recorded_is_loaded(tmp_path, monkeypatch, capsys, steady_clock, page, name):
    monkeypatch.chdir(tmp_path)
    cameras = "{front: {width: 96, height: 64}}"
    argv = ["record", "--robot.type=sim", "--teleop.type=sim", f"--robot.cameras={cameras}", "--display=none"]
    argv += [f"--dataset.repo_id=demo/{name}", f"--dataset.root=data/{name}", "--dataset.single_task=x"]
    argv += ["--dataset.num_episodes=1", "--dataset.episode_time_s=0.2", "--dataset.reset_time_s=0"]
    assert (
        cli.main([*argv, "--play_sounds=false", "--encode_workers=1", "--dataset.rgb_encoder.vcodec=h264"])
        == 0
    )
    space = {}
    exec(compile(block(page, f'LeRobotDataset("demo/{name}'), page, "exec"), space)
    assert len(space["dataset"]) == 6
    if page != "README.md":
        assert "6 torch.Size([3, 64, 96])" in capsys.readouterr().out
