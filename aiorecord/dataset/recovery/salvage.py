"""Finds what an interrupted recording left in staging, judges it, and prepares it for saving.

Recovery follows one rule: undo what ``info.json`` does not count (`DatasetWriter.open` does that), then redo
what staging still holds. `examine` only reads; `carry_out` does what was decided, in steps that can each be
interrupted and repeated.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...errors import AiorecordError, ConfigError, DamageError, StorageError
from ...media.camera_info import depth_differences, depth_settings
from ...options import Partial
from ...printable import get_logger
from ...staging.folder import EpisodeFolder, Staging
from ...staging.manifest import Manifest
from ...staging.unreadable_folder import describe
from ...staging.whole_frames import check_present, soundness
from ...system.storage import each, storage_errors
from ..commit.already_committed import check_committed
from ..commit.writer import DatasetWriter

logger = get_logger(__name__)

WORTH_KEEPING_S = 3.0
"""A kill in the first second of an episode may leave frames without a row, or rows without a frame, for less
than this many seconds. More of them are damage, and nothing is deleted."""

SALVAGED = "salvaged"
"""The key in `Manifest.quality` for the losses of a salvaged episode: ``{"lost": n, "missing": {...}}``."""


class State(enum.StrEnum):
    """The state of an episode folder.

    ``complete``: it ended and waits to be saved. ``interrupted``: it was being recorded, or ended by an
    error. ``committed``: it is in the dataset already. ``empty``: it was prepared and got no frame.
    ``unreadable``: its manifest is invalid. ``damaged``: the content of a file is not what was written.
    ``undetermined``: the disk could not be read, so the state is unknown.
    """

    COMPLETE = "complete"
    INTERRUPTED = "interrupted"
    COMMITTED = "committed"
    EMPTY = "empty"
    UNREADABLE = "unreadable"
    DAMAGED = "damaged"
    UNDETERMINED = "undetermined"


LEFT_ALONE = frozenset({State.UNREADABLE, State.DAMAGED, State.UNDETERMINED})
"""States in which nothing of an episode is changed."""


class Step(enum.StrEnum):
    """What recovery does with an episode.

    ``save``: encode and commit it, after cutting it to its whole frames. ``drop``: delete it with its frames.
    ``stage``: leave it unchanged. ``remove``: delete its folder, which loses nothing.
    """

    SAVE = "save"
    DROP = "drop"
    STAGE = "stage"
    REMOVE = "remove"


@dataclass
class StagedEpisode:
    """One folder of staging.

    Attributes:
        id: its name.
        path: the folder.
        state: its state.
        step: what to do with it.
        frames: whole frames: a row and an image of every camera.
        lost: frames known to have been recorded that are not whole.
        missing: of those, how many lack their row (``rows``) or the image of a camera (its feature key).
        note: details, in words.
        folder: the loaded folder; None if it is unreadable.
        episode_index: its index in the dataset, None before it has one.
        error: why it was not saved, None if it was, or should not be.
        flags: limits that its recording exceeded, known once it is saved.
    """

    id: str
    path: Path
    state: State
    step: Step
    frames: int = 0
    lost: int = 0
    missing: dict[str, int] = field(default_factory=dict)
    note: str = ""
    folder: EpisodeFolder | None = None
    episode_index: int | None = None
    error: str | None = None
    flags: list[str] = field(default_factory=list)

    @property
    def interrupted(self) -> bool:
        """Whether it was interrupted while it was recorded, or ended by an error."""
        return self.state is State.INTERRUPTED

    @property
    def lost_in_dataset(self) -> int:
        """Frames that are permanently lost after the step, without those dropped on request."""
        salvaged = self.step is Step.SAVE or (self.interrupted and self.step is Step.REMOVE)
        return self.lost if salvaged else 0

    def not_saved(self, error: BaseException | None, message: str) -> None:
        """Store why it was not saved, and set the state if the disk failed or the episode is damaged."""
        if isinstance(error, StorageError) and error.reading:
            self.leave(State.UNDETERMINED, undetermined(error))
        elif isinstance(error, DamageError):
            self.leave(State.DAMAGED, damaged(str(error)))
        else:
            self.error = message

    def leave(self, state: State, note: str) -> None:
        """Leave it unchanged; the note says why."""
        self.state, self.step, self.note = state, Step.STAGE, note

    def as_dict(self) -> dict[str, Any]:
        """The episode for a report, JSON-ready."""
        return {
            "episode_id": self.id,
            "found": str(self.state),
            "interrupted": self.interrupted,
            "frames": self.frames,
            "lost": self.lost,
            "missing": dict(self.missing),
            "step": str(self.step),
            "episode_index": self.episode_index,
            "error": self.error,
            "flags": list(self.flags),
            "note": self.note,
        }


def ready(found: list[StagedEpisode]) -> list[EpisodeFolder]:
    """The episodes to save, in the order of recording. They are complete after `carry_out`."""
    return [episode.folder for episode in found if episode.step is Step.SAVE and episode.folder is not None]


def examine(
    staging: Staging, committed: Callable[[EpisodeFolder], int | None], partial: Partial = "keep"
) -> list[StagedEpisode]:
    """Examine staging. Writes nothing; reads the captures of interrupted episodes.

    Args:
        staging: the dataset's staging area.
        committed: returns the index of an episode that is in the dataset already.
        partial: what to do with interrupted episodes that hold a whole frame.

    Returns:
        Every episode folder, in the order of recording.

    Raises:
        DatasetError: `committed` raised it.
        StorageError: the staging area is a symbolic link, or `committed` raised it.
    """
    leftovers = set(staging.leftovers())
    return [_examine(path, committed, partial) for path in staging.episode_paths() if path not in leftovers]


def carry_out(staging: Staging, found: list[StagedEpisode]) -> None:
    """Do what `examine` decided, except saving. Safe to be killed and run again.

    If the disk refuses a step for one episode, the others are still processed. An episode that could not be
    removed stays, with the error noted.

    Raises:
        StorageError: the disk refused to write the manifest of an episode to save.
    """
    try:
        staging.remove_leftovers()
    except StorageError as error:  # a folder without an episode may stay
        logger.warning("A leftover stays in staging: %s", error)
    each(found, _carry_out_one)


def _carry_out_one(episode: StagedEpisode) -> None:
    folder = episode.folder
    if folder is None or episode.step is Step.STAGE:
        if episode.state in LEFT_ALONE:
            logger.warning("Left alone in staging: %s (%s)", episode.path, episode.note)
    elif episode.step is not Step.SAVE:
        try:
            folder.remove()
        except StorageError as error:
            episode.error = str(error)
            logger.warning("It could not be removed from staging: %s", error)
    elif folder.manifest.state == "recording":
        complete_salvaged(folder.manifest, episode)
        folder.save()


def salvage(writer: DatasetWriter, staging: Staging, partial: Partial = "keep") -> list[StagedEpisode]:
    """Run `examine` and `carry_out`, after which episodes to save are complete. Blocking.

    An interrupted episode is kept up to the last frame that has its row and an image of every camera, and is
    marked as interrupted. Staging holds depth in the sensor's values, so an episode recorded with other depth
    settings is encoded with the dataset's.
    """
    found = examine(staging, writer.is_committed, partial)
    carry_out(staging, found)
    if writer.total_episodes:
        for folder in ready(found):
            _take_depth_settings(writer, folder)
    return found


def _take_depth_settings(writer: DatasetWriter, folder: EpisodeFolder) -> None:
    manifest, features = folder.manifest, writer.info.features
    for key, feature in manifest.schema().videos.items():
        if not feature.is_depth or key not in features:
            continue
        info = features[key].get("info")
        if not depth_differences(key, info, manifest.depth_encoder):
            continue
        try:
            changed = replace(manifest.depth_encoder, **depth_settings(info))
        except ConfigError:
            continue  # the commit reports what is wrong with the dataset's
        with storage_errors(folder.path, "encode again"):
            (folder.path / EpisodeFolder.ENCODED).unlink(missing_ok=True)
        manifest.depth_encoder = changed
        folder.save()


def undetermined(error: StorageError) -> str:
    """The note for an episode that could not be read from the disk."""
    return f"could not be read: {error}; nothing was changed; run recover again when the disk can be read"


def damaged(what: str) -> str:
    """The note for a damaged episode."""
    what = what.rstrip(".")
    todo = "restore its files from a copy, or keep the frames before the damage with --accept-loss"
    return f"is damaged: {what}; nothing was changed; {todo}"


def _examine(path: Path, committed: Callable[[EpisodeFolder], int | None], partial: Partial) -> StagedEpisode:
    episode = StagedEpisode(path.name, path, State.UNREADABLE, Step.STAGE)
    try:
        folder = EpisodeFolder.load(path)
        episode.episode_index = committed(folder)
        if episode.episode_index is None:
            _measure(episode, folder, partial)
        else:
            check_committed(path.parents[2], episode.episode_index, folder)
            episode.frames = folder.manifest.length or 0
            episode.state, episode.step, episode.folder = State.COMMITTED, Step.REMOVE, folder
    except StorageError as error:
        episode.leave(State.UNDETERMINED, undetermined(error))
    except DamageError as error:
        episode.leave(State.DAMAGED, f"{damaged(str(error))}. It holds: {describe(path)}.")
    except AiorecordError as error:
        episode.leave(State.UNREADABLE, f"{error} It holds: {describe(path)}.")
    return episode


def _measure(episode: StagedEpisode, folder: EpisodeFolder, partial: Partial) -> None:
    """Determine how far an episode is whole, and what to do with it.

    Raises:
        DatasetError: its rows are of other features.
    """
    manifest = folder.manifest
    kept = {"keep": Step.SAVE, "drop": Step.DROP, "stage": Step.STAGE}[partial]
    episode.folder = folder
    if manifest.state == "complete":
        # Its files are read and compared with their checksums later, at the encode and the commit.
        lacking = check_present(folder)
        episode.frames = manifest.length or 0
        episode.lost, episode.missing = _told(manifest)
        episode.state = State.INTERRUPTED if manifest.interrupted else State.COMPLETE
        episode.step = kept if manifest.interrupted else Step.SAVE
        if lacking:
            episode.leave(State.DAMAGED, damaged("; ".join(lacking)))
        return
    found = soundness(folder)
    episode.frames = found.frames
    episode.lost = found.recorded - found.frames
    episode.missing = {name: found.recorded - n for name, n in found.counts.items() if n < found.recorded}
    episode.state = State.INTERRUPTED if found.recorded else State.EMPTY
    episode.step = kept if episode.frames else Step.REMOVE
    if found.damage:
        episode.leave(State.DAMAGED, damaged("; ".join(found.damage)))
    elif not episode.frames and found.recorded > WORTH_KEEPING_S * manifest.fps:
        lacking = [name for name, n in found.counts.items() if not n]
        note = f"{found.recorded} frames were recorded, of which nothing is readable in {', '.join(lacking)}."
        episode.leave(State.UNREADABLE, note)
    elif not episode.frames and partial == "stage" and found.recorded:
        episode.step = Step.STAGE


def complete_salvaged(manifest: Manifest, episode: StagedEpisode) -> None:
    """Turn an episode that is whole only up to some frame into a complete, shorter one. Not saved yet."""
    manifest.state = "complete"
    manifest.interrupted = True
    manifest.length = episode.frames
    facts = {"lost": episode.lost, "missing": episode.missing}
    manifest.quality = {**manifest.quality, SALVAGED: facts}


def _told(manifest: Manifest) -> tuple[int, dict[str, int]]:
    """The losses that an earlier, killed recovery noted for an episode that it salvaged."""
    facts = manifest.quality.get(SALVAGED)
    if not manifest.interrupted or not isinstance(facts, dict):
        return 0, {}
    missing = facts.get("missing")
    missing = missing if isinstance(missing, dict) else {}
    return _count(facts.get("lost")), {str(name): _count(n) for name, n in missing.items()}


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value >= 0 else 0
