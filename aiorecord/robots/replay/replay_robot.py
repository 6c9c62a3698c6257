"""A robot and a teleoperator that play recorded videos and trajectories in real time."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError, StateError
from ...features import DEFAULT_FEATURES
from ...printable import get_logger
from ..protocols import Features, Values
from ..schema import ACTION, IMAGES, STATE, dataset_features, is_action_key
from ..sim.arm import HOME, JOINT_NAMES, LOWER, UPPER
from .film import probe
from .prefetch import Prefetch
from .recorded_dataset import ReplayDataset
from .video_source import Clip, Converter, depth_converter, endless_frames, resampled, rgb_converter

logger = get_logger(__name__)

ROWS_AHEAD = 64
_SWING_DEG = (38.0, 24.0, 20.0, 18.0, 30.0, 34.0)
_LAG_S = 0.1


@dataclass
class ReplayRobotConfig:
    """Settings of the replaying robot. `root` or `videos` is needed."""

    # Folder of a LeRobotDataset v3.0: its cameras and states are replayed.
    root: str | None = None
    # Video files by camera name, looped. With root as well: the states are the dataset's, the cameras these.
    videos: dict[str, str] = field(default_factory=dict)
    # Cameras of the dataset to replay, by name; all if unset.
    cameras: list[str] | None = None
    # Episodes of the dataset to replay, in this order; all if unset.
    episodes: list[int] | None = None
    # Scale colour videos to this width; their own if unset.
    width: int | None = None
    # Scale colour videos to this height; their own if unset.
    height: int | None = None
    # Frames decoded ahead per camera.
    prefetch: int = 8
    # time: each step advances by 1/fps s, whatever the recording's rate. frames: every frame is used once.
    pace: str = "time"
    # Seed of the artificial joint motion that is used without a dataset.
    seed: int = 0
    # Observations per second; if unset, the dataset's rate, or 30 without a dataset.
    fps: int | None = None


@dataclass
class ReplayTeleopConfig:
    """Settings of the replaying teleoperator; give it the robot's."""

    # Folder of a LeRobotDataset v3.0: its actions are replayed. If unset, a smooth artificial motion.
    root: str | None = None
    # Episodes of the dataset to replay, in this order; all if unset.
    episodes: list[int] | None = None
    # time: each step advances by 1/fps s, whatever the dataset's rate. frames: every action is used once.
    pace: str = "time"
    # Seed of the artificial motion that is used without a dataset.
    seed: int = 0
    # Actions per second; if unset, the dataset's rate, or 30 without a dataset.
    fps: int | None = None


class _ReplayingDevice:
    """Base class of `ReplayRobot` and `ReplayTeleoperator`: its rows are read ahead while it is connected."""

    name = "replay"
    _source: str  # "robot" or "teleoperator", in errors
    _action: Features

    def __init__(self) -> None:
        self._rows: Prefetch[Values] | None = None

    @property
    def is_connected(self) -> bool:
        """Between `connect` and `disconnect`."""
        return self._rows is not None

    @property
    def action_features(self) -> Features:
        """The dataset's actions, or ``action`` (6,)."""
        return dict(self._action)

    def _connected_rows(self) -> Prefetch[Values]:
        if self._rows is None:
            raise StateError(f"The replay {self._source} is not connected; call connect() first.")
        return self._rows


