"""`AsyncLeRobotDataset` keeps the contracts of `LeRobotDataset`; where it can, by comparing the two."""

import copy
import gc
import json
import pickle
import subprocess
import sys
import threading

import numpy as np
import PIL.Image
import pytest
import torch
from helpers import FEATURES, FPS, H264, STATES, make_frame
from lerobot.configs import RGBEncoderConfig as LeRobotRGB
from lerobot.datasets import LeRobotDataset, VideoEncodingManager
from lerobot.datasets.dataset_writer import DatasetWriter
from lerobot.datasets.image_writer import AsyncImageWriter

import aiorecord
from aiorecord.lerobot import AsyncLeRobotDataset, enable_async_saving
from aiorecord.lerobot.dropin.dataset_writer import LostImageError

FRONT = "observation.images.front"
CHANNELS_FIRST = {"dtype": "image", "shape": (3, 32, 48), "names": ["channels", "height", "width"]}
DEPTH = {
    "dtype": "video",
    "shape": (64, 64, 1),
    "names": ["height", "width", "channels"],
    "info": {"is_depth_map": True},
}


def create(root, features=FEATURES, kind=AsyncLeRobotDataset, **options):
    return kind.create("test/set", FPS, features, root=root, rgb_encoder=H264_OF[kind], **options)


H264_OF = {AsyncLeRobotDataset: H264, LeRobotDataset: LeRobotRGB(vcodec="h264", crf=18, preset="ultrafast")}


@pytest.fixture
def dataset(tmp_path):
    made = create(tmp_path / "set")
    yield made
    made.finalize()


@pytest.fixture
def states(tmp_path):
    made = create(tmp_path / "set", STATES)
    yield made
    made.finalize()


def add(dataset, length, episode=0, task="Test", features=FEATURES):
    for k in range(length):
        dataset.add_frame(make_frame(k, episode, features) | {"task": task})


def record(dataset, *lengths, features=FEATURES):
    for episode, length in enumerate(lengths):
        add(dataset, length, episode, f"Task {episode % 2}", features)
        dataset.save_episode()


def both(tmp_path, features):
    """lerobot's dataset and ours, with the same features."""
    return [
        create(tmp_path / kind.__name__, features, kind) for kind in (LeRobotDataset, AsyncLeRobotDataset)
    ]


def threads_left():
    return {thread.name for thread in threading.enumerate() if "aiorecord" in thread.name}


def outcome(call):
    """What a call raises: built-in kind and text."""
    try:
        call()
    except Exception as error:  # noqa: BLE001
        return error
    return None


def check_rows(dataset, lengths):
    assert len(dataset) == sum(lengths)
    assert dataset.num_episodes == len(lengths)
    index = 0
    for episode, length in enumerate(lengths):
        for k in range(length):
            item, given = dataset[index], make_frame(k, episode)
            assert (int(item["index"]), int(item["episode_index"]), int(item["frame_index"])) == (
                index,
                episode,
                k,
            )
            assert float(item["timestamp"]) == pytest.approx(k / FPS)
            assert item["task"] == f"Task {episode % 2}"
            for key in STATES:
                np.testing.assert_array_equal(item[key].numpy(), given[key])
            picture = item[FRONT].numpy().transpose(1, 2, 0) * 255
            assert np.abs(picture - given[FRONT]).mean() < 12
            index += 1


