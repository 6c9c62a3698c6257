"""Prints a table of the episodes that recovery found in staging, and what was done with each."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from ..dataset.recovery.salvage import LEFT_ALONE, StagedEpisode, State, Step

_DOING = {Step.SAVE: "save", Step.DROP: "drop", Step.STAGE: "leave in staging", Step.REMOVE: "remove"}
_DONE = {Step.SAVE: "saved", Step.DROP: "dropped", Step.STAGE: "left in staging", Step.REMOVE: "removed"}


def table_of(episodes: Sequence[StagedEpisode], *, done: bool) -> Table:
    """One row per folder of staging.

    Args:
        episodes: the episodes found.
        done: the steps were carried out; else the table shows what would be done.
    """
    table = Table(box=None, pad_edge=False)
    table.add_column("episode", no_wrap=True)
    table.add_column("found", no_wrap=True)
    table.add_column("frames", justify="right")
    table.add_column("lost", justify="right")
    table.add_column("outcome" if done else "would be done", overflow="fold")
    table.add_column("index", justify="right")
    for episode in episodes:
        wrong = episode.error is not None or episode.state in LEFT_ALONE
        table.add_row(
            episode.id,
            str(episode.state),
            "" if episode.state in LEFT_ALONE else str(episode.frames),
            Text(str(episode.lost) if episode.lost else ""),
            Text(
                outcome(episode, done=done),
                style="red" if wrong else "",
            ),
            "" if episode.episode_index is None else str(episode.episode_index),
        )
    return table


def outcome(episode: StagedEpisode, *, done: bool) -> str:
    """The outcome of an episode, or the planned one, in words."""
    if episode.error is not None:
        return f"FAILED, stays in staging: {episode.error}"
    parts = [(_DONE if done else _DOING)[episode.step]]
    if episode.state is State.COMMITTED:
        parts.append("is in the dataset already")
    elif episode.step is Step.SAVE and episode.interrupted:
        parts.append("the frames that reached the disk")
    elif episode.step is Step.DROP:
        parts.append(f"{episode.frames} frames, as requested")
    elif episode.step is Step.REMOVE and episode.interrupted:
        parts.append("no frame of it is whole")
    if episode.missing:
        parts.append("missing: " + ", ".join(f"{name} {n}" for name, n in episode.missing.items()))
    if episode.flags:
        parts.append("flagged: " + ", ".join(episode.flags))
    if episode.note:
        parts.append(episode.note)
    return "; ".join(parts)
