"""The session report: what happened, as JSON."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

from ..encoders import VideoEncoderConfig
from ..saves import Stage
from ..session import EpisodeRecord, Session


def build_report(
    session: Session, *, wall_s: float, peak_rss: int, interrupted: bool, error: str | None = None
) -> dict[str, Any]:
    """Everything that ``--report`` writes.

    Args:
        session: after it has run.
        wall_s: seconds from start to end.
        peak_rss: bytes of all processes together.
        interrupted: ended by a signal or an error rather than by plan or operator.
        error: what ended it, None if nothing did.
    """
    recorder = session.recorder
    episodes = [_episode(record, recorder.schema.cameras) for record in session.records]
    return {
        "repo_id": recorder.repo_id,
        "root": str(recorder.root),
        "fps": recorder.fps,
        "task": session.plan.task,
        "interrupted": interrupted,
        "error": error,
        "episodes": episodes,
        "session": {
            "episodes": len(episodes),
            "committed": sum(e["stage"] == Stage.COMMITTED for e in episodes),
            "failed": sum(e["stage"] == Stage.FAILED for e in episodes),
            "rerecorded": session.dropped,
            "frames": sum(e["frames"] for e in episodes),
            "total_wall_s": round(wall_s, 3),
            "peak_rss_bytes": peak_rss,
            "nonfinite_frames": recorder.get_status().nonfinite_frames,
            "packed": recorder.packed is not None,
        },
        "encode_plan": {
            key: _plan(recorder.encoders.get(key), feature.is_depth, recorder.fps)
            for key, feature in recorder.schema.cameras.items()
        },
        "versions": {
            "aiorecord": version("aiorecord"),
            "python": platform.python_version(),
            "av": version("av"),
            "platform": platform.platform(),
        },
    }


def _episode(record: EpisodeRecord, cameras: Any) -> dict[str, Any]:
    save = record.save
    result = save.result() if save.done() else None
    folder = save.folder
    captured: dict[str, dict[str, int]] = {}
    for key in cameras:
        camera = folder.manifest.cameras[key] if folder is not None else None
        taken = None if camera is None or camera.frames is None else camera.frames + camera.spilled
        captured[key] = {
            "captured": record.frames if taken is None else taken,
            "lost": 0 if taken is None else record.frames - taken,
            "spilled": 0 if camera is None else camera.spilled,
        }
    return {
        "number": record.number,
        "episode_index": result.episode_index if result else None,
        "stage": save.stage.value,
        "frames": record.frames,
        "duration_s": round(record.duration_s, 6),
        "lateness": record.lateness,
        "cameras": captured,
        "dead_time_s": record.dead_time_s,
        "rerecorded": record.repeats,
        "durable_s": save.times.seconds_to("durable"),
        "encoded_s": save.times.seconds_to("encoded"),
        "committed_s": save.times.seconds_to("committed"),
        "bytes": result.bytes if result else 0,
        "error": result.error if result else None,
    }


def _plan(encoder: VideoEncoderConfig | None, is_depth: bool, fps: int) -> dict[str, Any]:
    capture = "raw sensor values, LZ4" if is_depth else "x264 lossless"
    if encoder is None:
        why = "images are stored as PNG in Parquet; PNG is too slow to compress beside the robot"
        return {"plan": "deferred", "capture": capture, "codec": "png", "why": why}
    why = (
        f"frames are captured losslessly at {fps} fps, which costs a fraction of {encoder.vcodec}, "
        "and encoded behind the robot"
    )
    return {"plan": "deferred", "capture": capture, "codec": encoder.vcodec, "why": why}