def test_importing_costs_nothing():
    code = (
        "import sys, aiorecord.lerobot, aiorecord.lerobot.record\n"
        "assert 'AsyncLeRobotDataset' in dir(aiorecord.lerobot)\n"
        "assert not {'lerobot', 'torch', 'datasets'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_row_comes_back_in_place_and_through_lerobot(tmp_path, dataset):
    lengths = (12, 7, 9)
    record(dataset, *lengths)
    dataset.finalize()
    check_rows(dataset, lengths)
    dataset.finalize()
    check_rows(LeRobotDataset("test/set", root=tmp_path / "set", video_backend="pyav"), lengths)
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["data", "meta", "videos"]
    assert threads_left() == set()


def test_it_is_a_lerobot_dataset_in_write_mode(dataset):
    assert isinstance(dataset, LeRobotDataset)
    assert isinstance(dataset.writer, DatasetWriter)
    assert dataset.reader is None
    assert (dataset.num_episodes, dataset.num_frames) == (0, 0)
    assert dataset.meta.episodes is None
    assert dataset.meta.stats is None
    assert dataset.meta.tasks is None
    assert not dataset.has_pending_frames()
    with pytest.raises(RuntimeError, match="finalize"):
        dataset[0]


def test_the_episode_buffer_counts_and_begins_anew(dataset):
    buffer = dataset.writer.episode_buffer
    assert buffer["size"] == 0
    assert buffer["episode_index"] == 0
    add(dataset, 3)
    assert dataset.has_pending_frames()
    assert dataset.episode_buffer is buffer
    assert buffer["size"] == 3
    assert buffer["task"] == ["Test"] * 3
    assert buffer["frame_index"] == [0, 1, 2]
    assert buffer["timestamp"] == [0, 1 / FPS, 2 / FPS]
    np.testing.assert_array_equal(buffer["action"], [make_frame(k)["action"] for k in range(3)])
    dataset.save_episode()
    assert dataset.writer.episode_buffer["size"] == 0
    assert dataset.writer.episode_buffer["episode_index"] == 1
    assert not dataset.has_pending_frames()
    add(dataset, 2)
    dataset.clear_episode_buffer()
    assert not dataset.has_pending_frames()
    add(dataset, 4, 1, "Other")
    dataset.save_episode()
    assert (dataset.meta.total_episodes, dataset.meta.total_frames, dataset.meta.total_tasks) == (2, 7, 2)


def test_the_callers_frame_is_not_changed_and_may_be_reused(states):
    frame = {key: torch.zeros(3) for key in STATES} | {"task": "Test"}
    for k in range(5):
        frame["action"][:] = k
        states.add_frame(frame)
    assert set(frame) == {*STATES, "task"}
    states.save_episode()
    states.finalize()
    assert [float(states[k]["action"][0]) for k in range(5)] == [0, 1, 2, 3, 4]


BAD_FRAMES = {
    "no task": {"state": np.zeros(2, np.float32)},
    "missing": {"task": "Test"},
    "extra": {"state": np.zeros(2, np.float32), "more": 1, "task": "Test"},
    "dtype": {"state": np.zeros(2, np.float16), "task": "Test"},
    "shape": {"state": np.zeros(1, np.float32), "task": "Test"},
    "python float": {"state": 1.0, "task": "Test"},
    "torch, no dimension": {"state": torch.tensor(1.0), "task": "Test"},
    "default column": {"state": np.zeros(2, np.float32), "timestamp": 0.0, "task": "Test"},
    "list": {"state": [0.0, 0.0], "task": "Test"},
}


@pytest.mark.parametrize("case", BAD_FRAMES)
def test_bad_frames_raise_what_lerobot_raises(tmp_path, case):
    frame = BAD_FRAMES[case]
    theirs, ours = both(tmp_path, {"state": {"dtype": "float32", "shape": (2,), "names": None}})
    expected, found = (outcome(lambda d=d: d.add_frame(dict(frame))) for d in (theirs, ours))
    assert type(expected) is ValueError
    assert type(found) is ValueError
    assert str(found) == str(expected)
    assert ours.writer.episode_buffer["size"] == 0
    ours.finalize()


@pytest.mark.parametrize("shape", [(3, 48, 32), (32, 48), (1, 32, 48)])
def test_bad_pictures_raise_what_lerobot_raises(tmp_path, shape):
    theirs, ours = both(tmp_path, {"image": CHANNELS_FIRST})
    frame = {"image": np.zeros(shape, np.uint8), "task": "Test"}
    expected, found = (outcome(lambda d=d: d.add_frame(dict(frame))) for d in (theirs, ours))
    assert (type(found), str(found)) == (type(expected), str(expected))
    ours.finalize()


def test_pixels_out_of_range_are_reported_when_the_episode_is_saved(tmp_path):
    dataset = create(tmp_path / "set", {"image": CHANNELS_FIRST})
    good = {"image": np.full((3, 32, 48), 0.5), "task": "Test"}
    dataset.add_frame(good)
    dataset.add_frame({"image": np.full((3, 32, 48), 200.0), "task": "Test"})
    dataset.add_frame(good)
    assert dataset.episode_buffer["size"] == 3
    for _ in range(2):
        with pytest.raises(FileNotFoundError, match="200") as caught:
            dataset.save_episode()
    assert isinstance(caught.value, LostImageError)
    assert (caught.value.key, caught.value.frame_index) == ("image", 1)
    dataset.clear_episode_buffer()
    dataset.add_frame(good)
    dataset.save_episode()
    dataset.finalize()
    assert len(dataset) == 1


def changed(**changes):
    def change(buffer):
        buffer.update(changes)

    return change


BAD_BUFFERS = {
    "empty": lambda buffer: None,
    "no size": lambda buffer: buffer.pop("size"),
    "no task": lambda buffer: buffer.pop("task"),
    "another index": changed(episode_index=3, size=1),
    "a key more": changed(size=1, more=[1]),
    "a key less": lambda buffer: buffer.update(size=1) or buffer.pop("state"),
}


@pytest.mark.parametrize("case", BAD_BUFFERS)
def test_bad_buffers_raise_what_lerobot_raises(tmp_path, case):
    found = []
    for dataset in both(tmp_path, {"state": {"dtype": "float32", "shape": (2,), "names": None}}):
        buffer = dict(dataset.writer._create_episode_buffer())
        BAD_BUFFERS[case](buffer)
        found.append(outcome(lambda d=dataset, b=buffer: d.save_episode(b)))
        dataset.finalize()
    expected, ours = found
    assert type(expected) in (ValueError, NotImplementedError)
    assert type(ours) is type(expected)
    assert str(ours)[:60] == str(expected)[:60]


def test_saving_nothing_raises_what_lerobot_raises(states):
    with pytest.raises(ValueError, match="You must add one or several frames"):
        states.save_episode()
    add(states, 2, features=STATES)
    states.save_episode()
    assert states.num_episodes == 1


def test_read_only_datasets_stay_read_only(tmp_path, states):
    record(states, 3, features=STATES)
    states.finalize()
    reading = AsyncLeRobotDataset("test/set", root=tmp_path / "set")
    assert reading.writer is None
    assert reading.episode_buffer is None
    assert len(reading) == 3
    calls = [
        lambda: reading.add_frame({}),
        reading.save_episode,
        reading.clear_episode_buffer,
        reading.save_episode_async,
        reading.enable_async_saving,
        lambda: enable_async_saving(LeRobotDataset("test/set", root=tmp_path / "set")),
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match="read-only"):
            call()
    assert not reading.has_pending_frames()
    reading.finalize()


def test_after_finalize_nothing_can_be_added(states):
    record(states, 3, features=STATES)
    states.finalize()
    for call in (lambda: add(states, 1, features=STATES), states.save_episode, states.enable_async_saving):
        with pytest.raises(aiorecord.StateError, match="finalized"):
            call()
    states.clear_episode_buffer()
    assert len(states) == 3


def test_a_dataset_without_episodes_can_be_finalized_and_resumed(tmp_path, dataset):
    dataset.finalize()
    assert (tmp_path / "set/meta/info.json").exists()
    again = AsyncLeRobotDataset.resume("test/set", root=tmp_path / "set", rgb_encoder=H264)
    record(again, 4)
    again.finalize()
    check_rows(again, (4,))


def test_a_finalized_dataset_can_be_pickled_and_a_running_one_says_why_not(states):
    record(states, 3, features=STATES)
    states.enable_async_saving()
    with pytest.raises(aiorecord.StateError, match="finalize"):
        pickle.dumps(states)
    states.finalize()
    copied = pickle.loads(pickle.dumps(states))
    assert len(copied) == 3
    assert copied.get_async_save_status()["worker_alive"] is False
    with pytest.raises(aiorecord.StateError, match="finalized"):
        add(copied, 1, features=STATES)
    np.testing.assert_array_equal(copied[2]["action"], make_frame(2)["action"])
    loader = torch.utils.data.DataLoader(states, batch_size=3, num_workers=1)
    assert next(iter(loader))["action"].shape == (3, 3)


def test_metadata_is_that_of_the_last_commit(dataset):
    meta, features, info = dataset.meta, dataset.features, dataset.meta.info
    add(dataset, 5, 0, "A")
    assert meta.total_episodes == 0
    dataset.save_episode()
    assert dataset.meta is meta
    assert info.total_episodes == meta.total_episodes == dataset.num_episodes == 1
    assert features[FRONT]["info"]["video.codec"] == "h264"
    assert features[FRONT]["shape"] == (48, 64, 3)
    assert list(meta.tasks.index) == ["A"]
    assert meta.get_task_index("A") == 0
    assert float(meta.stats["observation.state"]["max"][0]) == 4
    add(dataset, 9, 1, "B")
    dataset.save_episode()
    assert meta.get_task_index("B") == 1
    assert len(meta.episodes) == 2
    assert [episode["length"] for episode in meta.episodes] == [5, 9]
    assert [tuple(episode["tasks"]) for episode in meta.episodes] == [("A",), ("B",)]
    assert meta.episodes[1]["dataset_from_index"] == 5
    assert float(meta.stats["observation.state"]["max"][0]) == 8
    assert meta.info.splits == {"train": "0:2"}
    dataset.finalize()
    written = LeRobotDataset("test/set", root=dataset.root).meta
    assert written.info == meta.info
    assert type(dataset.meta) is type(written)
    for key, stats in written.stats.items():
        for name, value in stats.items():
            np.testing.assert_array_equal(value, meta.stats[key][name])


def test_settings_changed_on_the_way_are_kept(states):
    path = states.root / "meta/info.json"
    record(states, 3, features=STATES)
    states.meta.update_chunk_settings(chunks_size=2000, video_files_size_in_mb=50)
    states.meta.tools = [{"name": "say"}]
    saved = json.loads(path.read_text())
    assert (saved["chunks_size"], saved["video_files_size_in_mb"], saved["total_episodes"]) == (2000, 50, 1)
    for name in ("chunks_size", "data_files_size_in_mb", "video_files_size_in_mb"):
        for value in (0, -1):
            with pytest.raises(ValueError, match=f"{name} must be positive"):
                states.meta.update_chunk_settings(**{name: value})
    record(states, 3, features=STATES)
    assert states.meta.get_chunk_settings()["chunks_size"] == 2000
    states.finalize()
    saved = json.loads(path.read_text())
    assert (saved["chunks_size"], saved["tools"], saved["total_episodes"]) == (2000, [{"name": "say"}], 2)
    assert states.meta.tools == [{"name": "say"}]


def test_it_can_be_read_by_others_after_every_save(tmp_path, dataset):
    for episode in range(3):
        add(dataset, 4, episode, f"Task {episode % 2}")
        dataset.save_episode()
        check_rows(
            LeRobotDataset("test/set", root=tmp_path / "set", video_backend="pyav"), (4,) * (episode + 1)
        )
        assert len(dataset.hf_dataset) >= 4
    dataset.finalize()
    check_rows(dataset, (4, 4, 4))


def test_images_depth_strings_and_numbers_come_back_as_lerobot_writes_them(tmp_path):
    features = {
        "photo": CHANNELS_FIRST,
        "deep": DEPTH,
        "raw": DEPTH | {"dtype": "image"},
        "note": {"dtype": "string", "shape": (1,), "names": None},
        "flag": {"dtype": "bool", "shape": (1,), "names": None},
        "count": {"dtype": "int64", "shape": (1,), "names": None},
        "matrix": {"dtype": "float32", "shape": (2, 3), "names": None},
    }
    rng = np.random.default_rng(0)
    slope = np.add.outer(np.arange(64), 2 * np.arange(64))[..., None]
    frames = [
        {
            "photo": torch.from_numpy(rng.integers(0, 256, (3, 32, 48), np.uint8)),
            "deep": (slope * 40 + 100 * k + 50).astype(np.uint16),
            "raw": rng.integers(0, 60000, (64, 64, 1), np.uint16),
            "note": f"Nr. {k}",
            "flag": torch.tensor([k % 2 == 0]),
            "count": np.array([k]),
            "matrix": rng.normal(size=(2, 3)).astype(np.float32),
            "task": "Test",
        }
        for k in range(6)
    ]
    read = []
    for dataset in both(tmp_path, features):
        for frame in frames:
            dataset.add_frame(dict(frame))
        assert dataset.meta.features["deep"]["info"]["depth_unit"] == "mm"
        dataset.save_episode()
        dataset.finalize()
        read.append(LeRobotDataset("test/set", root=dataset.root, video_backend="pyav"))
    theirs, ours = read
    assert ours.meta.features["deep"]["info"]["depth_unit"] == "mm"
    assert ours.meta.features.keys() == theirs.meta.features.keys()
    for k in range(6):
        for key, value in theirs[k].items():
            other = ours[k][key]
            if key == "deep":
                assert float((value - other).abs().max()) <= 1.0
            elif isinstance(value, str):
                assert other == value
            else:
                assert torch.equal(other, value), key
    for key in ("photo", "raw", "flag", "count", "matrix"):
        for name in ("min", "max", "mean", "std", "count"):
            np.testing.assert_allclose(
                ours.meta.stats[key][name], theirs.meta.stats[key][name], rtol=1e-3, err_msg=f"{key} {name}"
            )


def test_pil_pictures(tmp_path):
    dataset = create(tmp_path / "set", {"image": CHANNELS_FIRST})
    pixels = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    dataset.add_frame({"image": PIL.Image.fromarray(pixels), "task": "Test"})
    dataset.save_episode()
    dataset.finalize()
    np.testing.assert_array_equal(np.rint(dataset[0]["image"].numpy() * 255), pixels.transpose(2, 0, 1))


def test_a_depth_camera_cannot_change_its_unit(tmp_path):
    dataset = create(tmp_path / "set", {"deep": DEPTH})
    dataset.add_frame({"deep": np.zeros((64, 64, 1), np.uint16), "task": "Test"})
    with pytest.raises(ValueError, match="deep"):
        dataset.add_frame({"deep": np.zeros((64, 64, 1), np.float32), "task": "Test"})
    assert dataset.episode_buffer["size"] == 1
    dataset.save_episode()
    dataset.finalize()


def handed_in(dataset, length, episode=0, **changes):
    buffer = dataset.create_episode_buffer()
    frames = [make_frame(k, episode) for k in range(length)]
    buffer |= {key: [frame[key] for frame in frames] for key in FEATURES}
    buffer |= {"size": length, "task": [f"Task {episode % 2}"] * length}
    buffer["timestamp"] = [k / FPS for k in range(length)]
    buffer["frame_index"] = list(range(length))
    return buffer | changes


def test_buffers_that_are_handed_in(tmp_path, dataset):
    paths = []
    for k in range(6):
        paths.append(str(tmp_path / f"{k}.png"))
        PIL.Image.fromarray(make_frame(k, 2)[FRONT]).save(paths[-1])
    lists = handed_in(dataset, 5, 0)
    before = copy.deepcopy(lists)
    dataset.save_episode(lists)
    assert lists.keys() == before.keys()
    arrays = handed_in(dataset, 4, 1, episode_index=np.array([1]), timestamp=[], frame_index=[])
    arrays = {key: np.array(value) if key in FEATURES else value for key, value in arrays.items()}
    dataset.save_episode(arrays | {"action": torch.from_numpy(arrays["action"])})
    dataset.save_episode(handed_in(dataset, 6, 2, **{FRONT: paths, "task": "Task 0"}))
    double = handed_in(dataset, 3, 3, episode_index=np.full((3,), 3))
    double["action"] = [value.astype(np.float64).tolist() for value in double["action"]]
    dataset.save_episode(double)
    assert dataset.num_episodes == 4
    dataset.finalize()
    check_rows(dataset, (5, 4, 6, 3))


def test_a_buffer_is_handed_in_while_another_episode_runs(dataset):
    add(dataset, 3, 1, "Task 1")
    dataset.save_episode(handed_in(dataset, 4, 0, episode_index=0))
    assert dataset.episode_buffer["size"] == 3
    assert dataset.episode_buffer["episode_index"] == 1
    add_rest = make_frame(3, 1) | {"task": "Task 1"}
    dataset.add_frame(add_rest)
    dataset.save_episode()
    dataset.finalize()
    check_rows(dataset, (4, 4))


@pytest.mark.parametrize("copied", [lambda b: b, lambda b: b.copy(), copy.copy, copy.deepcopy])
def test_the_running_buffer_and_its_copies_can_be_handed_in(dataset, copied):
    add(dataset, 4, 0, "Task 0")
    dataset.save_episode(copied(dataset.writer.episode_buffer))
    assert not dataset.has_pending_frames()
    add(dataset, 3, 1, "Task 1")
    old = copied(dataset.writer.episode_buffer)
    dataset.save_episode()
    with pytest.raises((aiorecord.StateError, NotImplementedError)):
        dataset.save_episode(old)
    add(dataset, 1, 2, "Task 0")
    early = copy.deepcopy(dataset.writer.episode_buffer)
    add(dataset, 1, 2, "Task 0")
    with pytest.raises(aiorecord.StateError, match="after"):
        dataset.save_episode(early)
    dataset.clear_episode_buffer()
    dataset.finalize()
    check_rows(dataset, (4, 3))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"action": [np.zeros(3, np.float32)] * 3}, "action.* 3 values for 4"),
        ({"action": [np.zeros(2, np.float32)] * 4}, "action.*shape"),
        ({"action": ["a", "b", "c", "d"]}, "action"),
        ({FRONT: []}, "front.* 0 values"),
        ({"task": ["Test"]}, "task.* 1 values"),
        ({"task": [None] * 4}, "task must be a string"),
        ({"timestamp": [0.0, 0.5, 1.0, 1.5]}, "timestamp.*regular"),
        ({"frame_index": [1, 2, 3, 4]}, "frame_index.*regular"),
        ({"frame_index": [0]}, "frame_index.* 1 values"),
    ],
)
def test_buffers_that_cannot_be_an_episode_are_refused_at_once(dataset, changes, match):
    with pytest.raises(aiorecord.FrameError, match=match):
        dataset.save_episode(handed_in(dataset, 4, **changes))
    assert dataset.num_episodes == 0


