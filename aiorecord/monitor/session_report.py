"""Builds the report of a session, as JSON."""

from __future__ import annotations

import platform
from dataclasses import asdict
from typing import Any

from ..capture.frames import CameraStatus
from ..quality import versions
from ..saving.stages import Stage
from ..session import EpisodeRecord, Session
from ..system.disk import DiskStatus


def build_report(
    session: Session,
    *,
    wall_s: float,
    peak_rss: int,
    interrupted: bool,
    realtime: bool = False,
    error: str | None = None,
) -> dict[str, Any]:
    """Build the report that ``--report`` writes.

    Args:
        session: after it has run.
        wall_s: seconds from start to end.
        peak_rss: bytes of all processes together.
        realtime: the control loop had a real-time policy, see `aiorecord.system.scheduling`.
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
            "realtime": realtime,
            "nonfinite_frames": recorder.get_status().nonfinite_frames,
            "packed": recorder.packed is not None,
        },
        "disk": _disk(recorder.get_status().disk),
        "sources": {status.source: asdict(status) for status in session.sources()},
        "recovered": [episode.as_dict() for episode in recorder.recovered],
        "encode_plan": {key: plan.as_dict() for key, plan in recorder.plans.items()},
        "versions": {**versions(), "platform": platform.platform()},
    }


def _episode(record: EpisodeRecord, cameras: Any) -> dict[str, Any]:
    save = record.save
    result = save.result() if save.done() else None
    folder, capture = save.job.folder, save.job.capture
    captured = {} if capture is None else capture.status().cameras
    return {
        "number": record.number,
        "episode_index": result.episode_index if result else None,
        "stage": save.stage.value,
        "frames": record.frames,
        "duration_s": round(record.duration_s, 6),
        "effective_fps": None if record.effective_fps is None else round(record.effective_fps, 3),
        "lateness": record.lateness,
        "cameras": {key: _camera(captured[key]) for key in cameras if key in captured},
        "calls": folder.manifest.quality.get("calls", {}) if folder is not None else {},
        "flags": record.flags,
        "sources": record.sources,
        "end_reason": record.end_reason,
        "dead_time_s": record.dead_time_s,
        "rerecorded": record.repeats,
        "durable_s": save.times.seconds_to("durable"),
        "encoded_s": save.times.seconds_to("encoded"),
        "committed_s": save.times.seconds_to("committed"),
        "bytes": result.bytes if result else 0,
        "attempts": save.attempts,
        "problems": list(save.problems),
        "error": result.error if result else None,
    }


def _disk(status: DiskStatus | None) -> dict[str, Any]:
    if status is None:
        return {}
    left_s = status.seconds_left
    return {
        "free_bytes": status.free,
        "min_free_bytes": status.reserve,
        "bytes_per_s": None if status.bytes_per_s is None else round(status.bytes_per_s),
        "minutes_left": None if left_s is None else round(left_s / 60, 2),
        "warning": status.describe() if status.is_low else None,
    }


def _camera(status: CameraStatus) -> dict[str, Any]:
    counts = ("captured", "spilled", "late", "repeated", "stale", "lost", "longest_freeze_s", "corrupt")
    return {name: getattr(status, name) for name in counts}
