"""A data file that is damaged takes no others along when it is packed."""

import pyarrow as pa
import pyarrow.parquet as pq
from staged import VIDEO, commit

from aiorecord.dataset.commit.writer import DatasetWriter
from aiorecord.dataset.packing.pack import pack
from aiorecord.features import Schema


def test_rows_with_nulls_stay_in_a_file_of_their_own(tmp_path):
    root = tmp_path / "set"
    writer = DatasetWriter.create(root, fps=30, schema=Schema(VIDEO))
    for n in range(4):
        commit(writer, n)
    path = sorted(root.glob("data/*/*.parquet"))[1]
    table = pq.read_table(path)
    at = table.column_names.index("timestamp")
    damaged = table.set_column(at, table.schema.field(at), pa.nulls(len(table), table.schema.field(at).type))
    pq.write_table(damaged, path)
    pack(writer)
    files = [pq.read_table(path) for path in sorted(root.glob("data/*/*.parquet"))]
    assert [sorted(set(file["episode_index"].to_pylist())) for file in files] == [[0], [1], [2, 3]]
    assert [file["timestamp"].null_count for file in files] == [0, len(table), 0]
