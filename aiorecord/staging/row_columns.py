"""The columns of rows in Arrow: their types, arrays made of numpy's, and a checksum of the values."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..features import Feature, Schema


def arrow_type(feature: Feature) -> pa.DataType:
    """How a feature that is not a camera is stored: (1,) as a plain value, (n,) as a list of fixed size, more
    dimensions as nested lists; what lerobot's data files hold, without extension types.
    """
    dtype = feature.dtype
    value: pa.DataType = pa.string() if dtype == "string" else pa.from_numpy_dtype(np.dtype(dtype))
    if feature.shape == (1,):
        return value
    if len(feature.shape) == 1:
        return pa.list_(value, feature.shape[0])
    for _ in feature.shape:
        value = pa.list_(value)
    return value


def rows_schema(schema: Schema) -> pa.Schema:
    """The columns of the journal."""
    fields: list[pa.Field[Any]] = [pa.field(key, arrow_type(f)) for key, f in schema.columns.items()]
    return pa.schema([*fields, pa.field("task", pa.string()), pa.field("time_ns", pa.int64())])


def arrow_numbers(values: NDArray[Any]) -> pa.Array[Any]:
    """An Arrow array that shares the memory of some numbers, which must not be changed.

    ``pa.array`` imports ``numpy.ma`` the first time, which takes longer than everything else before the first
    frame except importing the libraries.

    Args:
        values: (N,) of any numeric dtype or bool.
    """
    if values.dtype == bool:  # a bit each in Arrow
        return pa.array(values.tolist(), pa.bool_())
    data: Any = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, data])


def arrow_column(values: list[Any], feature: Feature) -> pa.Array[Any]:
    """The values of a feature, one per row, as `arrow_type` says."""
    if feature.dtype == "string":
        return pa.array(values, pa.string())
    flat: NDArray[Any] = np.concatenate([np.ravel(value) for value in values])
    array: Any = arrow_numbers(flat)
    dimensions = () if feature.shape == (1,) else feature.shape
    if len(dimensions) == 1:
        array = pa.FixedSizeListArray.from_arrays(array, dimensions[0])
        dimensions = ()
    for size in reversed(dimensions):
        offsets: Any = arrow_numbers(np.arange(0, len(array) + 1, size, dtype=np.int32))
        array = pa.ListArray.from_arrays(offsets, array)
    column: pa.Array[Any] = array
    return column


def values_checksum(batch: pa.RecordBatch, seed: int = 0) -> int:
    """CRC-32 of the values, column by column, independent of Arrow's memory layout."""
    crc = seed
    for column in batch.columns:
        values: Any = column
        while pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type):
            values = values.flatten()
        if pa.types.is_string(values.type):
            data = "\0".join(values.to_pylist()).encode()
        else:
            data = values.to_numpy(zero_copy_only=False).tobytes()
        crc = zlib.crc32(data, crc)
    return crc
