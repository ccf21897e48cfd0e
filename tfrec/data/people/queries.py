"""What the log keeps of a query: its text, a keyed hash of it, or only that there was one (`data.queries`).

What a person typed is data of that person. A query that is not kept as text cannot be learnt from: nothing may take its hash for
words, nor its request for one without a query. So it is marked, and whoever learns from queries or slates leaves it out.
"""
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from tfrec.config import Queries
from tfrec.data.people.pseudonym import Pseudonyms

HIDDEN = "\x1a"  # the control character "substitute": nobody types it
NOT_KEPT = "searches whose query the log does not keep as text (data.queries)"


def query_keeper(queries: Queries, people: Pseudonyms) -> Callable[[str], str]:
    """What becomes of a query before it is logged. Equal texts, but for case and spaces, have equal hashes."""
    if queries == "keep":
        return lambda text: text
    if queries == "drop":
        return lambda text: HIDDEN if text else ""
    return lambda text: f"{HIDDEN}{people.mark_of_query(' '.join(text.lower().split()))}" if text else ""


def is_hidden(queries: pa.Array | pa.ChunkedArray) -> pa.ChunkedArray:
    """`[n]`: whether each query is one that is not kept as text."""
    return pc.fill_null(pc.starts_with(queries, HIDDEN), False)  # noqa: FBT003  a value
