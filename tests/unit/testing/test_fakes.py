"""What `aiorecord.testing` gives to others' tests does what it says."""

import re
import shutil
import textwrap
from pathlib import Path

import av
import pytest

import aiorecord
from aiorecord.testing import (
    ControlledEncoder,
    NumberedCamera,
    NumberedRobot,
    NumberedTeleoperator,
    assert_whole,
    episode_lengths,
    frame_number,
    numbered_image,
    recorder_for,
    temporary_recorder,
)

PAGE = Path(__file__).parents[3] / "docs/testing.md"


async def record(recorder, seconds=0.2):
    return await recorder.record(NumberedRobot(), NumberedTeleoperator(), seconds=seconds, task="T")


@pytest.mark.parametrize("size", [(16, 32), (48, 64), (30, 101)])
def test_numbers_are_read_again(size):
    for number in [0, 1, 2, 255, 0xAAAA, 0xFFFF]:
        assert frame_number(numbered_image(number, *size)) == number
    assert frame_number(numbered_image(1 << 16)) == 0
    with pytest.raises(ValueError, match="32 pixels"):
        numbered_image(0, 48, 31)


def test_a_camera_counts():
    camera = NumberedCamera()
    assert [frame_number(camera.read()) for _ in range(3)] == [0, 1, 2]
    assert camera.read().shape == camera.feature["shape"]


async def test_each_frame_of_the_video_has_its_number(tmp_path):
    async with recorder_for(tmp_path / "set", NumberedRobot().features) as recorder:
        await record(recorder, 1)
    [path] = (tmp_path / "set/videos").rglob("*.mp4")
    with av.open(str(path)) as video:
        images = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert [frame_number(image) for image in images] == list(range(30))


async def test_encodes_wait_until_they_are_let(tmp_path):
    options = {"encode": "deferred", "repo_id": "a/b"}
    with ControlledEncoder(held=True) as encoder:
        async with recorder_for(
            tmp_path / "set", NumberedRobot().features, encode_executor=encoder, **options
        ) as recorder:
            saves = [await record(recorder) for _ in range(3)]
            encoder.let(1)
            await saves[0]
            assert encoder.lengths == [6]
            assert not saves[1].done()
            encoder.let()
            await recorder.drain()
            encoder.hold()
            held = await record(recorder)
            await held.durable()
            assert not held.done()
            encoder.let()
    assert len(encoder.lengths) == 4


async def test_encodes_fail_when_they_are_to(tmp_path):
    with ControlledEncoder() as encoder:
        async with recorder_for(
            tmp_path / "set", NumberedRobot().features, encode_executor=encoder, encode="deferred"
        ) as recorder:
            encoder.fail_next(2, OSError("injected"))
            failing = await record(recorder)
            with pytest.raises(aiorecord.SaveError, match="injected"):
                await failing
            failing.retry()
            await failing
    assert_whole(tmp_path / "set", lengths=[6], fast=True)


async def test_what_is_not_whole_is_told(tmp_path):
    root = tmp_path / "set"
    async with recorder_for(root, NumberedRobot().features) as recorder:
        await record(recorder)
    with pytest.raises(AssertionError, match=r"have \[6\] frames, not \[7\]"):
        assert_whole(root, [7], fast=True)
    (root / ".aiorecord").mkdir()
    with pytest.raises(AssertionError, match="unfinished"):
        assert_whole(root, fast=True)
    (root / ".aiorecord").rmdir()
    shutil.rmtree(root / "videos")
    with pytest.raises(AssertionError, match="video"):
        assert_whole(root, fast=True)


async def test_the_folder_goes_whatever_happens():
    with pytest.raises(KeyError):
        async with temporary_recorder(NumberedRobot().features) as recorder:
            await record(recorder)
            await recorder.drain()
            root = Path(recorder.root)
            assert episode_lengths(root) == [6]
            raise KeyError
    assert not root.parent.exists()


async def test_the_fixtures(
    aiorecord_recorder, aiorecord_robot, aiorecord_teleoperator, aiorecord_encoder, aiorecord_root
):
    async with aiorecord_recorder(encode_executor=aiorecord_encoder, encode="deferred") as recorder:
        await recorder.record(aiorecord_robot, aiorecord_teleoperator, seconds=0.1, task="T")
    assert episode_lengths(aiorecord_root) == [3]
    assert aiorecord_encoder.lengths == [3]
    assert not aiorecord_robot.is_connected


async def test_the_page():
    """Its hour is three seconds here."""
    [code, _] = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    code = code.replace("3600", "3").replace("108_000", "90")
    space = {"aiorecord": aiorecord}
    exec("async def main():\n" + textwrap.indent(code, "    "), space)
    await space["main"]()