@pytest.mark.parametrize(
    "pixels", [None, "missing.png", np.zeros((10, 10, 3), np.uint8), np.full((48, 64, 3), 7.0)]
)
def test_a_picture_that_cannot_be_stored_fails_the_save_and_leaves_nothing(dataset, pixels):
    bad = handed_in(dataset, 4)
    bad[FRONT][2] = pixels
    with pytest.raises(aiorecord.SaveError, match="front"):
        dataset.save_episode(bad)
    dataset.save_episode(handed_in(dataset, 4))
    dataset.finalize()
    check_rows(dataset, (4,))
    assert not (dataset.root / ".aiorecord").exists()


def test_what_lerobots_writer_is_told_is_accepted(tmp_path):
    dataset = create(
        tmp_path / "set",
        image_writer_processes=1,
        image_writer_threads=4,
        batch_encoding_size=3,
        streaming_encoding=True,
        encoder_queue_maxsize=10,
        metadata_buffer_size=2,
        encoder_threads=1,
        data_files_size_in_mb=20,
    )
    writer = dataset.writer
    assert writer._streaming_encoder is not None
    assert isinstance(writer.image_writer, AsyncImageWriter)
    assert writer.image_writer.num_processes == 1
    writer.image_writer.wait_until_done()
    writer.stop_image_writer()
    assert writer.image_writer is None
    writer.start_image_writer(0, 4)
    with pytest.raises(ValueError, match="greater than zero"):
        writer.start_image_writer(0, 0)
    record(dataset, 3, 4)
    assert dataset.meta.total_episodes == 2
    assert dataset.meta.data_files_size_in_mb == 20
    assert not writer._get_image_file_dir(0, FRONT).exists()
    writer.flush_pending_videos()
    writer.close_writer()
    dataset.finalize()
    assert writer.image_writer is None
    check_rows(dataset, (3, 4))


