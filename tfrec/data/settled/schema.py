"""The columns of the settled examples.

A row is an example of the join (`labels/join.py`), with the features of its request as they were served, and names the rule that
gave it its reward. The last row of a part has the source `window` and holds the `Part` as JSON in `context`. As in the log, a row
ends with `writer`, which is always the same here, and `seq`, the number of its part.
"""
import zlib

import numpy as np
import pyarrow as pa

from tfrec.data.labels import join
from tfrec.data.settled.part import Part

WRITER = "settle"
WINDOW = "window"  # the source of the row that describes a part
BUCKETS = 1 << 16
SCHEMA = pa.schema([
    *join.SCHEMA,
    ("bucket", pa.int32()),  # of the user, for samples: 0 to BUCKETS - 1
    ("rule", pa.string()),
    ("writer", pa.string()),
    ("seq", pa.int64()),
])


def rows_of(examples: pa.Table, part: Part) -> pa.Table:
    """The rows of a part: its examples, and the row that describes it."""
    described = {"example_id": f"{WINDOW}:{part.number}", "source": WINDOW, "time": part.window.now,
                 "context": part.model_dump_json()}
    rows = pa.concat_tables([examples, pa.Table.from_pylist([described], join.SCHEMA)])
    n = rows.num_rows
    return rows.append_column("bucket", pa.array(buckets(rows["user"]), pa.int32())).append_column(
        "rule", pa.repeat(part.rule, n)).append_column("writer", pa.repeat(WRITER, n)).append_column(
        "seq", pa.repeat(part.number, n)).cast(SCHEMA)


def buckets(users: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """`[n]`: the bucket of each user, by a checksum of the name; 0 without a user."""
    encoded = (users.combine_chunks() if isinstance(users, pa.ChunkedArray) else users).dictionary_encode()
    known = np.array([zlib.crc32(name.encode()) % BUCKETS for name in encoded.dictionary.to_pylist()] + [0], np.int32)
    return np.asarray(known[encoded.indices.fill_null(len(encoded.dictionary)).to_numpy(zero_copy_only=False)])
