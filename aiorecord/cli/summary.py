"""The last three lines of a recording: where the dataset is, what is in it, how to load it."""

from __future__ import annotations

import shlex

from ..monitor.text import time_text
from ..session import Session


def summary_lines(session: Session, left_early: bool) -> list[str]:
    """Three lines, and more only for what went wrong or is unfinished."""
    recorder = session.recorder
    writer = recorder.writer
    frames = writer.total_frames
    cameras = ", ".join(key.removeprefix("observation.images.") for key in recorder.schema.cameras) or "none"
    lines = [
        f"dataset   {recorder.root}",
        f"contents  {writer.total_episodes} episodes, {frames} frames ({time_text(frames / recorder.fps)} "
        f"at {recorder.fps} fps), cameras: {cameras}",
        "load      from lerobot.datasets import LeRobotDataset; "
        f"dataset = LeRobotDataset({recorder.repo_id!r}, root={str(recorder.root)!r})",
    ]
    if not writer.total_episodes:
        lines = ["Nothing was recorded."]
    recover = f"aiorecord recover {shlex.quote(str(recorder.root))}"
    for record in session.records:
        if record.save.done() and not record.save.result().success and not left_early:
            lines.append(f"episode {record.number} was NOT saved: {record.save.result().error}")
    unsaved = sum(not (r.save.done() and r.save.result().success) for r in session.records)
    if unsaved:
        lines.append(f"{unsaved} episode(s) wait in staging, safe on disk. Finish them: {recover}")
    return lines
