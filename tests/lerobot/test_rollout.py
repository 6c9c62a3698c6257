"""lerobot's rollout strategies, unmodified, over the drop-in: a stub robot and an untrained ACT policy."""

import signal
import sys
import threading

import pytest
import torch
from helpers import rows_of
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.configs.dataset import DatasetRecordConfig
from lerobot.configs.video import RGBEncoderConfig
from lerobot.datasets import LeRobotDataset
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.factory import make_pre_post_processors
from lerobot.rollout import RolloutConfig, build_rollout_context, create_strategy
from lerobot.rollout import context as rollout_context
from lerobot.rollout.configs import (
    DAggerStrategyConfig,
    EpisodicStrategyConfig,
    HighlightStrategyConfig,
    SentryStrategyConfig,
)
from lerobot.rollout.strategies import dagger, highlight
from test_dropin_scripts import (
    MOTORS,
    DropinRobotConfig,
    DropinTeleopConfig,
    logging_as_before,  # noqa: F401 - the script sets the root logger up
)

from aiorecord.cli import main
from aiorecord.lerobot import AsyncLeRobotDataset, enable_async_saving

TASK = "Grab the cube"
FRONT = "observation.images.front"

pytestmark = pytest.mark.leaves(
    "temporary tmp"
)  # lerobot writes a policy's settings to one, for their parser


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """A policy as `lerobot-train` leaves it, untrained."""
    path = tmp_path_factory.mktemp("policy")
    torch.manual_seed(0)
    config = ACTConfig(
        input_features={
            "observation.state": PolicyFeature(FeatureType.STATE, (len(MOTORS),)),
            FRONT: PolicyFeature(FeatureType.VISUAL, (3, 48, 64)),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (len(MOTORS),))},
        pretrained_backbone_weights=None,
        device="cpu",
        push_to_hub=False,
        chunk_size=4,
        n_action_steps=4,
        dim_model=32,
        n_heads=2,
        dim_feedforward=32,
        n_encoder_layers=1,
        n_vae_encoder_layers=1,
        latent_dim=8,
    )
    ACTPolicy(config).save_pretrained(path)
    shapes = {"observation.state": (len(MOTORS),), FRONT: (3, 1, 1), "action": (len(MOTORS),)}
    stats = {key: {"mean": torch.zeros(shape), "std": torch.ones(shape)} for key, shape in shapes.items()}
    for processor in make_pre_post_processors(config, dataset_stats=stats):
        processor.save_pretrained(path)
    return path


@pytest.fixture(autouse=True)
def signals_as_before():
    """lerobot's script takes the signals over."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Keys:
    """Stands for the operator: presses keys when the robot has been asked so many times."""

    def __init__(self, monkeypatch, presses):
        self.presses = dict(presses)
        for module in (highlight, dagger):
            monkeypatch.setattr(module, "create_key_listener", self.listen)

    def listen(self, dispatch, **_options):
        self.dispatch = dispatch

    def watch(self, robot):
        observe = robot.get_observation

        def get_observation():
            observation = observe()
            if key := self.presses.get(robot.count):
                self.dispatch(key)
            return observation

        robot.get_observation = get_observation


def check(root, lengths=None, **columns):
    """Frames == rows: every row has the picture that was seen with its state."""
    dataset = LeRobotDataset("test/rollout_set", root=root, video_backend="pyav")
    rows = rows_of(root)
    assert len(dataset) == len(rows) > 0
    found = [episode["length"] for episode in dataset.meta.episodes]
    assert sum(found) == len(rows)
    if lengths is not None:
        assert found == lengths
    for index, row in enumerate(rows):
        item = dataset[index]
        count = float(item["observation.state"][0])
        assert float(item[FRONT].mean()) * 255 == pytest.approx(count % 256, abs=4)
        assert item["task"] == TASK
        assert row["index"] == index
        for key, value in columns.items():
            assert row[key] == value
    assert not list(root.glob(".aiorecord"))
    return found


def rollout(policy, root, strategy, keys=None, wrap=enable_async_saving, **more):
    """What `lerobot-rollout` does, with `enable_async_saving` between the making and the running."""
    dataset = DatasetRecordConfig(
        repo_id="test/rollout_set",
        root=root,
        single_task=TASK,
        no_stamp=True,
        push_to_hub=False,
        num_episodes=2,
        episode_time_s=0.3,
        reset_time_s=0,
        rgb_encoder=RGBEncoderConfig(vcodec="h264", preset="ultrafast"),
    )
    config = RolloutConfig(
        robot=DropinRobotConfig(),
        policy=policy,
        dataset=dataset,
        strategy=strategy,
        device="cpu",
        play_sounds=False,
        return_to_initial_position=False,
        **more,
    )
    context = build_rollout_context(config, threading.Event())
    if keys is not None:
        keys.dispatch = lambda _key: context.runtime.shutdown_event.set()  # strategies without keys
        keys.watch(context.hardware.robot_wrapper.inner)
    assert wrap(context.data.dataset) is context.data.dataset
    running = create_strategy(strategy)
    try:
        running.setup(context)
        running.run(context)
    finally:
        running.teardown(context)
    return context.data.dataset


@pytest.fixture
def pretrained(policy):
    """The policy's configuration, as the flag `--policy.path` gives it."""
    from lerobot.configs import PreTrainedConfig

    config = PreTrainedConfig.from_pretrained(policy)
    config.pretrained_path = policy
    return config


