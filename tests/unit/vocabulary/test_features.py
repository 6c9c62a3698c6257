"""Feature dicts and frames: what fits is taken, what does not is named."""

import numpy as np
import pytest

from aiorecord.errors import FeatureError, FrameError
from aiorecord.features import Schema

STATE = {"dtype": "float32", "shape": (3,), "names": ["a", "b", "c"]}
CAMERA = {"dtype": "video", "shape": (48, 64, 3), "names": ["height", "width", "channels"]}
DEPTH = {"dtype": "video", "shape": (48, 64, 1), "names": ["height", "width", "channels"]}


def frame(**changes):
    return {"state": np.zeros(3, np.float32), "front": np.zeros((48, 64, 3), np.uint8)} | changes


@pytest.fixture
def schema():
    return Schema({"state": STATE, "front": CAMERA})


def test_default_columns_are_added_last_and_ignored_when_given(schema):
    out = schema.as_dict()
    assert list(out)[-5:] == ["timestamp", "frame_index", "episode_index", "index", "task_index"]
    assert Schema(out).as_dict() == out


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((48, 64, 3), np.uint8),
        np.zeros((3, 48, 64), np.uint8),
        np.zeros((3, 48, 64), np.float32),
        np.ones((48, 64, 3), np.float64),
    ],
)
def test_images_come_either_way_round_as_bytes_or_floats(schema, image):
    pixels = schema.check(frame(front=image)).images["front"]
    assert pixels.shape == (48, 64, 3)
    assert pixels.dtype == np.uint8
    assert pixels.max() == round(float(image.max()) * (255 if image.dtype != np.uint8 else 1))


def test_every_byte_survives_the_way_through_a_float(schema):
    image = np.resize(np.arange(256, dtype=np.uint8), (48, 64, 3))
    for dtype in (np.float32, np.float64):
        floats = image.astype(dtype) / 255
        np.testing.assert_array_equal(schema.check(frame(front=floats)).images["front"], image)


def test_a_square_camera_is_taken_channels_last():
    square = Schema(
        {"front": {"dtype": "image", "shape": (3, 3, 3), "names": ["height", "width", "channel"]}}
    )
    image = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    np.testing.assert_array_equal(square.check({"front": image}).images["front"], image)


@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 1), (1, 48, 64)])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_depth_comes_in_three_shapes(shape, dtype):
    schema = Schema({"depth": DEPTH})
    assert schema["depth"].is_depth
    pixels = schema.check({"depth": np.ones(shape, dtype)}).images["depth"]
    assert pixels.shape == (48, 64)
    assert pixels.dtype == dtype


def test_numbers_and_lists_are_converted_when_nothing_is_lost():
    schema = Schema(
        {
            "reward": {"dtype": "float32", "shape": (1,), "names": None},
            "done": {"dtype": "bool", "shape": (1,), "names": None},
            "count": {"dtype": "int64", "shape": (2,), "names": None},
            "note": {"dtype": "string", "shape": (1,), "names": None},
        }
    )
    checked = schema.check({"reward": 0.5, "done": True, "count": [1, 2], "note": "ок", "task": "t"})
    assert checked.values["reward"].tolist() == [0.5]
    assert checked.values["done"].dtype == bool
    assert checked.values["count"].tolist() == [1, 2]
    assert checked.task == "t"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state": np.zeros(3, complex)}, "complex128"),
        ({"state": np.zeros(4, np.float32)}, r"\(4,\)"),
        ({"state": np.zeros((3, 1), np.float32)}, r"\(3, 1\)"),
        ({"state": "text"}, "state"),
        ({"state": None}, "state"),
        ({"state": [[1, 2], [3]]}, "state"),
        ({"front": np.zeros((48, 64, 4), np.uint8)}, "front"),
        ({"front": np.zeros((64, 48, 3), np.uint8)}, "front"),
        ({"front": np.zeros((48, 64, 3), np.int32)}, "int32"),
        ({"front": np.full((48, 64, 3), 1.5)}, "1.5"),
        ({"front": np.full((48, 64, 3), np.nan)}, "nan"),
        ({"front": None}, "front"),
        ({"task": 3}, "task"),
        ({"extra": 1}, "unknown: extra"),
        ({"timestamp": 1.0}, "filled in by aiorecord"),
    ],
)
def test_a_frame_that_does_not_fit_is_refused_by_name(schema, changes, message):
    with pytest.raises(FrameError, match=message):
        schema.check(frame(**changes))


def test_missing_keys_are_named(schema):
    with pytest.raises(FrameError, match="missing: front"):
        schema.check({"state": np.zeros(3, np.float32)})


def test_nonfinite_values_are_told(schema):
    value = np.array([0, np.nan, np.inf], np.float32)
    assert schema.check(frame(state=value)).nonfinite == ("state",)


@pytest.mark.parametrize(
    ("key", "spec"),
    [
        ("a/b", STATE),
        ("..", STATE),
        ("a\\b", STATE),
        ("", STATE),
        ("task", STATE),
        ("x" * 300, STATE),
        ("a\0b", STATE),
        (".hidden", STATE),
        ("x", {"dtype": "complex64", "shape": (1,)}),
        ("x", {"dtype": "float32", "shape": ()}),
        ("x", {"dtype": "float32", "shape": (0,)}),
        ("x", {"dtype": "float32", "shape": "three"}),
        ("x", {"dtype": "float32", "shape": (1,) * 6}),
        ("x", {"dtype": "string", "shape": (2,)}),
        ("x", {"dtype": "video", "shape": (48, 64)}),
        ("x", {"dtype": "video", "shape": (48, 64, 4)}),
        ("x", {"dtype": "video", "shape": (47, 64, 3)}),
        ("x", {"dtype": "video", "shape": (48, 64, 3), "info": {"is_depth_map": True}}),
        ("x", {"dtype": "float32"}),
        ("x", 3),
    ],
)
def test_features_that_no_dataset_could_hold_are_refused(key, spec):
    with pytest.raises(FeatureError):
        Schema({key: spec})


def test_no_features_at_all_are_refused():
    with pytest.raises(FeatureError):
        Schema({})