def test_as_images_instead_of_videos(tmp_path):
    features = {"image": CHANNELS_FIRST | {"dtype": "video"}}
    with pytest.raises(ValueError, match="use_videos"):
        create(tmp_path / "no", features, use_videos=False)
    dataset = create(tmp_path / "set", {"image": CHANNELS_FIRST}, use_videos=False, image_writer_threads=2)
    dataset.add_frame({"image": torch.rand(3, 32, 48), "task": "Test"})
    dataset.save_episode()
    dataset.finalize()
    assert dataset[0]["image"].shape == (3, 32, 48)
    assert not (tmp_path / "set/images").exists()


@pytest.mark.parametrize("streaming", [False, True])
def test_video_encoding_manager(tmp_path, streaming):
    with VideoEncodingManager(create(tmp_path / "good", streaming_encoding=streaming)) as manager:
        record(manager.dataset, 3)
    check_rows(manager.dataset, (3,))
    with pytest.raises(KeyboardInterrupt):
        with VideoEncodingManager(create(tmp_path / "bad", streaming_encoding=streaming)) as manager:
            record(manager.dataset, 3)
            add(manager.dataset, 5, 1, "Task 1")
            raise KeyboardInterrupt
    check_rows(manager.dataset, (3,))
    # What the interrupted episode held is not lost.
    again = AsyncLeRobotDataset.resume("test/set", root=tmp_path / "bad", rgb_encoder=H264)
    assert again.num_episodes == 2
    again.finalize()
    check_rows(again, (3, 5))


