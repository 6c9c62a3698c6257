"""The last lines of a recording: how it was encoded, where the dataset is, what is in it, how to load it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from ..monitor.text import time_text
from ..plans import EncodePlan
from ..session import Session


def plan_lines(plans: Mapping[str, EncodePlan]) -> list[str]:
    """How the cameras' frames became video, a line for each different answer."""
    cameras: dict[str, list[str]] = {}
    for key, plan in plans.items():
        name = key.removeprefix("observation.images.")
        cameras.setdefault(f"{plan.mode}, {plan.codec}: {plan.why}", []).append(name)
    return [f"encoding  {', '.join(names)}: {how}" for how, names in cameras.items()]


def summary_lines(session: Session, left_early: bool) -> list[str]:
    """A line for each encode plan, three for the dataset, and more only for what is wrong or unfinished."""
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
    lines = [*plan_lines(recorder.plans), *lines]
    if not writer.total_episodes:
        lines = ["Nothing was recorded."]
    recover = f"aiorecord recover {shlex.quote(str(recorder.root))}"
    flagged = [record for record in session.records if record.flags]
    for record in flagged:
        lines.append(f"episode {record.number} is FLAGGED: {'; '.join(record.flags)}")
    if flagged:
        lines.append(
            f"{len(flagged)} of {len(session.records)} episodes are flagged: look at them, or drop them."
        )
    for record in session.records:
        lines += [f"episode {record.number}: {problem}" for problem in record.save.problems]
        if record.save.done() and not record.save.result().success and not left_early:
            lines.append(f"episode {record.number} was NOT saved: {record.save.result().error}")
    unsaved = [r for r in session.records if not (r.save.done() and r.save.result().success)]
    durable = sum(r.save.is_durable for r in unsaved)
    if durable:
        lines.append(f"{durable} episode(s) wait in staging, safe on disk. Finish them: {recover}")
    if torn := [str(r.number) for r in unsaved if not r.save.is_durable]:
        lines.append(
            f"NOT on disk whole: episode {', '.join(torn)}. "
            f"What reached the disk is in staging; keep it: {recover}"
        )
    return lines
