"""A dataset with something of everything that is read back from disk, and what reading it must come to."""

from __future__ import annotations

import shutil
import sys
from contextlib import closing
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "dataset"))

from staged import commit, stage

from aiorecord.capture.budget import ByteBudget
from aiorecord.capture.episode import EpisodeCapture
from aiorecord.dataset.commit.already_committed import committed_index
from aiorecord.dataset.commit.writer import DatasetWriter
from aiorecord.dataset.format.info_json import read_info
from aiorecord.dataset.recovery.rebuild_info import lost_info
from aiorecord.dataset.recovery.salvage import examine, ready, salvage
from aiorecord.dataset.recovery.unfinished import unfinished
from aiorecord.encoders import DepthEncoderConfig, RGBEncoderConfig
from aiorecord.encoding.encoded import EncodedEpisode
from aiorecord.errors import AiorecordError
from aiorecord.features import Schema
from aiorecord.staging.folder import EpisodeFolder, Staging
from aiorecord.staging.raw import RawWriter
from aiorecord.staging.reader import read_frames, read_histograms
from aiorecord.staging.rows import read_rows

AXES = ["height", "width", "channels"]
FRONT, DEPTH = "observation.images.front", "observation.images.depth"
FEATURES = {
    "observation.state": {"dtype": "float32", "shape": (3,), "names": None},
    "note": {"dtype": "string", "shape": (1,), "names": None},
    FRONT: {"dtype": "video", "shape": (48, 64, 3), "names": AXES},
    DEPTH: {"dtype": "video", "shape": (48, 64, 1), "names": AXES, "info": {"is_depth_map": True}},
}
FRAMES = 8


def frame_of(k: int) -> dict:
    """Frame k."""
    generator = np.random.default_rng(k)
    return {
        "observation.state": np.full(3, k, np.float32),
        "note": f"note {k}",
        FRONT: generator.integers(0, 256, (48, 64, 3)).astype(np.uint8),
        DEPTH: generator.integers(0, 5000, (48, 64, 1)).astype(np.uint16),
    }


def build(root: Path) -> None:
    """Two committed episodes; in staging an encoded one, an interrupted one with spills, and a journal."""
    schema = Schema(FEATURES)
    writer = DatasetWriter.create(root, fps=30, schema=schema, robot_type="arm")
    for episode in range(2):
        commit(writer, episode, 4)
    folder, encoded = stage(root, 2, 4, features=writer.schema.as_dict(defaults=False))
    before = {path: path.read_bytes() for path in root.glob("meta/**/*") if path.is_file()}
    writer.commit(folder, encoded)
    for path in root.glob("meta/**/*"):  # as if the commit had been cut off before info.json
        if path.is_file() and path.name in ("info.json", "stats.json"):
            path.write_bytes(before[path])
    for spilled in (0, 3):
        capture = EpisodeCapture.prepare(
            Staging(root),
            schema=schema,
            fps=30,
            rgb_encoder=RGBEncoderConfig(vcodec="h264", preset="ultrafast"),
            depth_encoder=DepthEncoderConfig(),
            budget=ByteBudget(64 << 20),
        )
        for k in range(FRAMES):
            capture.add_frame(schema.check(frame_of(k)), "Task", 1000 + k)
        capture.finish()
        capture.manifest.state = "recording"
        capture.manifest.length = None
        capture.folder.save()
        for key, camera in capture.manifest.cameras.items() if spilled else ():
            with closing(RawWriter(capture.path / camera.spill)) as spill:
                for k in range(FRAMES, FRAMES + spilled):
                    spill.write(frame_of(k)[key].squeeze(), k)
    pack = root / ".aiorecord/pack"
    (pack / "videos").mkdir(parents=True)
    shutil.copy(root / f"videos/{FRONT}/chunk-900/file-000.mp4", pack / "videos" / f"{FRONT}-0.mp4")


def read_everything(root: Path) -> str:
    """What opening, surveying and salvaging a dataset, and reading all that is staged, comes to: an outcome.

    Raises:
        Exception: whatever is not an AiorecordError is a bug.
    """
    try:
        info = lost_info(root) or read_info(root)
        unfinished(root, info)
        examine(Staging(root), lambda folder: committed_index(root, info.total_episodes, folder))
        writer = DatasetWriter.open(root)
        found = salvage(writer, Staging(root))
    except AiorecordError as error:
        return f"{type(error).__name__}"
    outcome = [str(episode.state) for episode in found]
    for folder in ready(found):
        try:
            outcome.append(read_staged(folder))
        except AiorecordError as error:
            outcome.append(type(error).__name__)
    return " ".join(outcome)


def read_staged(folder: EpisodeFolder) -> str:
    """Read everything of one episode."""
    manifest = folder.manifest
    rows = read_rows(folder.rows_path, manifest.schema()).num_rows
    counts = [sum(1 for _ in read_frames(folder, key)) for key in manifest.cameras]
    known = [len(list(read_histograms(folder, key))) for key in manifest.cameras]
    encoded = EncodedEpisode.load(folder)
    return f"{rows} rows {counts} frames {known} {'encoded' if encoded else ''}"
