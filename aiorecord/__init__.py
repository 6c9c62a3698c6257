"""aiorecord: record robot demonstrations on asyncio.

Episodes are saved in the background; what comes out is a LeRobotDataset v3.0::

    import aiorecord

    async with aiorecord.Recorder(
        "me/stack-cubes", root="data/stack-cubes", fps=30, features=features
    ) as recorder:
        async with recorder.episode(task="Pick up the cube") as episode:
            async for tick in recorder.ticks(seconds=10):
                observation = await robot.get_observation()
                action = await teleop.get_action()
                await robot.send_action(action)
                episode.add_frame(observation, action)
        save = episode.save            # awaitable; the next episode can start now
        result = await save            # EpisodeSaveResult(episode_index=0, length=300, ...)

Names are imported when they are first used, so that importing the package is fast.
"""

from __future__ import annotations

from .system.startup import starting

starting()  # before anything else is imported, so that Ctrl-C ends the command with one line

from typing import TYPE_CHECKING  # noqa: E402

from .system.lazy_names import lazy_names  # noqa: E402

if TYPE_CHECKING:
    from .capture.episode import CaptureStatus
    from .clock import Clock, FakeClock, SystemClock, Tick, Ticker
    from .dataset.packing.pack import PackResult
    from .encoded_image import EncodedImage
    from .encoders import DepthEncoderConfig, RGBEncoderConfig
    from .errors import (
        AiorecordError,
        CodecUnavailableError,
        ConfigError,
        DamageError,
        DatasetError,
        DatasetLockedError,
        DiskFullError,
        EncodeError,
        FeatureError,
        FrameError,
        SaveError,
        SaveTimeoutError,
        SourceError,
        SourceLostError,
        StateError,
        StorageError,
    )
    from .monitor.sinks.notebook import StatusView
    from .quality import OFFLINE, QualityLimits
    from .recording.episode import Episode
    from .recording.recorder import Recorder
    from .recording.recorder import open_recorder as open
    from .recording.recorder_events import (
        EpisodeBegan,
        EpisodeEnded,
        EventStream,
        PackingBegan,
        PackingEnded,
        PackingFailed,
        RecorderEvent,
        SaveChanged,
    )
    from .recording.status import RecorderStatus
    from .robots import Robot, Teleoperator, build_frame, dataset_features
    from .robots.guarding.guard_pair import guarded
    from .robots.guarding.source_policy import SourcePolicy, SourceStatus
    from .robots.step import control_step
    from .saving.handle import EpisodeSave
    from .saving.saver import AsyncEpisodeSaver
    from .saving.stages import EpisodeSaveResult, Stage
    from .session import (
        Command,
        EpisodeRecord,
        Phase,
        PhaseChanged,
        Session,
        SessionEvents,
        SessionPlan,
        SourceReported,
    )
    from .system.scheduling import realtime
    from .system.version import __version__
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "capture.episode": "CaptureStatus",
            "clock": "Clock FakeClock SystemClock Tick Ticker",
            "dataset.packing.pack": "PackResult",
            "encoded_image": "EncodedImage",
            "encoders": "DepthEncoderConfig RGBEncoderConfig",
            "recording.episode": "Episode",
            "errors": "AiorecordError CodecUnavailableError ConfigError DamageError DatasetError "
            "DatasetLockedError DiskFullError EncodeError FeatureError FrameError SaveError SaveTimeoutError "
            "SourceError SourceLostError StateError StorageError",
            "recording.recorder_events": "EpisodeBegan EpisodeEnded EventStream "
            "PackingBegan PackingEnded PackingFailed RecorderEvent SaveChanged",
            "monitor.sinks.notebook": "StatusView",
            "quality": "OFFLINE QualityLimits",
            "recording.recorder": "Recorder open=open_recorder",
            "robots": "Robot Teleoperator build_frame dataset_features",
            "robots.guarding.guard_pair": "guarded",
            "robots.guarding.source_policy": "SourcePolicy SourceStatus",
            "robots.step": "control_step",
            "saving.saver": "AsyncEpisodeSaver",
            "saving.handle": "EpisodeSave",
            "saving.stages": "EpisodeSaveResult Stage",
            "system.scheduling": "realtime",
            "session": "Command EpisodeRecord Phase PhaseChanged Session SessionEvents SessionPlan "
            "SourceReported",
            "recording.status": "RecorderStatus",
            "system.version": "__version__",
        },
    )

__all__ = [
    "OFFLINE",
    "AiorecordError",
    "AsyncEpisodeSaver",
    "CaptureStatus",
    "Clock",
    "CodecUnavailableError",
    "Command",
    "ConfigError",
    "DamageError",
    "DatasetError",
    "DatasetLockedError",
    "DepthEncoderConfig",
    "DiskFullError",
    "EncodeError",
    "EncodedImage",
    "Episode",
    "EpisodeBegan",
    "EpisodeEnded",
    "EpisodeRecord",
    "EpisodeSave",
    "EpisodeSaveResult",
    "EventStream",
    "FakeClock",
    "FeatureError",
    "FrameError",
    "PackResult",
    "PackingBegan",
    "PackingEnded",
    "PackingFailed",
    "Phase",
    "PhaseChanged",
    "QualityLimits",
    "RGBEncoderConfig",
    "Recorder",
    "RecorderEvent",
    "RecorderStatus",
    "Robot",
    "SaveChanged",
    "SaveError",
    "SaveTimeoutError",
    "Session",
    "SessionEvents",
    "SessionPlan",
    "SourceError",
    "SourceLostError",
    "SourcePolicy",
    "SourceReported",
    "SourceStatus",
    "Stage",
    "StateError",
    "StatusView",
    "StorageError",
    "SystemClock",
    "Teleoperator",
    "Tick",
    "Ticker",
    "__version__",
    "build_frame",
    "control_step",
    "dataset_features",
    "guarded",
    "open",
    "realtime",
]
