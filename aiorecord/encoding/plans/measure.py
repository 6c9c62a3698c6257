"""Measures the speed of an encoder as a live capture on this machine. Runs in a worker process."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import av
import numpy as np

from ...encoders import VideoEncoderConfig
from ...media.pixels import new_rgb_frame
from ...staging.histograms import histogram
from ...staging.live import LiveWriter
from ...staging.manifest import Camera
from ...system.machine_time import monotonic_s
from ...system.storage import temporary_folder
from .choice import LiveSpeed

MEASURE_S = 0.6
"""Seconds for which frames are encoded."""

MIN_FRAMES = 3
"""Fewest frames to encode, even if that takes longer."""

_PICTURES = 8


def measure_live(
    encoder: VideoEncoderConfig,
    sizes: Sequence[tuple[int, int]],
    fps: int,
    threads: int | None,
    seconds: float = MEASURE_S,
) -> LiveSpeed:
    """Capture moving pictures live, one encoder and thread per camera as an episode has them, unpaced.

    Blocking: about `seconds`, and some tenths to open the encoders.

    Args:
        encoder: settings of the final video, `vcodec` resolved.
        sizes: (height, width) in pixels of each camera.
        fps: frames per second of the videos.
        threads: threads per encoder, None leaves it to the codec.
        seconds: how long to measure.

    Raises:
        CodecUnavailableError: the encoder cannot be opened.
        EncodeError: it failed.
        StorageError: the temporary folder cannot be written.
    """
    with temporary_folder("measure") as folder:
        pictures = {size: moving_pictures(*size) for size in set(sizes)}
        opened_s: list[float] = []
        writers: list[LiveWriter] = []
        try:
            for number, (height, width) in enumerate(sizes):
                camera = Camera("live", "", encoder.pix_fmt, height, width, "", None)
                # The first is opened twice: one-time work of a library happens before any episode.
                for _ in range(1 if writers else 2):
                    path = folder / f"{number}-{len(opened_s)}.mkv"
                    started_s = monotonic_s()
                    writer = LiveWriter(path, camera, fps, encoder=encoder, threads=threads)
                    opened_s.append(monotonic_s() - started_s)
                    if len(opened_s) == 1:
                        writer.close()
                    else:
                        writers.append(writer)
            stop_s = monotonic_s() + seconds
            begin = threading.Barrier(len(writers))
            with ThreadPoolExecutor(len(writers), "aiorecord-measure") as pool:
                runs = [
                    pool.submit(_encode_until, stop_s, begin, writer, pictures[size])
                    for writer, size in zip(writers, sizes, strict=True)
                ]
                measured = [run.result() for run in runs]
        finally:
            for writer in writers:
                writer.close()
    return LiveSpeed(
        frames_per_s=min(rate for rate, _ in measured),
        held_frames=max(held for _, held in measured),
        open_s=min(opened_s[1:]),
    )


def _encode_until(
    stop_s: float, begin: threading.Barrier, writer: LiveWriter, pictures: list[av.VideoFrame]
) -> tuple[float, int]:
    """Encode until the time is over; returns frames per second and the most frames held back."""
    begin.wait()
    held = count = 0
    started_s = monotonic_s()
    for picture in itertools.cycle(pictures):
        writer.write(picture)
        histogram(np.asarray(picture.to_ndarray(), np.uint8))  # as in the camera's thread
        held = max(held, writer.held_back)
        count += 1
        if monotonic_s() > stop_s and count >= MIN_FRAMES:
            break
    # Frames that are held back have not been encoded completely.
    return max(1, count - writer.held_back) / (monotonic_s() - started_s), held


def moving_pictures(height: int, width: int) -> list[av.VideoFrame]:
    """A textured scene with sensor noise that moves by a few pixels a frame."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0 : width + 4 * _PICTURES]
    scene = 128 + 45 * (np.sin(x / 17) + np.sin(y / 23 + x / 51))
    out = []
    for k in range(_PICTURES):
        frame, pixels = new_rgb_frame(height, width)
        noise = random.integers(-6, 7, (height, width, 3), np.int16)
        moved = scene[:, 4 * k : 4 * k + width, None].astype(np.int16)
        pixels[:] = np.clip(moved + noise, 0, 255)
        out.append(frame)
    return out