def test_lerobot_and_the_drop_in_continue_each_other(tmp_path, dataset):
    record(dataset, 3)
    dataset.finalize()
    for kind, episode in ((LeRobotDataset, 1), (AsyncLeRobotDataset, 2), (LeRobotDataset, 3)):
        resumed = kind.resume("test/set", root=tmp_path / "set", rgb_encoder=H264_OF[kind])
        assert resumed.num_episodes == episode
        assert resumed.writer.episode_buffer["episode_index"] == episode
        add(resumed, 4, episode, f"Task {episode % 2}")
        resumed.save_episode()
        resumed.finalize()
    check_rows(LeRobotDataset("test/set", root=tmp_path / "set", video_backend="pyav"), (3, 4, 4, 4))


def test_what_cannot_be_opened(tmp_path, dataset):
    with pytest.raises(FileExistsError):
        create(tmp_path / "set")
    with pytest.raises(ValueError, match="root"):
        AsyncLeRobotDataset.resume("test/set")
    with pytest.raises(aiorecord.DatasetLockedError):
        AsyncLeRobotDataset.resume("test/set", root=tmp_path / "set")
    odd = {"front": {"dtype": "video", "shape": (47, 63, 3), "names": ["height", "width", "channels"]}}
    with pytest.raises(ValueError, match="even"):
        create(tmp_path / "odd", odd)
    with pytest.raises(aiorecord.CodecUnavailableError):
        AsyncLeRobotDataset.create(
            "test/set",
            FPS,
            FEATURES,
            root=tmp_path / "codec",
            rgb_encoder=aiorecord.RGBEncoderConfig(vcodec="h264_nvenc"),
        )
    with pytest.raises(ValueError, match="contain '/'"):
        create(tmp_path / "slash", {"a/b": {"dtype": "float32", "shape": (2,), "names": None}})
    assert not (tmp_path / "odd").exists()
    assert not (tmp_path / "codec").exists()