class ReplayRobot(_ReplayingDevice):
    """Replays a dataset or video files; actions sent to it change nothing.

    Observation k is what the recording shows k/fps seconds after its beginning, in an endless loop: a
    recording with another rate than `fps` keeps its speed. With the pace ``frames`` each observation takes
    the next frame of every camera instead. Calling late or early changes neither. Frames are decoded ahead in
    one thread per camera; when decoding is behind, `get_observation` waits. Returned arrays are new and
    belong to the caller.

    Args:
        config: the settings.

    Raises:
        ConfigError: a file is missing or holds no video, `root` is not a dataset of version 3.0, it has no
            such camera or episode, or a number is out of range.
    """

    new_images = True
    _source = "robot"

    def __init__(self, config: ReplayRobotConfig) -> None:
        super().__init__()
        self.config = config
        _check(config)
        self._dataset = None if config.root is None else ReplayDataset(config.root, config.episodes)
        self._observation, self._action = _row_features(self._dataset)
        self._fps = config.fps or (30 if self._dataset is None else self._dataset.fps)
        self._sources: dict[str, tuple[list[Clip], Converter, float | None]] = {}
        self._pictures: list[str] = []  # cameras stored in the rows
        if config.videos:
            for name, file in config.videos.items():
                self._add_file(name, Path(file))
        elif self._dataset is not None:
            self._add_dataset_cameras(self._dataset)
        else:
            raise ConfigError(
                "Replay needs something to replay: a dataset (root) or video files (videos).", option="root"
            )
        self._frames: dict[str, Prefetch[NDArray[Any]]] = {}

    @property
    def observation_features(self) -> Features:
        """The dataset's observations, or ``observation.state`` (6,) and the video files."""
        return dict(self._observation)

    @property
    def waits(self) -> int:
        """How often an observation had to wait because decoding was behind."""
        return sum(frames.waits for frames in self._frames.values())

    async def connect(self) -> None:
        """Start decoding, from the first frame. Idempotent."""
        if self._rows is not None:
            return
        self._frames = {
            key: Prefetch(
                endless_frames(clips, convert, self._pace_fps, rate),
                f"aiorecord-replay-{key}",
                self.config.prefetch,
            )
            for key, (clips, convert, rate) in self._sources.items()
        }
        keys = [key for key in self._observation if key not in self._sources]
        # Pictures in the rows are decoded with them, so those are held in smaller numbers.
        ahead = self.config.prefetch if self._pictures else ROWS_AHEAD
        self._rows = Prefetch(self._observed_rows(keys), "aiorecord-replay-rows", ahead)
        self._rows.start()
        for frames in self._frames.values():
            frames.start()

    async def disconnect(self) -> None:
        """Stop decoding and end the threads. Idempotent; after cancelling they end without being awaited."""
        sources: list[Prefetch[Any]] = list(self._frames.values())
        if self._rows is not None:
            sources.append(self._rows)
        self._frames, self._rows = {}, None
        # All are closed, even if one fails; the threads stop at the same time.
        async with asyncio.TaskGroup() as group:
            for source in sources:
                group.create_task(source.aclose(), name="close replay")

    async def get_observation(self) -> Values:
        """The next frame of every camera and the next states.

        When it is cancelled or fails midway, frames already taken are lost: cameras may then be a frame
        apart.

        Raises:
            StateError: not connected.
            SourceError: a file is gone or damaged, or holds fewer frames than its episode.
        """
        observation = await self._connected_rows().get()
        for key, frames in self._frames.items():
            observation[key] = await frames.get()
        return observation

    async def send_action(self, action: Values) -> Values:
        """Do nothing; the action is returned unchanged.

        Raises:
            StateError: not connected.
        """
        self._connected_rows()
        return action

    def _add_file(self, name: str, path: Path) -> None:
        film = probe(path, f"videos.{name}")
        for remark in film.remarks:
            logger.warning("%s: %s.", path, remark)
        width, height = self._size(film.width, film.height)
        key = IMAGES + name
        self._observation |= dataset_features({name: (height, width, 3)}, {})
        self._sources[key] = [Clip(path, label=str(path))], rgb_converter(width, height), None

    def _add_dataset_cameras(self, dataset: ReplayDataset) -> None:
        keys = list(dataset.schema.cameras)
        if self.config.cameras is not None:
            names = {key.removeprefix(IMAGES): key for key in keys}
            for name in self.config.cameras:
                if name.removeprefix(IMAGES) not in names:
                    raise ConfigError(
                        f"The dataset {dataset.root} has no camera {name!r}; "
                        f"it has: {', '.join(names) or 'none'}.",
                        option="cameras",
                    )
            keys = [names[name.removeprefix(IMAGES)] for name in self.config.cameras]
        for key in keys:
            feature = dataset.schema[key]
            self._observation |= dataset.features(key)
            if feature.is_image:
                self._pictures.append(key)
            elif feature.is_depth:
                self._sources[key] = dataset.clips(key), depth_converter(feature.info), dataset.fps
            else:
                height, width, _ = feature.size_hwc
                width, height = self._size(width, height)
                self._observation[key] |= {
                    "shape": (height, width, 3),
                    "names": ["height", "width", "channels"],
                }
                self._sources[key] = dataset.clips(key), rgb_converter(width, height), dataset.fps

    def _size(self, width: int, height: int) -> tuple[int, int]:
        """The requested size; odd sizes lose a pixel, since video needs even ones."""
        width = self.config.width or width - width % 2
        height = self.config.height or height - height % 2
        return width, height

    @property
    def _pace_fps(self) -> float | None:
        return self._fps if self.config.pace == "time" else None

    def _observed_rows(self, keys: list[str]) -> Generator[Values]:
        if self._dataset is not None:
            return _rows_at(self._dataset, keys, self._pace_fps)
        return _made_up_rows(STATE, self.config.seed, self._fps, delay_s=_LAG_S)


