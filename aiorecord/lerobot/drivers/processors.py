"""Runs LeRobot's processor pipelines between devices and dataset.

There are three pipelines, each lerobot's identity unless another is given (`lerobot.processor`)::

    robot.get_observation() ── robot_observation ──► recorded observation
    teleop.get_action() ────── teleop_action ──────► recorded action ── robot_action ──► robot.send_action()

The two action pipelines also receive the raw observation. The dataset gets the features that the pipelines
return.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from ...errors import ConfigError
from ...robots.schema import dataset_features


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

    def resolved(self) -> Processors:
        """The same with lerobot's defaults in the place of None. Imports lerobot.

        Raises:
            ConfigError: a value is not a pipeline.
        """
        from lerobot.processor import make_default_processors

        chosen = []
        for field, default in zip(fields(self), make_default_processors(), strict=True):
            pipeline = getattr(self, field.name)
            if pipeline is None:
                pipeline = default
            elif not (callable(pipeline) and hasattr(pipeline, "transform_features")):
                raise ConfigError(
                    f"{field.name} must be a lerobot processor pipeline (called with data, and with a "
                    f"transform_features method), not {pipeline!r}.",
                    option=field.name,
                )
            chosen.append(pipeline)
        return Processors(*chosen)


def processed_features(
    pipeline: Any | None,
    *,
    observation: dict[str, Any] | None = None,
    action: dict[str, Any] | None = None,
    use_videos: bool = True,
) -> dict[str, Any]:
    """The dataset features of observations or actions after a pipeline.

    Args:
        pipeline: the pipeline; None changes nothing (for actions).
        observation: the flat features of a robot's observations.
        action: the flat features of actions.
        use_videos: False stores cameras as images, also those that a pipeline adds.
    """
    from lerobot.datasets import aggregate_pipeline_dataset_features, create_initial_features
    from lerobot.processor import make_default_teleop_action_processor

    initial = create_initial_features(action=action, observation=observation)
    pipeline = make_default_teleop_action_processor() if pipeline is None else pipeline
    features: dict[str, Any] = aggregate_pipeline_dataset_features(pipeline, initial, use_videos=use_videos)
    return features


def recorded_actions(
    processors: Processors, robot: Any | None, leaders: Sequence[Any], teleop: Any, use_videos: bool
) -> dict[str, Any]:
    """The features of the actions that are recorded: the robot's, as in lerobot, after the teleop pipeline.

    Args:
        processors: the pipelines, resolved.
        robot: lerobot's, if it is lerobot's.
        leaders: lerobot's teleoperators.
        teleop: the teleoperator if it is not lerobot's.
        use_videos: False stores cameras as images.
    """
    if leaders:
        source = robot if robot is not None else leaders[0]
        features = dict(source.action_features)
        # Some describe one vector ({"dtype", "shape", "names"}) and return its elements.
        if "dtype" in features:
            features = dict.fromkeys(features["names"], float)
        return processed_features(processors.teleop_action, action=features, use_videos=use_videos)
    if teleop is not None:
        return dataset_features({}, teleop.action_features, use_videos)
    if robot is not None:
        return processed_features(None, action=dict(robot.action_features), use_videos=use_videos)
    return {}


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
