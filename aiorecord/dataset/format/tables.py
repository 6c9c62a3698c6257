"""Reads and writes data files (a row per frame) and tasks.parquet, as lerobot and `datasets` write them.

Column types and the ``huggingface`` metadata follow what `datasets` 4.8 writes for the features that lerobot
0.6.1 makes (`get_hf_features_from_features`); tasks.parquet is a pandas table whose index is ``task``.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ...errors import AiorecordError, DatasetError, StorageError
from ...features import Feature, Schema
from ...media.evidence import PARQUET_KEY, Evidence, parse
from ...staging.row_columns import arrow_numbers
from ...system import storage
from . import layout
from .table_size import check_size

IMAGE_TYPE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
"""The type in which `datasets` stores its `Image()`."""


@contextlib.contextmanager
def table_errors(path: Path) -> Iterator[None]:
    """Map the errors that reading a broken table raises.

    Raises:
        DatasetError: the file is not a table, or not the expected one.
        StorageError: it cannot be read.
    """
    try:
        with storage.storage_errors(path, "read"):
            yield
    except StorageError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno is None:  # Arrow's error about the file's content
            raise DatasetError(f"{path} cannot be read: {cause}", path=path) from cause
        raise
    except AiorecordError:
        raise
    except MemoryError as error:  # also pa.ArrowMemoryError; another machine may have enough memory
        raise StorageError(
            f"{path} cannot be read: there is not enough memory ({error})", path=path, reading=True
        ) from error
    except (pa.ArrowException, UnicodeError) as error:
        # Arrow's own errors; names and texts that are not UTF-8.
        raise DatasetError(f"{path} cannot be read: {error}", path=path) from error


@contextlib.contextmanager
def open_table(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file that anybody may have written. The block's errors are mapped as by `table_errors`.

    Raises:
        DatasetError: it is not a table, or not a plain file.
    """
    with table_errors(path):
        try:
            storage.check_file(path)
        except ValueError as error:
            raise DatasetError(f"{path} cannot be read: {error}.", path=path) from error
        with pq.ParquetFile(path) as file:
            yield file


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """A Parquet file, all columns or some, without its schema metadata.

    Raises:
        DatasetError: it cannot be read, lacks a column, or is too large, see `check_size`.
    """
    with open_table(path) as file:
        missing = sorted(set(columns or ()) - set(file.schema_arrow.names))
        if missing:
            raise DatasetError(f"{path} lacks the columns {', '.join(missing)}.", path=path)
        check_size(file, path, columns)
        # One thread: these are small files, read while a control loop runs. The reader takes a name as the
        # prefix of a path too, hence the selection.
        table = file.read(columns=columns, use_threads=False)
        return (table if columns is None else table.select(columns)).replace_schema_metadata(None)


def episode_column(path: Path) -> pa.ChunkedArray[Any]:
    """The ``episode_index`` of each row of a data file or a file of `meta/episodes`."""
    return read_table(path, ["episode_index"])["episode_index"]


def data_schema(features: Mapping[str, Mapping[str, Any]]) -> pa.Schema:
    """Schema of data files.

    Args:
        features: LeRobot's feature dict with the default columns; videos are not columns.
    """
    fields: list[pa.Field[Any]] = []
    described: dict[str, dict[str, Any]] = {}
    for key, spec in features.items():
        if spec["dtype"] == "video":
            continue
        shape, dtype = [int(n) for n in spec["shape"]], spec["dtype"]
        value = {"dtype": dtype, "_type": "Value"}
        type_: Any
        metadata = None
        if dtype == "image":
            type_, described[key] = IMAGE_TYPE, {"_type": "Image"}
        elif shape == [1]:
            type_, described[key] = _value_type(dtype), value
        elif len(shape) == 1:
            type_ = pa.list_(_value_type(dtype), shape[0])
            described[key] = {"feature": value, "length": shape[0], "_type": "List"}
        else:
            name = f"Array{len(shape)}D"
            type_ = _value_type(dtype)
            for _ in shape:
                type_ = pa.list_(type_)
            described[key] = {"shape": shape, "dtype": dtype, "_type": name}
            # An Arrow extension type; written out, so that `datasets` need not be installed to register it.
            metadata = {
                "ARROW:extension:name": f"datasets.features.features.{name}ExtensionType",
                "ARROW:extension:metadata": json.dumps([shape, dtype]),
            }
        fields.append(pa.field(key, type_, metadata=metadata))
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": described}})})


