"""Runs LeRobot's processor pipelines between devices and dataset.

There are three pipelines, each lerobot's identity unless another is given (`lerobot.processor`)::

    robot.get_observation() ── robot_observation ──► recorded observation
    teleop.get_action() ────── teleop_action ──────► recorded action ── robot_action ──► robot.send_action()

The two action pipelines also receive the raw observation. The dataset gets the features that the pipelines
return.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...errors import ConfigError

type Pipeline = Callable[[Any], dict[str, Any]]
"""A `lerobot.processor.RobotProcessorPipeline`; called with the data to process."""


@dataclass(frozen=True)
class Processors:
    """The pipelines of a session. None means lerobot's default, the identity.

    Attributes:
        teleop_action: ``(action, observation)`` to the action that is recorded.
        robot_action: ``(recorded action, observation)`` to the action that is sent.
        robot_observation: an observation to the one that is recorded.
    """

    teleop_action: Any = None
    robot_action: Any = None
    robot_observation: Any = None

    def resolved(self) -> ResolvedProcessors:
        """Replace None by lerobot's defaults. Imports lerobot.

        Raises:
            ConfigError: a value is not a pipeline.
        """
        from lerobot.processor import make_default_processors

        given = (self.teleop_action, self.robot_action, self.robot_observation)
        for name, pipeline in zip(("teleop_action", "robot_action", "robot_observation"), given, strict=True):
            if pipeline is not None and not (callable(pipeline) and hasattr(pipeline, "transform_features")):
                raise ConfigError(
                    f"{name} must be a lerobot processor pipeline (called with data, and with a "
                    f"transform_features method), not {pipeline!r}.",
                    option=name,
                )
        chosen = (g if g is not None else d for g, d in zip(given, make_default_processors(), strict=True))
        return ResolvedProcessors(*chosen)


@dataclass(frozen=True)
class ResolvedProcessors:
    """As `Processors`, with every pipeline set."""

    teleop_action: Any
    robot_action: Any
    robot_observation: Any


def observation_features(
    pipeline: Any, driver_features: dict[str, Any], *, use_videos: bool = True
) -> dict[str, Any]:
    """The dataset features of a robot's observations after an observation pipeline.

    Args:
        pipeline: the observation pipeline.
        driver_features: the robot's flat features.
        use_videos: False stores cameras as images.
    """
    from lerobot.datasets import aggregate_pipeline_dataset_features, create_initial_features

    initial = create_initial_features(observation=driver_features)
    features: dict[str, Any] = aggregate_pipeline_dataset_features(pipeline, initial, use_videos=use_videos)
    return features


def action_features(
    pipeline: Any | None, driver_features: dict[str, Any], *, use_videos: bool = True
) -> dict[str, Any]:
    """The dataset features of actions after an action pipeline.

    Args:
        pipeline: the teleop-action pipeline; None for unprocessed actions.
        driver_features: the flat features of the actions.
        use_videos: False stores cameras as images, should a pipeline add some.
    """
    from lerobot.datasets import aggregate_pipeline_dataset_features, create_initial_features
    from lerobot.processor import make_default_teleop_action_processor

    initial = create_initial_features(action=driver_features)
    pipeline = make_default_teleop_action_processor() if pipeline is None else pipeline
    features: dict[str, Any] = aggregate_pipeline_dataset_features(pipeline, initial, use_videos=use_videos)
    return features


def combined(*features: dict[str, Any]) -> dict[str, Any]:
    """Feature dicts merged as lerobot does: vectors of one key are joined by their names.

    Raises:
        ConfigError: one key has two dtypes.
    """
    if len({key for each in features for key in each}) == sum(map(len, features)):
        return {key: value for each in features for key, value in each.items()}
    from lerobot.utils.feature_utils import combine_feature_dicts

    try:
        merged: dict[str, Any] = combine_feature_dicts(*features)
    except ValueError as error:
        raise ConfigError(f"The pipelines disagree: {error}") from error
    return merged
