from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from aiorecord.errors import DamageError, StorageError
from aiorecord.staging.raw import RawWriter, raw_indices, read_indexed


def arrays() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        rng.integers(0, 65536, (30, 40), dtype=np.uint16),
        rng.normal(size=(30, 40)).astype(np.float32),
        rng.integers(0, 256, (6, 8, 3), dtype=np.uint8),
        np.zeros((480, 640), np.uint16),
        np.arange(24, dtype=np.int64).reshape(1, 2, 3, 4)[..., ::2],
        np.array([True, False]),
        np.array([[1.5, np.nan]], dtype=">f8"),
    ]


def write(path, frames) -> None:
    with closing(RawWriter(path)) as writer:
        for array in frames:
            writer.write(array)
        assert writer.frames == len(frames)
        assert writer.size == path.stat().st_size


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return (
        a.shape == b.shape and a.dtype == b.dtype.newbyteorder("=") and np.array_equal(a, b, equal_nan=True)
    )


def test_frames_read_back(tmp_path):
    write(tmp_path / "f", arrays())
    found = [frame for _, frame in read_indexed(tmp_path / "f")]
    assert len(found) == len(arrays())
    for a, b in zip(found, arrays(), strict=True):
        if a.dtype.kind == "f":
            assert same(a, b)
        else:
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def test_indices_are_kept(tmp_path):
    with closing(RawWriter(tmp_path / "f")) as writer:
        for index in (7, 8, 2**40):
            writer.write(np.array([index]), index)
    assert [(i, a.item()) for i, a in read_indexed(tmp_path / "f")] == [(7, 7), (8, 8), (2**40, 2**40)]
    assert list(raw_indices(tmp_path / "f")) == [7, 8, 2**40]


def test_frames_are_readable_while_it_is_open(tmp_path):
    writer = RawWriter(tmp_path / "f")
    writer.write(np.ones(3))
    assert len(list(read_indexed(tmp_path / "f"))) == 1
    writer.close()
    writer.close()


@pytest.mark.parametrize("fill", [b"", b"\0" * 500, b"\xff" * 500])
def test_a_torn_file_gives_its_whole_frames(tmp_path, fill):
    frames = [np.random.default_rng(k).integers(0, 65536, (5, 7), dtype=np.uint16) for k in range(6)]
    write(tmp_path / "f", frames)
    data = (tmp_path / "f").read_bytes()
    record = len(data) // 6
    for cut in range(len(data)):
        (tmp_path / "f").write_bytes(data[:cut] + fill)
        found = [frame for _, frame in read_indexed(tmp_path / "f")]
        assert len(found) == cut // record == len(list(raw_indices(tmp_path / "f")))
        assert all(same(a, b) for a, b in zip(found, frames, strict=False))


def test_any_damaged_byte_ends_the_frames_there(tmp_path):
    frames = [np.full((4, 4), k, np.uint16) for k in range(3)]
    write(tmp_path / "f", frames)
    data = bytearray((tmp_path / "f").read_bytes())
    record = len(data) // 3
    for at in range(record, 2 * record):
        damaged = data.copy()
        damaged[at] ^= 0x40
        (tmp_path / "f").write_bytes(damaged)
        assert len(list(read_indexed(tmp_path / "f"))) == 1


def test_a_missing_file_has_no_frames(tmp_path):
    assert list(read_indexed(tmp_path / "none")) == []


def test_what_is_no_file_is_damage(tmp_path):
    with pytest.raises(DamageError):
        list(read_indexed(tmp_path))  # a folder


@pytest.mark.parametrize(
    "array", [np.zeros(()), np.zeros((0, 3)), np.zeros((1,) * 5), np.array(["x"]), np.array([None])]
)
def test_what_is_no_frame_is_refused(tmp_path, array):
    with closing(RawWriter(tmp_path / "f")) as writer:
        with pytest.raises(ValueError, match="raw frame"):
            writer.write(array)
        assert writer.size == 0


def test_an_existing_file_is_not_overwritten(tmp_path):
    (tmp_path / "f").touch()
    with pytest.raises(StorageError):
        RawWriter(tmp_path / "f")