def test_a_lerobot_dataset_changes_over_on_the_way(tmp_path):
    dataset = create(tmp_path / "set", kind=LeRobotDataset, image_writer_threads=2)
    record(dataset, 3)
    add(dataset, 1, 1, "Task 1")
    with pytest.raises(aiorecord.StateError, match="Save the running episode"):
        enable_async_saving(dataset)
    dataset.clear_episode_buffer()
    assert enable_async_saving(dataset, max_queue_size=2) is dataset
    assert isinstance(dataset, AsyncLeRobotDataset)
    assert dataset.num_episodes == 1
    add(dataset, 4, 1, "Task 1")
    assert dataset.save_episode_async()
    assert enable_async_saving(dataset, max_queue_size=2) is dataset
    dataset.finalize()
    check_rows(dataset, (3, 4))
    with pytest.raises(aiorecord.StateError, match="finalized"):
        enable_async_saving(dataset)


def test_a_class_of_ones_own_changes_over(tmp_path):
    class Mine(LeRobotDataset):
        def hello(self):
            return "hello"

    dataset = enable_async_saving(Mine.create("test/set", FPS, STATES, root=tmp_path / "set"))
    assert dataset.hello() == "hello"
    assert isinstance(dataset, Mine)
    record(dataset, 3, features=STATES)
    dataset.finalize()
    assert len(dataset) == 3


