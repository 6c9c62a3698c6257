"""Whatever is on disk, check and repair end with a report; nothing outside of the dataset is written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from damaged import codes, content, copy, edit_table, episodes_file, info_path, pool
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aiorecord.check.check_dataset import Check
from aiorecord.check.repair import repair_dataset as repairing
from aiorecord.check.repair.repair_dataset import repair_dataset
from aiorecord.errors import AiorecordError

_settings = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder for copies; checks share one worker, and what lies beside the copy must stay as it is."""
    monkeypatch.setattr(repairing, "WorkerPool", lambda *_, **__: pool())
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside/file").write_text("untouched")
    return tmp_path


_numbers = iter(range(10**9))


def survives(world: Path, good: Path, damage) -> None:
    """Damage a copy, check it, repair it, check it again."""
    root = copy(good, world / f"{next(_numbers)}")
    damage(root)
    before = sorted(path.name for path in world.iterdir())
    Check(root, pool(), 1).run()
    try:
        result = repair_dataset(root, accept_loss=True)
    except AiorecordError:
        pass  # a sentence that says why not
    else:
        if "info-missing" not in result.after.codes and "info-invalid" not in result.after.codes:
            assert result.after.ok, [f.as_dict() for f in result.after.findings]
    assert sorted(path.name for path in world.iterdir()) == before
    assert content(world / "beside") == {"file": b"untouched"}


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file() and path.name != "episodes.jsonl")


@given(st.integers(0, 1000), st.floats(0, 1), st.lists(st.integers(0, 255), min_size=1, max_size=40))
@_settings
def test_flipped_bytes(world, everything, which, where, noise):
    def damage(root):
        path = files(root)[which % len(files(root))]
        data = bytearray(path.read_bytes())
        at = int(where * (len(data) - 1))
        for k, value in enumerate(noise[: len(data) - at]):
            data[at + k] ^= value
        path.write_bytes(data)

    survives(world, everything, damage)


@given(st.integers(0, 1000), st.floats(0, 1))
@example(which=271, where=0.8125)  # leaves a frame off the grid behind a whole episode
@_settings
def test_cut_files(world, everything, which, where):
    def damage(root):
        path = files(root)[which % len(files(root))]
        os.truncate(path, int(where * path.stat().st_size))

    survives(world, everything, damage)


@given(
    st.sampled_from(
        ["fps", "total_episodes", "total_frames", "features", "data_path", "video_path", "splits"]
    ),
    _json,
)
@_settings
def test_edited_info(world, everything, key, value):
    def damage(root):
        info = json.loads(info_path(root).read_text())
        info_path(root).write_text(json.dumps(info | {key: value}))

    survives(world, everything, damage)


@given(
    st.sampled_from(
        [
            "length",
            "episode_index",
            "data/file_index",
            "dataset_from_index",
            "videos/observation.depth/chunk_index",
        ]
    ),
    st.integers(-(2**63), 2**63 - 1),
)
@_settings
def test_edited_metadata(world, everything, column, value):
    survives(
        world, everything, lambda root: edit_table(episodes_file(root), **{column: lambda v: [value, *v[1:]]})
    )


@given(_json)
@_settings
def test_edited_statistics(world, everything, value):
    survives(world, everything, lambda root: (root / "meta/stats.json").write_text(json.dumps(value)))


@pytest.mark.parametrize("size", [1 << 27, 1 << 31])
def test_oversized_files(world, everything, size):
    """Holes cost no disk; reading them must cost no memory either."""
    for name in ("meta/info.json", "meta/stats.json", "meta/tasks.parquet"):

        def damage(root: Path, name: str = name) -> None:
            with (root / name).open("r+b") as file:
                file.truncate(size)

        survives(world, everything, damage)


def test_a_playlist_is_not_followed(world, everything):
    """A file that libav would take for a list of other files."""

    def damage(root: Path) -> None:
        video = min(root.glob("videos/*/*/*.mp4"))
        video.write_text(f"ffconcat version 1.0\nfile {world / 'beside/file'}\n")

    survives(world, everything, damage)


def test_pickles_are_not_loaded(world, everything):
    import pickle

    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(world / "exploded"),)

    for name in (
        "meta/info.json",
        "meta/stats.json",
        "meta/tasks.parquet",
        "data/chunk-000/file-000.parquet",
    ):
        survives(world, everything, lambda root, name=name: (root / name).write_bytes(pickle.dumps(Bomb())))


def test_links_to_anywhere(world, everything):
    for name in ("meta/stats.json", "meta/tasks.parquet", "data/chunk-000/file-000.parquet"):

        def damage(root: Path, name: str = name) -> None:
            (root / name).unlink()
            (root / name).symlink_to(world / "beside/file")

        survives(world, everything, damage)

    def device(root: Path) -> None:
        (root / "meta/stats.json").unlink()
        (root / "meta/stats.json").symlink_to("/dev/zero")

    survives(world, everything, device)


def test_links_into_a_cache_are_fine(world, everything):
    """Datasets from the Hub are links into its cache."""
    root = copy(everything, world / "linked")
    cache = world / "cache"
    cache.mkdir()
    for number, path in enumerate(files(root)):
        os.rename(path, cache / str(number))
        path.symlink_to(cache / str(number))
    assert codes(root) == set()
