"""Is what was recorded there, bit for bit, once?"""

from __future__ import annotations

import functools
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import fault_content as content
import numpy as np
import pyarrow.parquet as pq
from fault_runs import Told

STATE, ACTION, CAMERA = "observation.state", "action", "observation.images.front"


@dataclass
class Expected:
    """What a dataset must hold, gathered over all sessions that recorded into it.

    Attributes:
        frames: by episode id, what `add_frame` took.
        ended: episodes that must be there whole.
        at_least: by episode id, frames that must be there of an episode that had not ended.
        found: frames found by the last `check`, by episode id.
    """

    frames: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    at_least: dict[str, int] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)

    def add(self, told: Told) -> None:
        """Add what one more session announced."""
        for id_, frames in told.frames.items():
            if told.stages.get(id_) == "discarded":
                continue
            self.frames.setdefault(id_, []).extend(frames)
            self.at_least[id_] = max(self.at_least.get(id_, 0), told.flushed.get(id_, 0))
        self.ended |= told.ended()

    def check(self, root: Path, *, lossless: bool = True) -> None:
        """Check a recovered dataset against everything that was announced."""
        by_first = {frames[0]: id_ for id_, frames in self.frames.items()}
        self.found = {}
        episodes = read_dataset(root, lossless=lossless)
        firsts = [codes[0] for codes in episodes]
        assert firsts == sorted(firsts), f"episodes are not in the order of recording: {firsts}"
        for codes in episodes:
            id_ = by_first.get(codes[0])
            assert id_ is not None, f"nobody recorded an episode that begins with {codes[0]}"
            assert id_ not in self.found, f"{id_} is in the dataset twice"
            assert codes == self.frames[id_][: len(codes)], f"{id_} holds other frames than were recorded"
            self.found[id_] = len(codes)
        for id_, frames in self.frames.items():
            there = self.found.get(id_, 0)
            if id_ in self.ended:
                assert there == len(frames), f"{id_} had ended with {len(frames)} frames, {there} are there"
            else:
                least = self.at_least.get(id_, 0)
                assert there >= least, f"{id_}: {least} frames were on disk, {there} are there"

    def lost(self) -> int:
        """Frames that `add_frame` took and that are not there: of episodes that had not ended."""
        return sum(len(frames) - self.found.get(id_, 0) for id_, frames in self.frames.items())


def read_dataset(root: Path, *, lossless: bool = True, whole: bool = True) -> list[list[tuple[int, int]]]:
    """Read every episode as a reader would, checking each row and each picture.

    Args:
        root: the dataset.
        lossless: pictures are those that were recorded, bit for bit; otherwise their codes are read.
        whole: nothing may be there that does not count.

    Returns:
        (session, step) of every frame, by episode.
    """
    info = json.loads((root / "meta/info.json").read_bytes())
    total, frames, fps = info["total_episodes"], info["total_frames"], info["fps"]
    if not total:
        return []
    episodes = _rows(root, "meta/episodes")
    data = _rows(root, "data")
    tasks = {r["task_index"]: r["task"] for r in pq.read_table(root / "meta/tasks.parquet").to_pylist()}
    if whole:
        assert (len(episodes), len(data)) == (total, frames)
        stats = json.loads((root / "meta/stats.json").read_bytes())
        assert stats["index"]["count"] == [frames]
        assert not list((root / "data").rglob("*tmp")) + list((root / "meta").rglob("*tmp"))
        files = {path for path in (root / "videos").rglob("*") if path.is_file()}
        assert files == {_video(root, info, row, key) for row in episodes for key in _videos(info)}
    result, start = [], 0
    for number in range(total):
        row = episodes[number]
        assert (row["episode_index"], row["dataset_from_index"]) == (number, start)
        length = row["length"]
        rows = data[start : start + length]
        assert len(rows) == length
        codes = []
        for k, values in enumerate(rows):
            assert (values["index"], values["episode_index"], values["frame_index"]) == (start + k, number, k)
            assert values["timestamp"] == np.float32(k / fps)
            assert tasks[values["task_index"]] in row["tasks"]
            code = (int(values[STATE][0]), int(values[STATE][1]))
            assert values[STATE] == content.state(*code).tolist()
            assert values[ACTION] == content.action(*code).tolist()
            codes.append(code)
        if info["features"][CAMERA]["dtype"] == "image":
            for values, code in zip(rows, codes, strict=True):
                [frame] = av.open(io.BytesIO(values[CAMERA]["bytes"]), format="png_pipe").decode(video=0)
                assert (frame.to_ndarray(format="rgb24") == content.picture(*code)).all()
        else:
            first = round(row[f"videos/{CAMERA}/from_timestamp"] * fps)
            shown = _decode(_video(root, info, row, CAMERA).read_bytes())[first : first + length]
            assert len(shown) == length, f"episode {number}: {len(shown)} pictures for {length} rows"
            for picture, code in zip(shown, codes, strict=True):
                if lossless:
                    assert picture == content.yuv_of(*code), f"episode {number}: a picture is not {code}"
                else:
                    luma = np.frombuffer(picture, np.uint8)[: content.HEIGHT * content.WIDTH]
                    assert content.read_code(luma) == code
        for key in _videos(info):
            if key != CAMERA:
                first = round(row[f"videos/{key}/from_timestamp"] * fps)
                assert _count(_video(root, info, row, key).read_bytes()) >= first + length
        result.append(codes)
        start += length
    assert start == frames
    return result


def check_opens(root: Path, **options: Any) -> None:
    """Check that what info.json counts is there for a reader, whatever else lies around."""
    if (root / "meta/info.json").exists():
        read_dataset(root, whole=False, **options)


def _videos(info: dict[str, Any]) -> list[str]:
    return [key for key, spec in info["features"].items() if spec["dtype"] == "video"]


def _video(root: Path, info: dict[str, Any], row: dict[str, Any], key: str) -> Path:
    chunk, file = row[f"videos/{key}/chunk_index"], row[f"videos/{key}/file_index"]
    return root / info["video_path"].format(video_key=key, chunk_index=chunk, file_index=file)


def _rows(root: Path, folder: str) -> list[dict[str, Any]]:
    files = sorted((root / folder).glob("chunk-*/file-*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


@functools.lru_cache(maxsize=64)
def _decode(data: bytes) -> list[bytes]:
    with av.open(io.BytesIO(data)) as container:
        return [content.yuv_bytes(frame) for frame in container.decode(video=0)]


@functools.lru_cache(maxsize=64)
def _count(data: bytes) -> int:
    with av.open(io.BytesIO(data)) as container:
        return sum(1 for _ in container.decode(video=0))
