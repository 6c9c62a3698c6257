"""Measures which codecs work on this machine and how fast they are, in a worker process as encodes run."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from ..capture.camera_plan import plan_camera
from ..encoders import HARDWARE_CODECS, RGBEncoderConfig
from ..encoding.plans.measure import moving_pictures
from ..errors import AiorecordError
from ..features import Feature
from ..staging.live import LiveWriter
from ..staging.lossless import LosslessWriter
from ..staging.manifest import Camera
from ..system.processor import usable_processors
from ..system.storage import temporary_folder
from ..workers.pool import WorkerPool
from .diagnosis import Finding, Level

WIDTH, HEIGHT, FPS = 640, 480, 30
MEASURE_S = 0.3
"""Seconds of processor time per codec. Wall-clock time may be longer: workers run at idle priority."""

LONGEST_S = 4.0
MIN_FRAMES = 5
SOFTWARE = ("libsvtav1", "h264", "hevc")
ANSWER_S = 60.0
"""Seconds after which a codec that does not answer counts as hanging, which drivers sometimes do."""

PYAV = "PyAV's wheels have it: uv pip install --reinstall av."


def codecs() -> Iterator[Finding]:
    """How many frames a second each codec takes: the capture, the software codecs, the hardware's."""
    pool = WorkerPool(1, name="aiorecord-doctor")
    try:
        found = [("capture", _answer(pool.submit(measure, None, MEASURE_S)))]
        for codec in (*SOFTWARE, *HARDWARE_CODECS):
            found.append((codec, _answer(pool.submit(measure, codec, MEASURE_S))))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    missing = []
    for codec, answer in found:
        if codec in HARDWARE_CODECS and isinstance(answer, str):
            missing.append(codec)
        else:
            yield _finding(codec, answer)
    if missing:
        yield Finding("hardware", f"these do not open here: {', '.join(missing)}", Level.NOTE)


def measure(codec: str | None, seconds: float) -> tuple[float, float]:
    """Encode moving pictures as fast as it goes. Blocking; made to run in a worker.

    Args:
        codec: one of the final videos, None for the lossless capture.
        seconds: of processor time, about; at least `MIN_FRAMES` are encoded.

    Returns:
        Frames per second, and seconds of processor time for each.

    Raises:
        CodecUnavailableError: it cannot be opened here.
        EncodeError: it failed.
        StorageError: the temporary folder cannot be written.
    """
    encoder = RGBEncoderConfig(vcodec=codec or "libsvtav1")
    with temporary_folder("doctor") as folder:
        writer: Any
        if codec is None:
            camera = plan_camera(Feature("camera", "video", (HEIGHT, WIDTH, 3)), encoder)
            writer = LosslessWriter(folder / "camera", camera, FPS)
        else:
            camera = Camera("live", "", encoder.pix_fmt, HEIGHT, WIDTH, "", None)
            writer = LiveWriter(folder / "camera.mkv", camera, FPS, encoder=encoder, threads=None)
        try:
            pictures = moving_pictures(HEIGHT, WIDTH)
            writer.write(pictures[0])  # also opens it
            started_s, started_cpu_s = time.perf_counter(), time.process_time()
            for count, picture in enumerate(itertools.cycle(pictures), start=1):
                writer.write(picture)
                took_s, cpu_s = time.perf_counter() - started_s, time.process_time() - started_cpu_s
                if count >= MIN_FRAMES and (cpu_s > seconds or took_s > LONGEST_S):
                    break
        finally:
            writer.close()
        # Frames that an encoder holds back are encoded when it is closed, so this time counts too.
        took_s, cpu_s = time.perf_counter() - started_s, time.process_time() - started_cpu_s
        return count / took_s, cpu_s / count


def _answer(work: Future[tuple[float, float]]) -> tuple[float, float] | str:
    try:
        return work.result(ANSWER_S)
    except AiorecordError as error:
        return str(error).partition("\n")[0]
    except TimeoutError:
        return f"no answer within {ANSWER_S:g} s"


def _finding(codec: str, answer: tuple[float, float] | str) -> Finding:
    """The finding about a codec that should be available."""
    default = codec == RGBEncoderConfig().vcodec
    name = f"{codec} (the default)" if default else codec
    if isinstance(answer, str):
        level = Level.BLOCK if codec == "capture" else Level.WARN
        return Finding(name, f"does not work here: {answer}", level, PYAV)
    rate, cpu_s = answer
    text = f"{rate:.0f} frames/s of {WIDTH}x{HEIGHT}, {1e3 * cpu_s:.1f} ms of processor time each"
    cameras = usable_processors() / max(
        cpu_s * FPS, 1e-9
    )  # cameras that the processors can encode if they do nothing else
    if codec == "capture" and cameras < 4:
        advice = f"That is enough for {max(1, int(cameras / 2))} camera(s): use fewer or smaller pictures."
        return Finding(name, text, Level.WARN, advice)
    if codec != "capture" and cameras < 1:
        text += f": slower than one camera at {FPS} fps, so that saves wait on disk"
        advice = (
            "Nothing is lost by it. `aiorecord bench` measures what keeps up (vcodec=h264 is the fastest)."
        )
        return Finding(name, text, Level.NOTE, advice)
    return Finding(name, text)