def with_evidence(schema: pa.Schema, evidence: Evidence | None) -> pa.Schema:
    """A schema with this description of its file, which replaces an older one."""
    metadata: dict[Any, Any] = {
        key: value for key, value in (schema.metadata or {}).items() if key != PARQUET_KEY
    }
    if evidence is not None:
        metadata[PARQUET_KEY] = evidence.to_text()
    return schema.with_metadata(metadata)


def evidence_of(schema: pa.Schema) -> Evidence | None:
    """The description stored in a data file. Not checked against its rows, see `Evidence.fits`."""
    return parse((schema.metadata or {}).get(PARQUET_KEY))


def read_evidence(path: Path) -> Evidence | None:
    """Read the description stored in a data file, see `evidence_of`."""
    with open_table(path) as file:
        return evidence_of(file.schema_arrow)


def column_array(column: pa.ChunkedArray[Any], feature: Feature) -> NDArray[Any]:
    """A numeric column as numpy: (N,) for shape (1,), else (N, *shape).

    Raises:
        ValueError: the column's values do not have the feature's shape.
    """
    values: Any = stored(column).combine_chunks()
    for _ in range(0 if feature.shape == (1,) else len(feature.shape)):
        values = values.flatten()
    array: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return array if feature.shape == (1,) else array.reshape(len(column), *feature.shape)


def stored_type(type_: Any) -> pa.DataType:
    """A column's type; its storage type if it is an extension type, as `datasets` registers when loaded."""
    found: pa.DataType = type_.storage_type if isinstance(type_, pa.BaseExtensionType) else type_
    return found


def stored(column: Any) -> Any:
    """A column without its extension type, if it has one."""
    if not isinstance(column.type, pa.BaseExtensionType):
        return column
    type_: Any = stored_type(column.type)
    return pa.chunked_array([chunk.storage for chunk in column.chunks], type_)


def as_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The same rows in another schema: columns in its order, with its types and metadata.

    Raises:
        ArrowInvalid: a value does not fit.
        KeyError: a column is missing.
    """
    columns = []
    for field in schema:
        column = stored(table.column(field.name))
        columns.append(column if column.type == field.type else column.cast(field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file with one row group, with lerobot's settings. Not durable by itself.

    Raises:
        OSError: the disk refused.
    """
    with parquet_writer(path, table.schema) as writer:
        write_row_group(writer, table)


