"""Rows become Arrow arrays as `pa.array` would make them, without what it loads the first time."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from aiorecord.staging.row_columns import arrow_numbers

PROGRAM = """
import asyncio, sys
import numpy as np
import aiorecord
from aiorecord.system.memory import keep_pandas_out_of_arrow

keep_pandas_out_of_arrow()  # as commands do: it would load that too
FEATURES = {
    "action": {"dtype": "float32", "shape": (2,), "names": None},
    "grid": {"dtype": "float64", "shape": (2, 3), "names": None},
    "done": {"dtype": "bool", "shape": (1,), "names": None},
}

async def main():
    options = {"root": sys.argv[1], "pack": False}
    async with aiorecord.Recorder("me/x", fps=30, features=FEATURES, **options) as recorder:
        async with recorder.episode("t") as episode:
            for number in range(3):
                episode.add_frame({
                    "action": np.full(2, number, np.float32),
                    "grid": np.full((2, 3), number, np.float64),
                    "done": np.array([number == 2]),
                })
        await episode.save

asyncio.run(main())
assert "numpy.ma" not in sys.modules
import pyarrow.parquet as pq
[path] = __import__("pathlib").Path(sys.argv[1]).glob("data/*/*.parquet")
table = pq.read_table(path)
assert table["action"].to_pylist() == [[0, 0], [1, 1], [2, 2]], table
assert table["grid"].to_pylist()[2] == [[2, 2, 2], [2, 2, 2]], table
assert table["done"].to_pylist() == [False, False, True], table
"""


def test_an_episode_is_recorded_and_saved_without_numpy_ma(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "set")], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint8", "int16", "int32", "int64", "uint64", "f2", "f4", "f8"]
)
@pytest.mark.parametrize("length", [0, 1, 9])
def test_arrays_are_those_of_arrow(dtype, length):
    values = (np.arange(2 * length) % 3).astype(dtype)[::2]
    if values.dtype.kind == "f" and length:
        values[0] = np.nan
    ours, theirs = arrow_numbers(values), pa.array(np.ascontiguousarray(values))
    ours.validate(full=True)
    assert ours.type == theirs.type
    assert ours.null_count == 0
    np.testing.assert_array_equal(ours.to_numpy(zero_copy_only=False), values)
