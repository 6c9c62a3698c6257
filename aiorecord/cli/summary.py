"""The last lines of a recording: how it was encoded, where the dataset is, what it holds, how to load it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from ..dataset.recovery.salvage import Step
from ..encoding.plans.choice import EncodePlan
from ..monitor.units import time_text
from ..recording.recorder import Recorder
from ..session import EpisodeRecord, Phase, Session


def plan_lines(plans: Mapping[str, EncodePlan]) -> list[str]:
    """How the cameras' frames became video, a line for each different answer."""
    cameras: dict[str, list[str]] = {}
    for key, plan in plans.items():
        name = key.removeprefix("observation.images.")
        cameras.setdefault(f"{plan.mode}, {plan.codec}: {plan.why}", []).append(name)
    return [f"encoding  {', '.join(names)}: {how}" for how, names in cameras.items()]


def left_over(recorder: Recorder) -> int:
    """How many episodes of an earlier session are still unfinished. Blocking."""
    return sum(episode.step is Step.SAVE and episode.path.exists() for episode in recorder.recovered)


def leaving_line(session: Session) -> str:
    """What happens when the operator leaves before all is saved, in a sentence or two."""
    if session.phase is Phase.UPLOADING:
        return "The upload is stopped. The dataset is complete on this disk."
    waiting = [save for save in session.recorder.saver.pending if not save.done()]
    if not waiting:
        return "Leaving. Nothing waits to be saved."
    text = f"Leaving: encoding stops, {_count(len(waiting), 'episode stays', 'episodes stay')} in staging."
    if torn := sum(not save.is_durable for save in waiting):
        text += f" {_count(torn, 'of them is', 'of them are')} written to disk first."
    return text


def summary_lines(session: Session, left_early: bool, earlier: int = 0) -> list[str]:
    """A line for each encode plan, three for the dataset, and more only for what is wrong or unfinished.

    Args:
        session: after it has run; its recorder is closed.
        left_early: the operator did not wait until all was saved.
        earlier: unfinished episodes of an earlier session, see `left_over`.
    """
    recorder = session.recorder
    writer = recorder.writer
    frames = writer.total_frames
    cameras = ", ".join(key.removeprefix("observation.images.") for key in recorder.schema.cameras) or "none"
    unsaved = [r for r in session.records if not (r.save.done() and r.save.result().success)]
    lines = plan_lines(recorder.plans) if writer.total_episodes else []
    for record in session.records:
        lines += _problems(session, record, left_early)
    if flagged := sum(bool(record.flags) for record in session.records):
        lines.append(
            f"{flagged} of {len(session.records)} episodes {'is' if flagged == 1 else 'are'} flagged: "
            "look at them, or drop them."
        )
    if writer.total_episodes:
        lines += [
            f"dataset   {recorder.root}",
            f"contents  {_count(writer.total_episodes, 'episode', 'episodes')}, {frames} frames "
            f"({time_text(frames / recorder.fps)} at {recorder.fps} fps), cameras: {cameras}",
            "load      from lerobot.datasets import LeRobotDataset; "
            f"dataset = LeRobotDataset({recorder.repo_id!r}, root={str(recorder.root)!r})",
        ]
    elif unsaved or earlier:
        lines += [f"dataset   {recorder.root}", "contents  no episode yet"]
    else:
        lines.append("Nothing was recorded.")
    return lines + _unfinished(session, unsaved, left_early, earlier)


def _problems(session: Session, record: EpisodeRecord, left_early: bool) -> list[str]:
    """The problems of one take, a line each."""
    name, save = session.name_of(record.save), record.save
    lines = []
    if record.end_reason is not None:
        wanted = round(session.plan.episode_time_s * session.recorder.fps)
        lines.append(f"{name} was CUT SHORT after {record.frames} of {wanted} frames: {record.end_reason}")
    if record.flags:
        lines.append(f"{name} is FLAGGED: {'; '.join(record.flags)}")
    lines += [f"{name}: {problem}" for problem in save.problems]
    if save.done() and not save.result().success and not left_early:
        lines.append(f"{name} was NOT saved: {save.result().error}")
    return lines


def _unfinished(session: Session, unsaved: list[EpisodeRecord], left_early: bool, earlier: int) -> list[str]:
    """What is safe, what waits, and the command that saves it; empty if all is saved."""
    lines = []
    torn = [record for record in unsaved if not record.save.is_durable]
    waiting = len(unsaved) - len(torn)
    if left_early and len(unsaved) < len(session.records):
        count = len(session.records) - len(unsaved)
        lines.append(f"safe      {_count(count, 'take', 'takes')} of this session: in the dataset")
    if waiting:
        what = _count(waiting, "episode waits", "episodes wait")
        lines.append(f"waiting   {what} in staging, safe on disk" + ", to be encoded" * left_early)
    if earlier:
        what = _count(earlier, "episode waits", "episodes wait")
        lines.append(f"waiting   {what} in staging from an earlier session, safe on disk as before")
    if torn:
        names = ", ".join(f"take {record.number}" for record in torn)
        lines.append(f"NOT on disk whole: {names}. What reached the disk is in staging.")
    if lines and (waiting or earlier or torn):
        lines.append(f"finish    aiorecord recover {shlex.quote(str(session.recorder.root))}")
    return lines


def _count(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
