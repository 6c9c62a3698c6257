"""Records one cell with aiorecord: ``python -m aiorecord.bench.bench_child ORDER RESULT``."""

from __future__ import annotations

import asyncio
import sys
import time
from itertools import pairwise
from pathlib import Path

from ..dataset.commit.writer import DatasetWriter
from ..encoders import RGBEncoderConfig
from ..encoding.camera_encoding import direct_encode
from ..errors import AiorecordError
from ..media.video_file import count_packets
from ..quality import versions
from ..recording.recorder import Recorder
from ..system.memory import configure_allocator, spare_collections
from ..system.scheduling import realtime
from .benchmark_images import FrameRing, make_ring
from .cell import Measurement, Order
from .resource_usage import PeakRss, cpu_s


def main(argv: list[str]) -> int:
    """Carry out the order in the first file, write the measurement to the second."""
    configure_allocator()  # as the command does
    order = Order.read(Path(argv[0]))
    measured = Measurement(order.system, order.cell)
    measured.versions = versions()
    try:
        ring = make_ring(order.cell)
        if order.system == "bare":
            encode_only(order, ring, measured)
        else:
            cpu = cpu_s()
            with PeakRss() as memory:
                asyncio.run(record(order, ring, measured))
            measured.cpu_s = cpu_s() - cpu
            measured.peak_rss_bytes = max(0, memory.peak - ring.nbytes)
    except AiorecordError as error:
        measured.error = str(error)
    measured.write(Path(argv[1]))
    return 0


async def record(order: Order, ring: FrameRing, measured: Measurement) -> None:
    """Record the episodes of a cell one after another, then wait for their saves."""
    cell = order.cell
    measured.frames = cell.episodes * cell.frames_per_episode * cell.cameras
    root = order.folder / "set"
    times: list[list[int]] = []  # of each episode's frames
    async with Recorder(
        "bench/set",
        fps=cell.fps,
        features=cell.features,
        root=root,
        encode=cell.encode,
        rgb_encoder=RGBEncoderConfig(vcodec=cell.codec),
    ) as recorder:
        spare_collections()  # likewise
        with realtime():  # likewise
            for _ in range(cell.episodes):
                times.append(await record_episode(recorder, ring, measured))
        ended_ns = time.perf_counter_ns()
        measured.backlog_frames = recorder.saver.backlog().frames
        await recorder.drain()
        await recorder.pack()
        measured.drain_s = (time.perf_counter_ns() - ended_ns) / 1e9
        measured.plan = {key: f"{p.mode}, {p.codec}: {p.why}" for key, p in recorder.plans.items()}
    note_times(measured, times)
    count_frames(root, measured)


async def record_episode(recorder: Recorder, ring: FrameRing, measured: Measurement) -> list[int]:
    """Record one episode; returns when each frame was taken, in nanoseconds."""
    times: list[int] = []
    async with recorder.episode("benchmark") as episode:
        async for tick in recorder.ticks(measured.cell.seconds):
            measured.late_ms.append(tick.late_s * 1000)
            measured.missed += tick.missed
            frame = ring.frame(tick.index)
            before_ns = time.perf_counter_ns()
            episode.add_frame(frame)
            times.append(time.perf_counter_ns())
            measured.add_frame_ms.append((times[-1] - before_ns) / 1e6)
    return times


def note_times(measured: Measurement, times_ns: list[list[int]]) -> None:
    """Fill in the figures that follow from the times at which each episode's frames were taken."""
    first_ns = times_ns[0][0]
    measured.tick_s = [(time_ns - first_ns) / 1e9 for episode in times_ns for time_ns in episode]
    measured.recording_s = (times_ns[-1][-1] - first_ns) / 1e9 + 1 / measured.cell.fps
    measured.dead_s = [(after[0] - before[-1]) / 1e9 for before, after in pairwise(times_ns)]


def count_frames(root: Path, measured: Measurement) -> None:
    """Count what is in the dataset: rows by its metadata, frames by reading the videos."""
    writer = DatasetWriter.open(root)
    measured.rows = writer.total_frames * measured.cell.cameras
    measured.video_frames = sum(count_packets(path) for path in sorted(root.glob("videos/**/*.mp4")))


def encode_only(order: Order, ring: FrameRing, measured: Measurement) -> None:
    """Encode one episode's pictures, camera by camera, and do nothing else."""
    cell = order.cell
    encoder = RGBEncoderConfig(vcodec=cell.codec)
    cpu, start_ns = cpu_s(), time.perf_counter_ns()
    for name in cell.camera_names:
        key = f"observation.images.{name}"
        pictures = (ring.picture(key, n) for n in range(cell.frames_per_episode))
        frames = direct_encode(pictures, order.folder / f"{name}.mp4", encoder, cell.fps)
        measured.rows += frames
        measured.video_frames += frames
    measured.frames = measured.rows
    measured.cpu_s = cpu_s() - cpu
    measured.drain_s = (time.perf_counter_ns() - start_ns) / 1e9


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
