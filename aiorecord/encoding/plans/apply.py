"""Before recording begins, opens every codec for a trial and chooses a plan for each camera."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace

from ...encoders import DepthEncoderConfig, RGBEncoderConfig, VideoEncoderConfig
from ...features import Schema
from ...options import RecorderOptions
from ...system.threads import Threads
from ...workers.pool import WorkerPool
from ..camera_encoding import fallback_encoder
from .calibration import speed_or_reason
from .choice import EncodePlan, LiveSpeed, choose_plans, live_candidates
from .speeds import SpeedQuestion
from .trial import check_executor, try_encoder


async def try_encoders(
    schema: Schema, options: RecorderOptions, fps: int, executor: Executor, threads: Threads
) -> dict[str, VideoEncoderConfig]:
    """Open every codec once, in a worker: in this process it would hold the GIL and leave threads behind.

    Args:
        schema: the features.
        options: ``auto`` in its encoders is replaced by the actual codec.
        fps: frames per second.
        executor: opens them.
        threads: one of them waits for the worker.

    Returns:
        The settings of each camera's video.

    Raises:
        CodecUnavailableError: one cannot be opened as configured.
        StateError: the executor does not work.
    """
    if isinstance(executor, ThreadPoolExecutor):
        check_executor(executor)
        # A codec that crashes instead of refusing would end the whole program.
        pool = WorkerPool(1)
        try:
            return await try_encoders(schema, options, fps, pool, threads)
        finally:
            await threads.run(
                pool.shutdown
            )  # wait until its last thread has ended, also when this is cancelled
    for is_depth in (False, True):
        cameras = [f for f in schema.videos.values() if f.is_depth == is_depth]
        for height, width in sorted({f.size_hwc[:2] for f in cameras}):
            encoder = options.depth_encoder if is_depth else options.rgb_encoder
            vcodec = await try_encoder(executor, encoder, width, height, fps, options.encoder_threads)
            if vcodec != encoder.vcodec:  # "auto" was resolved
                if isinstance(encoder, DepthEncoderConfig):
                    options.depth_encoder = replace(encoder, vcodec=vcodec)
                elif isinstance(encoder, RGBEncoderConfig):
                    options.rgb_encoder = replace(encoder, vcodec=vcodec)
    await _check_fallback(schema, options, fps, executor)
    return {
        key: options.depth_encoder if feature.is_depth else options.rgb_encoder
        for key, feature in schema.videos.items()
    }


async def _check_fallback(schema: Schema, options: RecorderOptions, fps: int, executor: Executor) -> None:
    """Open the fallback codec too: a failure when it is needed would be found too late."""
    vcodec, encoder = options.fallback_vcodec, options.rgb_encoder
    if vcodec is None or vcodec == encoder.vcodec:
        return
    for height, width in {f.size_hwc[:2] for f in schema.videos.values() if not f.is_depth}:
        fallback = fallback_encoder(encoder, vcodec)
        await try_encoder(executor, fallback, width, height, fps, options.encoder_threads)


async def plan_cameras(
    schema: Schema, options: RecorderOptions, fps: int, executor: Executor, threads: Threads
) -> dict[str, EncodePlan]:
    """Decide how each camera is captured. Measures only codecs that may be fast enough, and only once.

    Args:
        schema: the features.
        options: with the codecs set by `try_encoders`.
        fps: frames per second.
        executor: runs the measurement.
        threads: where the file of known speeds is read and written.
    """
    cameras = schema.cameras
    candidates = live_candidates(cameras, options.rgb_encoder, fps, options.encode)
    speed: LiveSpeed | str = "there was nothing to measure"
    if candidates:
        sizes = [cameras[key].size_hwc[:2] for key in candidates]
        question = SpeedQuestion(options.rgb_encoder, sizes, fps, options.encoder_threads)
        speed = await speed_or_reason(question, executor, threads)
    return choose_plans(cameras, options.rgb_encoder, options.depth_encoder, fps, options.encode, speed)
