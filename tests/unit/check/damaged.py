"""Good datasets to be damaged, and the tools to damage them."""

from __future__ import annotations

import asyncio
import atexit
import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import leaks
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from helpers import FEATURES, FPS, H264, make_frame, picture

from aiorecord import Recorder
from aiorecord.check.check_dataset import Check
from aiorecord.check.findings import NOTE
from aiorecord.workers.pool import WorkerPool

FRONT = "observation.images.front"
LENGTHS = (20, 16, 24)
EVERYTHING: dict[str, dict[str, Any]] = {
    **FEATURES,
    "observation.images.still": {
        "dtype": "image",
        "shape": (48, 64, 3),
        "names": ["height", "width", "channels"],
    },
    "observation.depth": {
        "dtype": "video",
        "shape": (48, 64, 1),
        "names": ["height", "width", "channels"],
        "info": {"is_depth_map": True},
    },
    "observation.depth_still": {
        "dtype": "image",
        "shape": (48, 64, 1),
        "names": ["height", "width", "channels"],
        "info": {"is_depth_map": True},
    },
    "matrix": {"dtype": "float32", "shape": (2, 3), "names": None},
    "flag": {"dtype": "bool", "shape": (1,), "names": None},
    "note": {"dtype": "string", "shape": (1,), "names": None},
}


def frame(features: dict[str, Any], k: int, episode: int) -> dict[str, Any]:
    """Frame k of an episode, for any of the features above."""
    out = make_frame(k, episode, {key: spec for key, spec in FEATURES.items() if key in features})
    depth = (picture(k, episode)[..., 0].astype(np.uint16) * 11 + 300)[..., None]
    extra = {
        "observation.images.still": picture(k + 3, episode),
        "observation.depth": depth,
        "observation.depth_still": depth,
        "matrix": np.full((2, 3), k + episode, np.float32),
        "flag": np.array([k % 3 == 0]),
        "note": f"note {k}",
    }
    return out | {key: value for key, value in extra.items() if key in features}


def record(
    root: Path,
    features: dict[str, Any] = FEATURES,
    lengths: tuple[int, ...] = LENGTHS,
    frames: Callable[[dict[str, Any], int, int], dict[str, Any]] = frame,
    **options: Any,
) -> Path:
    """A dataset made by the recorder."""
    options = {"rgb_encoder": H264, **options}

    async def main() -> None:
        async with Recorder("test/set", root=root, fps=FPS, features=features, **options) as recorder:
            for number, length in enumerate(lengths):
                async with recorder.episode(f"Task {number % 2}") as episode:
                    for k in range(length):
                        episode.add_frame(frames(features, k, number))

    asyncio.run(main())
    return root


class SharedPool(WorkerPool):
    """One for all tests: starting a process takes longer than checking a small dataset."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Whoever uses it is done with it; the tests are not."""

    def end(self) -> None:
        super().shutdown()


@functools.cache
def pool() -> SharedPool:
    shared = SharedPool(1)
    atexit.register(shared.end)
    leaks.KEPT_POOLS.append(shared)
    return shared


def codes(root: Path, **options: Any) -> set[str]:
    """The codes that a check finds, without the notes."""
    report = Check(root, pool(), 1, **options).run().report
    return {finding.code for finding in report.findings if finding.severity != NOTE}


def copy(good: Path, target: Path) -> Path:
    shutil.copytree(good, target)
    return target


def info_path(root: Path) -> Path:
    return root / "meta/info.json"


def edit_json(path: Path, change: Callable[[Any], Any]) -> None:
    """Change a JSON file by hand; `change` edits in place or returns something else."""
    data = json.loads(path.read_text())
    changed = change(data)
    path.write_text(json.dumps(data if changed is None else changed))


def edit_table(path: Path, **columns: Callable[[list[Any]], list[Any]]) -> None:
    """Change columns of a Parquet file, keeping its schema."""
    table = pq.read_table(path)
    for name, change in columns.items():
        name = name.replace("__", "/")
        at = table.column_names.index(name)
        values = pa.array(change(table[name].to_pylist()), table.schema.field(at).type)
        table = table.set_column(at, table.schema.field(at), values)
    pq.write_table(table, path)


def data_file(root: Path) -> Path:
    return min(root.glob("data/*/*.parquet"))


def episodes_file(root: Path) -> Path:
    return min(root.glob("meta/episodes/*/*.parquet"))


def video_file(root: Path, key: str = FRONT) -> Path:
    return min((root / "videos" / key).glob("*/*.mp4"))


def cut_footer(path: Path) -> None:
    """Leave a Parquet file as a killed writer leaves it: whole row groups, no footer."""
    data = path.read_bytes()
    size = int.from_bytes(data[-8:-4], "little")
    path.write_bytes(data[: -8 - size])


def content(root: Path) -> dict[str, bytes]:
    """Every file of a dataset."""
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}
