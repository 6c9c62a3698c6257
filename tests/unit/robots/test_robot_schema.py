"""Features and frames from either style of driver."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aiorecord.errors import FeatureError, FrameError
from aiorecord.features import Schema
from aiorecord.robots import build_frame, dataset_features

FLAT = {"pan.pos": float, "lift.pos": float, "front": (48, 64, 3), "front_depth": (48, 64, 1)}
JOINTS = {"pan.pos": float, "lift.pos": float}


def test_flat_features_are_gathered() -> None:
    features = dataset_features(FLAT, JOINTS)
    assert features == {
        "observation.state": {"dtype": "float32", "shape": (2,), "names": ["pan.pos", "lift.pos"]},
        "observation.images.front": {
            "dtype": "video",
            "shape": (48, 64, 3),
            "names": ["height", "width", "channels"],
            "info": {"is_depth_map": False},
        },
        "observation.images.front_depth": {
            "dtype": "video",
            "shape": (48, 64, 1),
            "names": ["height", "width", "channels"],
            "info": {"is_depth_map": True},
        },
        "action": {"dtype": "float32", "shape": (2,), "names": ["pan.pos", "lift.pos"]},
    }
    assert Schema(features)["observation.images.front_depth"].is_depth


def test_dataset_features_pass_through_and_are_copied() -> None:
    observation = dataset_features(FLAT, {})
    features = dataset_features(observation, {"action": {"dtype": "float32", "shape": (2,), "names": None}})
    assert list(features) == [*observation, "action"]
    features["observation.state"]["shape"] = (9,)
    assert observation["observation.state"]["shape"] == (2,)


def test_images_instead_of_videos() -> None:
    for source in (FLAT, dataset_features(FLAT, {})):
        features = dataset_features(source, JOINTS, use_videos=False)
        assert {f["dtype"] for k, f in features.items() if "images" in k} == {"image"}


def test_bare_action_vector() -> None:
    bare = {"dtype": "float32", "shape": (2,), "names": {"delta_y": 1, "delta_x": 0}}
    features = dataset_features(FLAT, bare)
    assert features["action"]["names"] == ["delta_x", "delta_y"]


def test_numpy_and_int_types_are_numbers() -> None:
    features = dataset_features({"a": np.float32, "b": int}, {})
    assert features["observation.state"]["names"] == ["a", "b"]


@pytest.mark.parametrize("spec", [(48, 64), (48, 64, 4), "float", None, str, 3.0])
def test_what_is_neither_number_nor_camera_is_refused(spec: Any) -> None:
    with pytest.raises(FeatureError, match="'x'") as caught:
        dataset_features({"x": spec}, {})
    assert caught.value.key == "x"


def test_mixed_styles_that_clash_are_refused() -> None:
    with pytest.raises(FeatureError, match="Use one style"):
        dataset_features({"observation.state": {"dtype": "float32", "shape": (1,)}, "pan": float}, {})
    clash = {"observation.images.front": {"dtype": "video", "shape": (4, 4, 3)}, "front": (4, 4, 3)}
    with pytest.raises(FeatureError, match="given twice"):
        dataset_features(clash, {})
    with pytest.raises(FeatureError, match="both supply action"):
        dataset_features({"action": {"dtype": "float32", "shape": (1,)}}, {"pan": float})


def test_flat_values_share_names_between_state_and_action() -> None:
    features = dataset_features(FLAT, JOINTS)
    front, depth = np.zeros((48, 64, 3), np.uint8), np.zeros((48, 64, 1), np.uint16)
    seen = {"lift.pos": 2.0, "pan.pos": 1.0, "front": front, "front_depth": depth, "voltage": 7.0}
    frame = build_frame(features, seen, {"pan.pos": 3.0, "lift.pos": np.float32(4.0)})
    assert frame.keys() == features.keys()
    assert frame["observation.state"].tolist() == [1.0, 2.0]
    assert frame["action"].tolist() == [3.0, 4.0]
    assert frame["action"].dtype == np.float32
    assert frame["observation.images.front"] is front
    Schema(features).check(frame)


def test_dataset_values_are_taken_as_they_are() -> None:
    features = dataset_features(FLAT, JOINTS) | {"next.reward": {"dtype": "float32", "shape": (1,)}}
    observation = {key: object() for key in features if key.startswith("observation")}
    action = {"action": object(), "next.reward": object()}
    frame = build_frame(features, observation, action)
    assert frame == {**observation, **action}


def test_styles_may_differ_between_robot_and_teleoperator() -> None:
    features = dataset_features({"pan.pos": float}, {"pan.pos": float})
    frame = build_frame(features, {"pan.pos": 1.0}, {"action": np.ones(1, np.float32)})
    assert frame["observation.state"].tolist() == frame["action"].tolist() == [1.0]


def test_default_columns_are_not_asked_for() -> None:
    features = Schema(dataset_features({"pan": float}, {})).as_dict()
    assert build_frame(features, {"pan": 1}, {}).keys() == {"observation.state"}


def test_missing_values_are_named() -> None:
    features = dataset_features(FLAT, JOINTS)
    seen = {"pan.pos": 1.0, "lift.pos": 2.0}
    with pytest.raises(FrameError, match=r"no image for 'observation\.images\.front'.*'front'") as caught:
        build_frame(features, seen, seen)
    assert caught.value.key == "observation.images.front"
    seen |= {"front": 0, "front_depth": 0}
    with pytest.raises(FrameError, match=r"action.*missing: lift\.pos"):
        build_frame(features, seen, {"pan.pos": 1.0})
    with pytest.raises(FrameError, match="not numbers"):
        build_frame(features, seen | {"pan.pos": "fast"}, {"pan.pos": 1.0, "lift.pos": 1.0})
    with pytest.raises(FrameError, match=r"no 'next\.done'"):
        build_frame({"next.done": {"dtype": "bool", "shape": (1,), "names": None}}, {}, {})
