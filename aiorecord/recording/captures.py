"""Decides how a recorder's cameras are captured, and makes the captures of its episodes."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING

from ..capture.budget import ByteBudget
from ..encoders import VideoEncoderConfig
from ..features import Schema
from ..options import RecorderOptions
from ..system.threads import Threads

if TYPE_CHECKING:
    from ..capture.episode import EpisodeCapture
    from ..encoding.plans.choice import EncodePlan
    from ..staging.folder import Staging


class Captures:
    """The cameras of a recorder, as they are captured.

    Args:
        schema: the features.
        fps: frames per second.
        options: of the recorder.
        capture_type: captures episodes; None is `EpisodeCapture`.

    Attributes:
        encoders: settings of each camera's final video, once the recorder is open.
        plans: how each camera is captured, likewise.
        budget: the memory of frames that wait to be captured, over all episodes.
        robot_type: stored with each episode.
    """

    def __init__(
        self,
        schema: Schema,
        fps: int,
        options: RecorderOptions,
        capture_type: type[EpisodeCapture] | None,
    ) -> None:
        self.encoders: dict[str, VideoEncoderConfig] = {}
        self.plans: dict[str, EncodePlan] = {}
        self.budget = ByteBudget(int(options.buffer_mb * 2**20))
        self.robot_type = options.robot_type
        self._schema, self._fps, self._options = schema, fps, options
        self._capture_type = capture_type

    async def choose_plans(self, executor: Executor, threads: Threads) -> None:
        """Try the codecs and decide how each camera is captured.

        Raises:
            CodecUnavailableError: a codec cannot be opened as configured.
        """
        from ..encoding.plans.apply import plan_cameras, try_encoders

        schema, options, fps = self._schema, self._options, self._fps
        self.encoders = await try_encoders(schema, options, fps, executor, threads)
        self.plans = await plan_cameras(schema, options, fps, executor, threads)

    def take_depth_of_dataset(self) -> None:
        """Take the depth settings from the options again: opening the dataset may have replaced them."""
        for key, feature in self._schema.videos.items():
            if feature.is_depth and key in self.encoders:
                self.encoders[key] = self._options.depth_encoder

    def prepare_capture(self, staging: Staging, encoded: Sequence[str] = ()) -> EpisodeCapture:
        """A capture that is ready for its first frame. Blocking.

        Args:
            staging: makes the episode's folder.
            encoded: the cameras that are expected to send encoded images.

        Raises:
            AiorecordError: it could not be made.
        """
        from ..capture.episode import EpisodeCapture

        return (self._capture_type or EpisodeCapture).prepare(
            staging,
            schema=self._schema,
            fps=self._fps,
            rgb_encoder=self._options.rgb_encoder,
            depth_encoder=self._options.depth_encoder,
            encoder_threads=self._options.encoder_threads,
            robot_type=self.robot_type,
            budget=self.budget,
            live=[key for key, plan in self.plans.items() if plan.mode == "live"],
            encoded=encoded,
        )