def test_episodic(tmp_path, pretrained):
    root = tmp_path / "set"
    dataset = rollout(pretrained, root, EpisodicStrategyConfig(reset_to_initial_position=False))
    assert isinstance(dataset, AsyncLeRobotDataset)
    assert len(check(root)) == 2
    assert dataset[len(dataset) - 1]["task"] == TASK


def test_sentry_cuts_one_rollout_into_episodes(tmp_path, pretrained, monkeypatch):
    root = tmp_path / "set"
    strategy = SentryStrategyConfig()
    strategy.target_video_file_size_mb = 0.0003  # of this camera: about 0.3 s
    rollout(pretrained, root, strategy, Keys(monkeypatch, {45: "stop"}))
    assert len(check(root)) >= 2


def test_highlight_takes_what_was_before_the_key(tmp_path, pretrained, monkeypatch):
    """The ring buffer is added at once, faster than any camera; then frames follow as they come."""
    root = tmp_path / "set"
    # The context asks once before the rollout. From frame 30 on what the ring buffer holds, up to frame 40.
    keys = Keys(monkeypatch, {30: "s", 40: "s", 50: "s", 52: "esc"})
    rollout(pretrained, root, HighlightStrategyConfig(), keys)
    lengths = check(root)
    assert lengths[0] == 39
    assert len(lengths) == 2


def test_dagger_records_corrections(tmp_path, pretrained, monkeypatch):
    root = tmp_path / "set"
    # pause, correct, end of the correction; twice
    presses = {5: "space", 7: "tab", 15: "tab", 17: "tab", 23: "tab", 25: "esc"}
    strategy = DAggerStrategyConfig(smooth_handover=False)
    rollout(pretrained, root, strategy, Keys(monkeypatch, presses), teleop=DropinTeleopConfig())
    assert len(check(root, intervention=True)) == 2


def test_the_script(tmp_path, policy, monkeypatch, capsys):
    """`aiorecord lerobot-rollout` is lerobot's script with its flags, saving in the background."""
    root = tmp_path / "set"
    arguments = [
        "--strategy.type=episodic",
        "--strategy.reset_to_initial_position=false",
        f"--policy.path={policy}",
        "--robot.type=dropin_robot",
        "--dataset.repo_id=test/rollout_set",
        f"--dataset.root={root}",
        f"--dataset.single_task={TASK}",
        *("--dataset.num_episodes=2", "--dataset.episode_time_s=0.3", "--dataset.reset_time_s=0"),
        *("--dataset.push_to_hub=false", "--dataset.no_stamp=true", "--dataset.rgb_encoder.vcodec=h264"),
        *("--play_sounds=false", "--return_to_initial_position=false", "--device=cpu"),
    ]
    assert main(["lerobot-rollout", *arguments, "--dataset.async_save_queue_size=3"]) == 0
    assert len(check(root)) == 2
    assert main(["lerobot-rollout", *arguments, "--resume=true", "--dataset.async_saving=false"]) == 0
    assert len(check(root)) == 4
    assert rollout_context.LeRobotDataset is LeRobotDataset
    with pytest.raises(SystemExit) as ended:
        main(["lerobot-rollout", "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "--dataset.async_save_queue_size" in shown
    assert "--strategy.type" in shown
    assert sys.argv[0] != "lerobot-rollout"
