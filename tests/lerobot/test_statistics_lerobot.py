"""Datasets that lerobot's own tools made: no damage, and a repair recomputes their statistics only."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
from damaged import content, copy, edit_table, pool
from helpers import rows_of
from lerobot.configs import RGBEncoderConfig
from lerobot.datasets import LeRobotDataset, dataset_tools

from aiorecord.check import check_dataset
from aiorecord.check.findings import NOTE
from aiorecord.check.repair import repair_dataset as repairing
from aiorecord.check.repair.repair_dataset import repair_dataset
from aiorecord.cli import main

pytestmark = pytest.mark.lerobot


AXES = ["height", "width", "channels"]
STILL = "observation.images.still"
FEATURES = {
    "observation.state": {"dtype": "float32", "shape": (3,), "names": None},
    "action": {"dtype": "float32", "shape": (3,), "names": None},
    STILL: {"dtype": "image", "shape": (120, 160, 3), "names": AXES},
    "observation.images.front": {"dtype": "video", "shape": (48, 64, 3), "names": AXES},
}
EXTRA = {"dtype": "float32", "shape": (1,), "names": None}


@pytest.fixture(autouse=True)
def _shared_pool(monkeypatch):
    for module in (check_dataset, repairing):
        monkeypatch.setattr(module, "WorkerPool", lambda *_, **__: pool())


def recorded(root, lengths, seed):
    rng = np.random.default_rng(seed)
    dataset = LeRobotDataset.create(
        f"test/{root.name}", 30, FEATURES, root=root, rgb_encoder=RGBEncoderConfig(vcodec="h264")
    )
    for episode, length in enumerate(lengths):
        still = rng.integers(0, 256, (120, 160, 3)) // 2 + 110
        ramp = np.linspace(0, 200, 64)[None, :, None] * np.ones((48, 64, 3)) + 10 * episode
        for k in range(length):
            dataset.add_frame(
                {
                    "observation.state": rng.normal(size=3).astype(np.float32),
                    "action": rng.normal(size=3).astype(np.float32),
                    STILL: np.clip(still + 5 * k, 0, 255).astype(np.uint8),
                    "observation.images.front": (ramp + k).astype(np.uint8),
                    "task": f"Task {(episode + seed) % 2} of {seed}",
                }
            )
        dataset.save_episode()
    dataset.finalize()
    return LeRobotDataset(f"test/{root.name}", root=root)


@pytest.fixture(scope="module")
def edited(tmp_path_factory):
    """What each of lerobot's tools makes of small datasets."""
    root = tmp_path_factory.mktemp("tools")
    first, second = recorded(root / "first", (8, 6, 9), 1), recorded(root / "second", (7, 5), 2)
    dataset_tools.merge_datasets([first, second], "test/merged", root / "merged")
    dataset_tools.delete_episodes(first, [0], root / "deleted", "test/deleted")
    dataset_tools.split_dataset(first, {"train": [0, 2], "validation": [1]}, root)
    added = dataset_tools.add_features(
        first, {"extra": (np.arange(23, dtype=np.float32), EXTRA)}, root / "added", "test/added"
    )
    dataset_tools.remove_feature(added, "observation.state", root / "removed", "test/removed")
    return root


NAMES = ("first", "merged", "deleted", "train", "validation", "added", "removed")


@pytest.mark.parametrize("name", NAMES)
def test_no_damage_is_seen_and_only_statistics_are_repaired(name, edited, tmp_path, capsys):
    root = copy(edited / name, tmp_path / name)
    assert main(["check", str(root)]) == 0, capsys.readouterr().out
    before, rows = content(root), rows_of(root)
    result = repair_dataset(root, workers=1)
    assert {f.code for f in result.after.findings if f.severity != NOTE} == set(), result.as_dict()
    after = content(root)
    changed = {n for n, data in after.items() if before.get(n) != data and "aside" not in n}
    assert all(n == "meta/stats.json" or n.startswith("meta/episodes/") for n in changed), changed
    assert bool(changed) == (name != "first")
    assert before.keys() <= after.keys()
    assert rows_of(root) == rows
    dataset = LeRobotDataset(f"test/{name}", root=root)
    assert len(dataset) == len(rows)
    for k, row in enumerate(rows):
        item = dataset[k]
        np.testing.assert_array_equal(item["action"].numpy(), np.float32(row["action"]))
        assert (item["index"].item(), item["episode_index"].item()) == (k, row["episode_index"])
    assert set(dataset.meta.stats) >= {key for key, spec in dataset.meta.features.items()}


def test_its_tools_work_on_what_was_repaired(edited, tmp_path):
    root = copy(edited / "deleted", tmp_path / "set")
    repair_dataset(root, workers=1)
    dataset = LeRobotDataset("test/set", root=root)
    dataset_tools.delete_episodes(dataset, [1], tmp_path / "out", "test/out")
    assert main(["check", str(tmp_path / "out")]) == 0


def test_swapped_statistics_are_an_error(edited, tmp_path):
    root = copy(edited / "second", tmp_path / "set")
    (path,) = root.glob("meta/episodes/*/*.parquet")
    names = [n for n in pq.read_schema(path).names if n.startswith("stats/action/")]
    edit_table(path, **{name: lambda values: values[::-1] for name in names})
    assert main(["check", str(root)]) == 1
