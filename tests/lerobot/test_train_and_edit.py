"""What was recorded is what lerobot's own commands work on: `lerobot-train` and `lerobot-edit-dataset`."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from helpers import FEATURES, FPS, H264, make_frame, record_episode, rows_of
from lerobot.datasets import LeRobotDataset
from lerobot.scripts import lerobot_edit_dataset
from safetensors.numpy import load_file
from test_dropin_scripts import logging_as_before  # noqa: F401 - the commands set the root logger up
from test_recorded import BACKENDS, pixels, psnr

from aiorecord import Recorder
from aiorecord.lerobot import AsyncLeRobotDataset

FRONT = "observation.images.front"
STEPS = 3
OFFLINE = {**os.environ, "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}


def recorded_by_the_command(root):
    """`aiorecord record` with the simulated arm, as a user calls it."""
    command = [
        *(sys.executable, "-m", "aiorecord", "record"),
        "--robot.type=sim",
        "--robot.cameras={front: {width: 96, height: 64}, wrist: {width: 96, height: 64}}",
        "--teleop.type=sim",
        "--dataset.repo_id=test/set",
        f"--dataset.root={root}",
        "--dataset.single_task=Pick up the cube",
        "--dataset.num_episodes=2",
        "--dataset.episode_time_s=0.5",
        "--dataset.reset_time_s=0",
        "--display=none",
        "--play_sounds=false",
    ]
    done = subprocess.run(command, env=OFFLINE, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr


def recorded_by_the_drop_in(root):
    """A script of lerobot's kind, with its default codec."""
    features = {key: dict(spec) for key, spec in FEATURES.items()}
    features[FRONT]["shape"] = (64, 96, 3)
    dataset = AsyncLeRobotDataset.create("test/set", FPS, features, root=root)
    dataset.enable_async_saving(max_queue_size=5, save_timeout=180.0)
    for episode in range(2):
        for k in range(12):
            dataset.add_frame(make_frame(k, episode, features) | {"task": f"Task {episode}"})
        assert dataset.save_episode_async()
    dataset.finalize()