@pytest.mark.parametrize("in_a_cycle", [False, True])
def test_a_forgotten_dataset_is_finished_when_it_is_collected(tmp_path, in_a_cycle):
    dataset = create(tmp_path / "set")
    if in_a_cycle:
        dataset.itself = dataset
    dataset.enable_async_saving()
    add(dataset, 4, 0, "Task 0")
    assert dataset.save_episode_async()
    add(dataset, 2, 1, "Task 1")
    del dataset
    gc.collect()
    again = AsyncLeRobotDataset.resume("test/set", root=tmp_path / "set", rgb_encoder=H264)
    assert again.num_episodes == 2
    again.finalize()
    check_rows(again, (4, 2))
    assert threads_left() == set()


@pytest.mark.parametrize("patterns", [None, ["data/*", "meta/"], "*"])
@pytest.mark.parametrize("push_videos", [True, False])
def test_the_staging_area_is_never_uploaded(tmp_path, states, monkeypatch, patterns, push_videos):
    from huggingface_hub.utils import filter_repo_objects
    from lerobot.datasets import lerobot_dataset

    uploads = []

    class Hub:
        def __getattr__(self, name):
            return lambda *args, **kwargs: uploads.append((name, kwargs))

    class Card:
        def push_to_hub(self, **kwargs):
            uploads.append(("card", kwargs))

    monkeypatch.setattr(lerobot_dataset, "HfApi", Hub)
    monkeypatch.setattr(lerobot_dataset, "create_lerobot_dataset_card", lambda **kwargs: Card())
    record(states, 3, features=STATES)
    add(states, 2, features=STATES)
    (states.root / "notes.md").write_text("Mine")
    assert (states.root / ".aiorecord").exists()
    states.push_to_hub(tags=["x"], allow_patterns=patterns, push_videos=push_videos)
    [upload] = [kwargs for name, kwargs in uploads if name == "upload_folder"]
    files = [path.relative_to(states.root).as_posix() for path in states.root.rglob("*") if path.is_file()]
    sent = set(
        filter_repo_objects(
            files, allow_patterns=upload["allow_patterns"], ignore_patterns=upload["ignore_patterns"]
        )
    )
    expected = {f for f in files if not f.startswith(".")}
    if isinstance(patterns, list):
        expected -= {"notes.md"}
    assert sent == expected
    assert {name for name, _ in uploads} >= {"create_repo", "card", "create_tag"}
