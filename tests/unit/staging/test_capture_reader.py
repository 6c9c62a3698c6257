from __future__ import annotations

import sys
from contextlib import closing

import numpy as np
import pytest
from captured import (
    DEPTH,
    EVERYTHING,
    FRONT,
    STILL,
    assert_frames,
    checked,
    expected,
    noise,
    prepare,
    values_of,
)

from aiorecord.errors import DamageError, StateError
from aiorecord.staging.raw import RawWriter
from aiorecord.staging.reader import count_frames, read_frames, read_histograms

LENGTH = 8


@pytest.fixture
def recorded(tmp_path):
    capture, schema = prepare(tmp_path, EVERYTHING)
    for k in range(LENGTH):
        capture.add_frame(checked(schema, k), "", 0)
    return capture.finish(), schema


@pytest.mark.parametrize("key", [FRONT, STILL])
@pytest.mark.parametrize("fill", [b"", bytes(400), b"\xff" * 400], ids=["cut", "zeros", "ones"])
def test_a_file_cut_at_any_byte_gives_its_whole_frames(recorded, key, fill):
    folder, schema = recorded
    path = folder.path / folder.manifest.cameras[key].file
    data = path.read_bytes()
    folder.manifest.state = "recording"
    wanted = [values_of(expected(schema, key, k)) for k in range(LENGTH)]
    counts = []
    for cut in [*range(0, len(data), 331), *range(len(data) - 40, len(data) + 1)]:
        path.write_bytes(data[:cut] + fill)
        found = [values_of(frame) for frame in read_frames(folder, key)]
        assert count_frames(folder, key) == len(found), cut
        assert found == wanted[: len(found)], cut
        counts.append(len(found))
    assert counts == sorted(counts)
    assert set(counts) == set(range(LENGTH + 1))


def test_raw_frames_are_counted_as_they_are_read(recorded):
    folder, schema = recorded
    path = folder.path / folder.manifest.cameras[DEPTH].file
    data = path.read_bytes()
    for cut in range(0, len(data), 97):
        path.write_bytes(data[:cut])
        assert_frames(folder, schema, DEPTH, count_frames(folder, DEPTH))


@pytest.mark.parametrize("key", [FRONT, STILL, DEPTH])
def test_files_that_are_missing_or_garbage_have_no_frames(recorded, key):
    folder, _ = recorded
    path = folder.path / folder.manifest.cameras[key].file
    for content in (b"", b"garbage" * 100, bytes(1000)):
        path.write_bytes(content)
        assert list(read_frames(folder, key)) == []
        assert count_frames(folder, key) == 0
    path.unlink()
    assert list(read_frames(folder, key)) == []
    assert count_frames(folder, key) == 0


@pytest.mark.parametrize("key", [FRONT, STILL, DEPTH])
def test_what_is_no_file_is_damage(recorded, key):
    folder, _ = recorded
    path = folder.path / folder.manifest.cameras[key].file
    path.unlink()
    path.mkdir()
    with pytest.raises(DamageError):
        list(read_frames(folder, key))
    with pytest.raises(DamageError):
        count_frames(folder, key)


@pytest.mark.parametrize("key", [FRONT, STILL, DEPTH])
@pytest.mark.parametrize(
    ("indices", "total"),
    [
        ([8, 9, 10], 11),
        ([6, 7, 8, 9], 10),  # the file got further than the spill expected
        ([9, 10], 8),  # a gap: frames that were in memory when the process was killed
        ([8, 10], 9),
        ([], 8),
    ],
)
def test_the_spill_goes_on_where_the_file_ends(recorded, key, indices, total):
    folder, schema = recorded
    with closing(RawWriter(folder.path / folder.manifest.cameras[key].spill)) as spill:
        for k in indices:
            spill.write(checked(schema, k).images[key], k)
    assert count_frames(folder, key) == total
    assert_frames(folder, schema, key, total)
    if key != DEPTH:
        assert len(list(read_histograms(folder, key))) == total


def test_torn_histograms_are_left_out(recorded):
    folder, _ = recorded
    path = folder.path / folder.manifest.cameras[FRONT].histograms
    data = path.read_bytes()
    whole = np.array(list(read_histograms(folder, FRONT)))
    for cut in (len(data) - 1, 3 * 3072 + 5, 3071, 0):
        path.write_bytes(data[:cut])
        found = np.reshape(list(read_histograms(folder, FRONT)), (-1, 3, 256))
        np.testing.assert_array_equal(found, whole[: cut // 3072])
    path.unlink()
    assert list(read_histograms(folder, FRONT)) == []


def test_spilled_histograms_never_take_the_place_of_lost_ones(recorded):
    folder, _ = recorded
    path = folder.path / folder.manifest.cameras[FRONT].histograms
    path.write_bytes(path.read_bytes()[: 5 * 3072])
    with closing(RawWriter(folder.path / folder.manifest.cameras[FRONT].spill)) as spill:
        spill.write(noise(0, (48, 64, 3)), LENGTH)
    assert len(list(read_histograms(folder, FRONT))) == 5


def test_an_unknown_camera_is_an_error(recorded):
    folder, _ = recorded
    for function in (read_frames, count_frames, read_histograms):
        with pytest.raises(StateError):
            list(function(folder, "nothing"))


def test_reading_can_be_left_early(recorded):
    folder, _ = recorded
    frames = read_frames(folder, FRONT)
    next(frames)
    frames.close()
    folder.remove()


def test_reading_video_needs_no_pyarrow(recorded):
    import subprocess

    folder, _ = recorded
    code = (
        "import sys; from pathlib import Path\n"
        "from aiorecord.staging.reader import read_frames, read_histograms\n"
        "from aiorecord.staging.folder import EpisodeFolder\n"
        "folder = EpisodeFolder.load(Path(sys.argv[1]))\n"
        f"assert sum(1 for _ in read_frames(folder, {FRONT!r})) == {LENGTH}\n"
        f"assert len(list(read_histograms(folder, {FRONT!r}))) == {LENGTH}\n"
        "assert 'pyarrow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, str(folder.path)], check=True)