@pytest.mark.parametrize(
    ("record", "backend"),
    [(recorded_by_the_command, BACKENDS[-1]), (recorded_by_the_drop_in, BACKENDS[0])],
    ids=["command", "drop-in"],
)
def test_lerobot_trains_on_it(tmp_path, record, backend):
    """A few steps of ACT by the real command: the losses are numbers, the statistics those of the rows."""
    root, out = tmp_path / "set", tmp_path / "out"
    record(root)
    command = [
        *(sys.executable, "-m", "lerobot.scripts.lerobot_train"),
        "--dataset.repo_id=test/set",
        f"--dataset.root={root}",
        f"--dataset.video_backend={backend}",
        "--policy.type=act",
        "--policy.device=cpu",
        "--policy.push_to_hub=false",
        "--policy.pretrained_backbone_weights=null",  # they would be downloaded
        *("--policy.chunk_size=4", "--policy.n_action_steps=4", "--policy.dim_model=32"),
        *("--policy.n_heads=2", "--policy.dim_feedforward=32", "--policy.latent_dim=8"),
        *("--policy.n_encoder_layers=1", "--policy.n_vae_encoder_layers=1"),
        *("--batch_size=2", "--num_workers=0", "--seed=1"),
        *(f"--steps={STEPS}", f"--save_freq={STEPS}", "--log_freq=1", "--wandb.enable=false"),
        f"--output_dir={out}",
    ]
    done = subprocess.run(command, env=OFFLINE, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    losses = [float(text) for text in re.findall(r" loss:(\S+)", done.stderr + done.stdout)]
    assert len(losses) == STEPS
    assert np.isfinite(losses).all()
    (policy,) = out.glob(f"checkpoints/{STEPS:06}/pretrained_model")
    assert (policy / "model.safetensors").exists()
    (normalizer,) = policy.glob("policy_preprocessor*normalizer*.safetensors")
    rows = rows_of(root)
    for key in ("action", "observation.state"):
        mean = load_file(normalizer)[f"{key}.mean"]
        np.testing.assert_allclose(mean, np.mean([row[key] for row in rows], axis=0), rtol=1e-4, atol=1e-5)


LENGTHS = (4, 7, 5, 9, 6)


def episode(content):
    """(content, length, task) of an episode that `recorded` makes."""
    return content, LENGTHS[content], f"Task {content % 2}"


@pytest.fixture(params=[True, False], ids=["packed", "loose"])
async def recorded(request, tmp_path):
    """Five episodes; before packing each has files of its own."""
    root = tmp_path / "set"

    async with Recorder(
        "test/set", root=root, fps=FPS, features=FEATURES, rgb_encoder=H264, pack=request.param
    ) as recorder:
        for content, length in enumerate(LENGTHS):
            await record_episode(recorder, length, content, episode(content)[2])
    assert bool(list(root.glob("data/chunk-9*"))) != request.param
    return root


async def append(root, content, length, task):
    """Record one more episode behind what a command of lerobot's made."""

    async with Recorder(
        "test/set", root=root, fps=FPS, features=FEATURES, rgb_encoder=H264, resume=True
    ) as recorder:
        await record_episode(recorder, length, content, task)


def edit(monkeypatch, *arguments):
    """`lerobot-edit-dataset` with these arguments."""
    monkeypatch.setattr(sys, "argv", ["lerobot-edit-dataset", *map(str, arguments)])
    lerobot_edit_dataset.main()


def check_rows(root, episodes, backend=BACKENDS[-1], features=FEATURES):
    """Every row: its numbers, its task, and its own picture rather than a neighbour's."""
    dataset = LeRobotDataset("test/set", root=root, video_backend=backend)
    assert dataset.num_episodes == len(episodes)
    assert len(dataset) == sum(length for _, length, _ in episodes)
    index = 0
    for e, (content, length, task) in enumerate(episodes):
        for k in range(length):
            item, given = dataset[index], make_frame(k, content)
            assert (int(item["index"]), int(item["episode_index"]), int(item["frame_index"])) == (index, e, k)
            assert float(item["timestamp"]) == pytest.approx(k / FPS)
            assert item["task"] == task
            for key in features:
                if key != FRONT:
                    np.testing.assert_array_equal(item[key].numpy(), given[key])
            if FRONT in features:
                quality = psnr(pixels(item, FRONT), given[FRONT])
                assert quality > 20
                for other in (k - 1, k + 1):
                    if 0 <= other < length:
                        assert quality > psnr(pixels(item, FRONT), make_frame(other, content)[FRONT])
            index += 1


async def test_delete_episodes(recorded, tmp_path, monkeypatch):
    less = tmp_path / "less"
    edit(
        monkeypatch,
        *("--repo_id", "test/set", "--root", recorded, "--new_repo_id", "test/less", "--new_root", less),
        *("--operation.type", "delete_episodes", "--operation.episode_indices", "[0, 2]"),
    )
    kept = [episode(content) for content in (1, 3, 4)]
    check_rows(less, kept)
    check_rows(recorded, [episode(content) for content in range(5)])  # was not touched
    await append(less, 7, 6, "Task 0")
    check_rows(less, [*kept, (7, 6, "Task 0")])


async def test_delete_episodes_in_place(recorded, monkeypatch):
    edit(
        monkeypatch,
        *("--repo_id", "test/set", "--root", recorded, "--new_root", recorded),
        *("--operation.type", "delete_episodes", "--operation.episode_indices", "[4]"),
    )
    kept = [episode(content) for content in range(4)]
    check_rows(recorded, kept)
    await append(recorded, 7, 6, "A new task")
    check_rows(recorded, [*kept, (7, 6, "A new task")])


async def test_split_and_merge(recorded, tmp_path, monkeypatch):
    parts = tmp_path / "parts"
    edit(
        monkeypatch,
        *("--repo_id", "test/set", "--root", recorded, "--new_root", parts),
        *("--operation.type", "split", "--operation.splits", '{"train": [0, 1, 3], "val": [2, 4]}'),
    )
    train, val = [episode(c) for c in (0, 1, 3)], [episode(c) for c in (2, 4)]
    check_rows(parts / "train", train)
    check_rows(parts / "val", val)
    # Ours with ours as lerobot left them, and with the dataset as we wrote it.
    for merged, roots, expected in (
        ("a", [parts / "val", parts / "train"], [*val, *train]),
        ("b", [recorded, parts / "val"], [*(episode(c) for c in range(5)), *val]),
    ):
        names = [f"test/{number}" for number in range(len(roots))]
        edit(
            monkeypatch,
            *("--new_repo_id", "test/merged", "--new_root", tmp_path / merged),
            *("--operation.type", "merge", "--operation.repo_ids", names),
            *("--operation.roots", [str(root) for root in roots]),
        )
        check_rows(tmp_path / merged, expected)
    await append(tmp_path / "b", 7, 6, "A new task")
    check_rows(tmp_path / "b", [*expected, (7, 6, "A new task")])


async def test_other_edits(recorded, tmp_path, monkeypatch):
    """What else the command changes in a dataset: its tasks and its features."""
    edit(
        monkeypatch,
        *("--repo_id", "test/set", "--root", recorded, "--operation.type", "modify_tasks"),
        *("--operation.new_task", "Stack them", "--operation.episode_tasks", '{"3": "Another"}'),
    )
    tasks = ["Stack them", "Stack them", "Stack them", "Another", "Stack them"]
    renamed = [(content, LENGTHS[content], task) for content, task in enumerate(tasks)]
    check_rows(recorded, renamed)
    await append(recorded, 7, 6, "Another")
    renamed.append((7, 6, "Another"))
    check_rows(recorded, renamed)
    blind = tmp_path / "blind"
    edit(
        monkeypatch,
        *("--repo_id", "test/set", "--root", recorded, "--new_repo_id", "test/blind", "--new_root", blind),
        *("--operation.type", "remove_feature", "--operation.feature_names", f"['{FRONT}']"),
    )
    check_rows(blind, renamed, features={key: spec for key, spec in FEATURES.items() if key != FRONT})