class ReplayTeleoperator(_ReplayingDevice):
    """Returns the recorded actions of a dataset in order, in an endless loop; or a smooth artificial motion.

    Args:
        config: the settings; None for the defaults.

    Raises:
        ConfigError: `root` is not a dataset of version 3.0, or it has no actions or no such episode.
    """

    _source = "teleoperator"

    def __init__(self, config: ReplayTeleopConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or ReplayTeleopConfig()
        _check_pace(config)
        self._dataset = None if config.root is None else ReplayDataset(config.root, config.episodes)
        _, self._action = _row_features(self._dataset)
        if not self._action:
            raise ConfigError(f"The dataset {config.root} has no actions to replay.", option="root")

    async def connect(self) -> None:
        """Start from the first action. Idempotent."""
        if self._rows is None:
            fps = self.config.fps
            if self._dataset is not None:
                pace_fps = (fps or self._dataset.fps) if self.config.pace == "time" else None
                rows = _rows_at(self._dataset, list(self._action), pace_fps)
            else:
                rows = _made_up_rows(ACTION, self.config.seed, fps or 30, delay_s=0.0)
            self._rows = Prefetch(rows, "aiorecord-replay-actions", ROWS_AHEAD)
            self._rows.start()

    async def disconnect(self) -> None:
        """End the thread that reads ahead. Idempotent."""
        rows, self._rows = self._rows, None
        if rows is not None:
            await rows.aclose()

    async def get_action(self) -> Values:
        """The next action.

        Raises:
            StateError: not connected.
            SourceError: a file is gone or damaged, or holds fewer rows than its episode.
        """
        return await self._connected_rows().get()


def _check(config: ReplayRobotConfig) -> None:
    for option in ("width", "height"):
        value = getattr(config, option)
        if value is not None and (value < 2 or value % 2):
            raise ConfigError(f"{option} must be an even number of pixels, not {value!r}.", option=option)
    if config.prefetch < 1:
        raise ConfigError(f"prefetch must be at least 1, not {config.prefetch!r}.", option="prefetch")
    _check_pace(config)
    if config.cameras is not None and config.videos:
        raise ConfigError("cameras chooses from a dataset; with videos, name the videos.", option="cameras")


def _check_pace(config: ReplayRobotConfig | ReplayTeleopConfig) -> None:
    if config.pace not in ("time", "frames"):
        raise ConfigError(f"pace is time or frames, not {config.pace!r}.", option="pace")
    if config.fps is not None and not 0 < config.fps < math.inf:
        raise ConfigError(f"fps must be above 0, not {config.fps!r}.", option="fps")


def _rows_at(dataset: ReplayDataset, keys: list[str], fps: float | None) -> Generator[Values]:
    """The rows of a dataset in an endless loop: each once, or those at 0, 1/fps, 2/fps, ... seconds."""
    rows = dataset.endless_rows(keys)
    with contextlib.closing(rows):
        if fps is None or fps == dataset.fps:
            yield from rows
            return
        for row in resampled(rows, dataset.fps, fps):
            yield {
                key: value.copy() if isinstance(value, np.ndarray) else value for key, value in row.items()
            }


def _row_features(dataset: ReplayDataset | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The features of observations and of actions that are not cameras."""
    if dataset is None:
        joints = dict.fromkeys(JOINT_NAMES, float)
        features = dataset_features(joints, joints)
        return {STATE: features[STATE]}, {ACTION: features[ACTION]}
    keys = [key for key in dataset.schema.columns if key not in DEFAULT_FEATURES]
    observed = [key for key in keys if key.startswith("observation.")]
    acted = [key for key in keys if is_action_key(key)]
    return dataset.features(*observed), dataset.features(*acted)


def _made_up_rows(key: str, seed: int, fps: float, *, delay_s: float) -> Generator[Values]:
    """Joints that swing slowly around a rest pose; `delay_s` simulates a robot that follows its operator."""
    rng = np.random.default_rng([seed, 8])
    hz = rng.uniform(0.05, 0.35, (3, 6))
    phase = rng.uniform(0.0, 2 * math.pi, (3, 6))
    share = np.array([[0.6], [0.3], [0.1]]) * np.array(_SWING_DEG)
    middle = HOME + np.array([0.0, 20.0, 0.0, 0.0, 0.0, 30.0])
    step = 0
    while True:
        time_s = step / fps - delay_s
        joints = middle + (share * np.sin(2 * math.pi * hz * time_s + phase)).sum(axis=0)
        yield {key: np.clip(joints, LOWER, UPPER).astype(np.float32)}
        step += 1
