"""Encoded images that are spilled, and those that the capture has to decode."""

import numpy as np
import pytest
from captured import FRONT, VIDEO, prepare
from jpegs import damaged, decoded, jpeg

from aiorecord import EncodedImage
from aiorecord.staging.folder import EpisodeFolder
from aiorecord.staging.reader import count_frames, read_frames

FRAMES = 20


def record(root, images, spill_from, **options):
    """Capture images, the later ones by the spill; returns the folder."""
    capture, schema = prepare(root, VIDEO, **options)
    for k, image in enumerate(images):
        if k == spill_from:
            capture._cameras[FRONT]._queue.begin_spill()
        frame = {"observation.state": np.full(3, k, np.float32), FRONT: image}
        capture.add_frame(schema.check(frame), "x", 1000 + k)
    capture.finish()
    folder = EpisodeFolder.load(capture.path)
    assert folder.manifest.length == len(images)
    assert count_frames(folder, FRONT) == len(images)
    return folder


def pixels(folder, replaced=None):
    return [frame.to_ndarray(format="rgb24") for frame in read_frames(folder, FRONT, replaced)]


@pytest.mark.parametrize("spill_from", [0, 1, 11])
@pytest.mark.parametrize("encoded", [(FRONT,), ()], ids=["planned", "found out"])
def test_what_is_spilled_is_kept_as_it_came(tmp_path, encoded, spill_from):
    """Arrays in between too."""
    jpegs = [jpeg(k) for k in range(FRAMES)]
    images = [decoded(image) if k % 5 == 3 else EncodedImage(image) for k, image in enumerate(jpegs)]
    folder = record(tmp_path, images, spill_from, encoded=encoded)
    camera = folder.manifest.cameras[FRONT]
    assert camera.spilled >= FRAMES - spill_from - 1
    if camera.capture == "packets":
        assert all(jpegs[k] in (folder.path / camera.spill).read_bytes() for k in (14, 15, 16))
        for shown, image in zip(pixels(folder), jpegs, strict=True):
            np.testing.assert_array_equal(shown, decoded(image))


def test_a_spilled_image_that_cannot_be_decoded_is_replaced_and_counted(tmp_path):
    images = [jpeg(k) for k in range(FRAMES)]
    sent = [EncodedImage(damaged(image) if k in (12, 13) else image) for k, image in enumerate(images)]
    folder = record(tmp_path, sent, 5, encoded=[FRONT])
    replaced = []
    shown = pixels(folder, replaced)
    assert replaced == [12, 13]
    for k, image in enumerate(shown):
        np.testing.assert_array_equal(image, decoded(images[11 if k in (12, 13) else k]))


def test_a_spill_that_is_cut_holds_the_images_before(tmp_path):
    images = [jpeg(k) for k in range(FRAMES)]
    folder = record(tmp_path, [EncodedImage(image) for image in images], 5, encoded=[FRONT])
    spill = folder.path / folder.manifest.cameras[FRONT].spill
    data = spill.read_bytes()
    for k in (9, 15, FRAMES - 1):
        spill.write_bytes(data[: data.index(images[k]) + len(images[k]) - 1])
        assert count_frames(folder, FRONT) == k
        assert len(pixels(folder)) == k
