"""Records one cell of a benchmark with lerobot itself.

``python -m aiorecord.lerobot.lerobot_bench_child ORDER RESULT``.
"""

from __future__ import annotations

import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

from ..bench.bench_child import note_times
from ..bench.benchmark_images import FrameRing, make_ring
from ..bench.cell import Measurement, Order
from ..bench.resource_usage import PeakRss, cpu_s
from ..media.video_file import count_packets

IMAGE_WRITER_THREADS_PER_CAMERA = 4
"""The value that `lerobot-record` uses (lerobot 0.6.1, `num_image_writer_threads_per_camera`)."""


def main(argv: list[str]) -> int:
    """Carry out the order in the first file, write the measurement to the second."""
    order = Order.read(Path(argv[0]))
    measured = Measurement(order.system, order.cell)
    measured.versions = {name: version(name) for name in ("lerobot", "torch", "av")}
    measured.versions["python"] = platform.python_version()
    ring = make_ring(order.cell)
    cpu = cpu_s()
    with PeakRss() as memory:
        record(order, ring, measured)
    measured.cpu_s = cpu_s() - cpu
    measured.peak_rss_bytes = max(0, memory.peak - ring.nbytes)
    measured.write(Path(argv[1]))
    return 0


def record(order: Order, ring: FrameRing, measured: Measurement) -> None:
    """Record the episodes of a cell as lerobot's record loop does: add frames, sleep, save, again.

    A tick's lateness is the time since the previous tick, minus one period: lerobot's loop sleeps for the
    rest of a period and does not catch up.
    """
    from lerobot.configs.video import RGBEncoderConfig
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from lerobot.utils.robot_utils import precise_sleep

    cell = order.cell
    root = order.folder / "set"
    measured.frames = cell.episodes * cell.frames_per_episode * cell.cameras
    streaming = order.system == "lerobot-streaming"
    dataset = LeRobotDataset.create(
        "bench/set",
        cell.fps,
        cell.features,
        root=root,
        use_videos=True,
        image_writer_threads=0 if streaming else IMAGE_WRITER_THREADS_PER_CAMERA * cell.cameras,
        rgb_encoder=RGBEncoderConfig(vcodec=cell.codec),
        streaming_encoding=streaming,
    )
    times: list[list[int]] = []
    ended_ns = 0
    for _ in range(cell.episodes):
        times.append([])
        # lerobot ends an episode by the clock; a slow loop then has fewer ticks.
        start_s = time.perf_counter()
        while time.perf_counter() - start_s < cell.seconds:
            tick_ns = time.perf_counter_ns()
            late_ns = tick_ns - times[-1][-1] - 1e9 / cell.fps if times[-1] else 0.0
            measured.late_ms.append(max(0.0, late_ns / 1e6))
            dataset.add_frame({**ring.frame(len(times[-1])), "task": "benchmark"})
            measured.add_frame_ms.append((time.perf_counter_ns() - tick_ns) / 1e6)
            times[-1].append(tick_ns)
            precise_sleep(max(1 / cell.fps - (time.perf_counter_ns() - tick_ns) / 1e9, 0.0))
        ended_ns = time.perf_counter_ns()
        dataset.save_episode()
    dataset.finalize()
    measured.drain_s = (time.perf_counter_ns() - ended_ns) / 1e9
    mode = "encoded while recording" if streaming else "PNG files, encoded when the episode ends"
    measured.plan = dict.fromkeys(dataset.meta.video_keys, f"{mode}, {cell.codec}")
    note_times(measured, times)
    measured.rows = dataset.meta.total_frames * cell.cameras
    measured.missed = measured.frames // cell.cameras - dataset.meta.total_frames
    measured.video_frames = sum(count_packets(path) for path in sorted(root.glob("videos/**/*.mp4")))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