@contextlib.contextmanager
def parquet_writer(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """A Parquet writer with lerobot's settings; write with `write_row_group`."""
    with storage.storage_errors(path, "write"):
        writer = pq.ParquetWriter(str(path), schema, compression="snappy", use_dictionary=True)
    try:
        yield writer
    except BaseException:
        with contextlib.suppress(OSError):  # the file is incomplete in this state
            _close(writer)
        raise
    with storage.storage_errors(path, "write"):
        _close(writer)


def _close(writer: pq.ParquetWriter) -> None:
    try:
        writer.close()
    finally:
        # Arrow leaves the file open if writing the footer fails: a full disk would not get its space back.
        handle: Any = getattr(writer, "file_handle", None)  # the stubs of pyarrow misspell it
        if handle is not None:
            handle.close()


def write_row_group(writer: pq.ParquetWriter, table: pa.Table) -> None:
    """Write a table as one row group, however long it is.

    Raises:
        StorageError: the disk refused; Arrow does not say which file it was.
    """
    with storage.storage_errors(Path(str(writer.where)), "write"):
        writer.write_table(table, row_group_size=max(1, table.num_rows))


def default_columns(
    length: int, *, fps: int, episode_index: int, from_index: int, task_indices: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    """The columns that every dataset has. Timestamps are float64 here and stored as float32."""
    frames = np.arange(length, dtype=np.int64)
    return {
        "timestamp": frames / fps,
        "frame_index": frames,
        "episode_index": np.full(length, episode_index, dtype=np.int64),
        "index": frames + from_index,
        "task_index": task_indices,
    }


def data_table(
    schema: pa.Schema,
    columns: Mapping[str, pa.ChunkedArray[Any] | pa.Array[Any]],
    defaults: Mapping[str, NDArray[Any]],
) -> pa.Table:
    """One episode's data.

    Args:
        schema: see `data_schema`.
        columns: the recorded columns, and the images.
        defaults: see `default_columns`.

    Raises:
        ArrowInvalid: a column does not have the schema's type or the others' length.
        KeyError: a column is missing.
    """
    arrays = {key: arrow_numbers(values) for key, values in defaults.items()}
    table = pa.Table.from_pydict({**columns, **arrays})
    return as_schema(table, schema)


def numeric_columns(rows: pa.Table, schema: Schema) -> dict[str, NDArray[Any]]:
    """The recorded columns that have statistics, as numpy."""
    return {
        key: column_array(rows.column(key), feature)
        for key, feature in schema.columns.items()
        if feature.dtype != "string"
    }


def read_tasks(root: Path) -> dict[str, int]:
    """Tasks and their numbers, in the order of the numbers; empty when there is no file.

    Raises:
        DatasetError: the file is not lerobot's, or its numbers are not 0, 1, 2, ...
    """
    path = root / layout.TASKS_PATH
    if not path.exists():
        return {}
    table = read_table(path)
    # Older writers leave the index without a name; pandas then uses this column name.
    name = "task" if "task" in table.column_names else "__index_level_0__"
    if name not in table.column_names or "task_index" not in table.column_names:
        raise DatasetError(
            f"{path} has the columns {', '.join(table.column_names)}, not task and task_index.", path=path
        )
    pairs = zip(table["task_index"].to_pylist(), table[name].to_pylist(), strict=True)
    tasks = {str(task): index for index, task in sorted((int(index or 0), task) for index, task in pairs)}
    if list(tasks.values()) != list(range(table.num_rows)):
        raise DatasetError(f"{path}: task numbers are not 0 to {table.num_rows - 1}, each once.", path=path)
    return tasks


def write_tasks(root: Path, tasks: Mapping[str, int]) -> None:
    """Replace tasks.parquet durably."""

    def column(name: str, pandas_type: str, numpy_type: str) -> dict[str, Any]:
        return {
            "name": name,
            "field_name": name,
            "pandas_type": pandas_type,
            "numpy_type": numpy_type,
            "metadata": None,
        }

    # The schema metadata that makes pandas restore ``task`` as the index (pandas docs, "Storing pandas
    # DataFrame objects in Apache Parquet format").
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [
            column("task", "unicode", "object")
            | {"name": None, "field_name": None, "metadata": {"encoding": "UTF-8"}}
        ],
        "columns": [column("task_index", "int64", "int64"), column("task", "unicode", "object")],
        "attributes": {},
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.0",
    }
    fields: list[pa.Field[Any]] = [pa.field("task_index", pa.int64()), pa.field("task", pa.string())]
    table = pa.table(
        {"task_index": list(tasks.values()), "task": list(tasks)},
        schema=pa.schema(fields, metadata={"pandas": json.dumps(pandas)}),
    )
    with storage.replacing(root / layout.TASKS_PATH) as temporary:
        write_table(temporary, table)


def _value_type(dtype: str) -> pa.DataType:
    return pa.string() if dtype == "string" else pa.from_numpy_dtype(np.dtype(dtype))
