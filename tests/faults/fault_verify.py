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
        late: episodes whose save failed, and which may so come behind later ones.
        cut: by episode id, frames of an ended episode that the disk did not take, as the recorder said.
        found: frames found by the last `check`, by episode id.
    """

    frames: dict[str, list[tuple[int, ...]]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    at_least: dict[str, int] = field(default_factory=dict)
    late: set[str] = field(default_factory=set)
    cut: dict[str, int] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)

    def add(self, told: Told) -> None:
        """Add what one more session announced."""
        for id_, frames in told.frames.items():
            if told.stages.get(id_) == "discarded":
                continue
            if id_ in told.cut:
                self.cut[id_] = len(frames) - told.cut[id_]
                frames = frames[: told.cut[id_]]
                assert len(frames) >= told.flushed.get(id_, 0), f"{id_} was cut to less than was flushed"
            self.frames.setdefault(id_, []).extend(frames)
            self.at_least[id_] = max(self.at_least.get(id_, 0), told.flushed.get(id_, 0))
        self.ended |= told.ended()
        self.late |= told.failed

    def check(self, root: Path, *, lossless: bool = True) -> None:
        """Check a recovered dataset against everything that was announced."""
        by_first = {frames[0]: id_ for id_, frames in self.frames.items()}
        self.found = {}
        episodes = read_dataset(root, lossless=lossless)
        firsts = [codes[0] for codes in episodes if by_first.get(codes[0]) not in self.late]
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


def read_dataset(root: Path, *, lossless: bool = True, whole: bool = True) -> list[list[tuple[int, ...]]]:
    """Read every episode as a reader would, checking each row and each picture.

    Args:
        root: the dataset.
        lossless: pictures are those that were recorded, bit for bit; otherwise their codes are read.
        whole: nothing may be there that does not count.

    Returns:
        what every frame says of itself, by episode; see `fault_content.code_of`.
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
        if info["features"][CAMERA]["dtype"] == "image":
            pictures = [_png(values[CAMERA]["bytes"]) for values in rows]
        else:
            first = round(row[f"videos/{CAMERA}/from_timestamp"] * fps)
            pictures = _decode(_video(root, info, row, CAMERA).read_bytes())[first : first + length]
        assert len(pictures) == length, f"episode {number}: {len(pictures)} pictures for {length} rows"
        codes = []
        for k, (values, picture) in enumerate(zip(rows, pictures, strict=True)):
            assert (values["index"], values["episode_index"], values["frame_index"]) == (start + k, number, k)
            assert values["timestamp"] == np.float32(k / fps)
            assert tasks[values["task_index"]] in row["tasks"]
            codes.append(_code_of(values, picture, lossless, f"episode {number}, frame {k}"))
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


def _code_of(values: dict[str, Any], picture: Any, lossless: bool, where: str) -> tuple[int, ...]:
    """What a frame says of itself, after checking that all of it is what was recorded."""
    is_png = isinstance(picture, np.ndarray)
    luma = picture if is_png else np.frombuffer(picture, np.uint8)[: content.HEIGHT * content.WIDTH]
    luma = luma if is_png else luma.reshape(content.HEIGHT, content.WIDTH)
    code = content.code_of(np.array(values[STATE]), luma, np.array(values[ACTION]))
    session, step, shown, asked = code if len(code) == 4 else (*code, code[1], code[1])
    assert values[STATE] == content.state(session, step).tolist(), where
    assert values[ACTION] == content.action(session, asked).tolist(), where
    if is_png:
        assert (picture == content.picture(session, shown)).all(), where
    elif lossless:
        assert picture == content.yuv_of(session, shown), f"{where}: the picture is not {code}"
    return code


def _png(data: bytes) -> np.ndarray:
    [frame] = av.open(io.BytesIO(data), format="png_pipe").decode(video=0)
    return frame.to_ndarray(format="rgb24")


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
