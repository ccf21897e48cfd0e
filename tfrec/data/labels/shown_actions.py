"""Which actions came of each shown item, for a model with a head for each action: settled examples keep only the strongest.

An action belongs to a shown item by the rules of `join.sql`. An outcome that names its request belongs to the item in that
request, whichever user it is of. An outcome that names none belongs to the latest request that showed its user the item, so that
an item with a reward has the action that earned it. The weights of the reward do not matter here.

Two rules of `join.sql` are left out. Repeats count: a repeat changes nothing here, unless the action that it repeats came before
the item was shown. An outcome that claims to be later than now keeps its time, as there is no window that says what now is.
"""
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.schema import SCHEMAS, Kind
from tfrec.data.labels.duckdb_engine import duckdb_engine
from tfrec.data.labels.malformed_rows import is_well_formed
from tfrec.data.labels.repeated_actions import MINUTE_LIMIT
from tfrec.data.labels.sql_engine import SqlEngine

# The engine builds hash tables of the relations on the right: those are of the slates, and the log streams past them.
_KEYS = """
SELECT DISTINCT 'request ' || request_id AS told_by, item FROM shown
UNION ALL
SELECT DISTINCT 'user ' || "user" AS told_by, item FROM shown
"""
_ACTS = """
SELECT DISTINCT o.request_id, o."user", o.item, o.action, o.time
FROM outcomes AS o
SEMI JOIN wanted AS w ON w.action = o.action
SEMI JOIN keys AS k ON k.item = o.item AND k.told_by = COALESCE('request ' || o.request_id, 'user ' || o."user")
"""
_HURRIES = f"""
SELECT o."user", o.time // 60 AS minute
FROM outcomes AS o
SEMI JOIN acts AS a ON a."user" = o."user" AND a.time // 60 = o.time // 60
GROUP BY o."user", o.time // 60 HAVING COUNT(DISTINCT o.event_id) > {MINUTE_LIMIT}
"""
_UNHURRIED = """
SELECT a.* FROM acts AS a ANTI JOIN hurries AS h ON h."user" = a."user" AND h.minute = a.time // 60
"""
# requests that are not in `shown` may be later than those that are, so all that showed the item are looked at
_CREDITED = """
SELECT request_id, item, action, time FROM unhurried WHERE request_id IS NOT NULL
UNION ALL
SELECT i.request_id, a.item, a.action, a.time
FROM impressions AS i
JOIN (SELECT * FROM unhurried WHERE request_id IS NULL) AS a ON a."user" = i."user" AND a.item = i.item
WHERE a.time > i.time AND a.time <= i.time + {attribution}
QUALIFY ROW_NUMBER() OVER (PARTITION BY a."user", a.item, a.action, a.time ORDER BY i.time DESC, i.request_id) = 1
"""
_FOUND = """
SELECT DISTINCT s.slate, s.place, w.head
FROM credited AS a
JOIN wanted AS w ON w.action = a.action
JOIN shown AS s ON s.request_id = a.request_id AND s.item = a.item
WHERE a.time >= s.time AND a.time <= s.time + {attribution}
"""


def shown_actions(log: FeedbackLog, slates: pa.Table, actions: Sequence[str], *,
                  attribution_seconds: int) -> npt.NDArray[np.bool_]:
    """`[n, K, len(actions)]`: whether each action was logged of each shown item, inside the attribution window.

    Malformed outcomes do not count, nor do those of a user's minute with more outcomes than a person can have. The time and the
    memory that it takes grow with the part of the log from the first slate to the last, not with the log.

    Args:
        log: the feedback log, as it is now.
        slates: n rows of `examples.slates.SLATES`; of its columns, request_id, user, time and item are read.
        actions: the names, as logged. One that nobody logged is false everywhere.
        attribution_seconds: an action counts for an item that was shown at most so long before.

    Returns:
        K is the length of the longest slate, 0 without any. A shorter slate is false after its last item; an item that stands
        twice in a slate has its actions at both positions.

    Raises:
        DataError: a table of the log cannot be read; names the file.
    """
    shown, longest = _shown(slates)
    found = np.zeros((slates.num_rows, longest, len(actions)), np.bool_)
    if not found.size:
        return found
    span = pc.min_max(shown["time"]).as_py()
    since, until = span["min"], span["max"] + attribution_seconds
    with duckdb_engine() as sql:
        sql.register("shown", shown)
        sql.register("wanted", pa.table({"action": pa.array(actions, pa.string()), "head": np.arange(len(actions))}))
        sql.create_view("keys", _KEYS)
        whole_minutes = since // 60 * 60, until // 60 * 60 + 59
        acts = _answers(sql, log, "outcomes", whole_minutes, {"acts": _ACTS, "hurries": _HURRIES, "unhurried": _UNHURRIED})
        if acts["request_id"].null_count:
            credited = {"credited": _CREDITED.format(attribution=attribution_seconds)}
            acts = _answers(sql, log, "impressions", (since, until), credited)
        sql.register("credited", acts)
        rows = sql.query(_FOUND.format(attribution=attribution_seconds))
    found[tuple(rows[name].to_numpy() for name in ("slate", "place", "head"))] = True
    return found


def _shown(slates: pa.Table) -> tuple[pa.Table, int]:
    """A row for each shown item, with the number of its slate and its place in it, and the length of the longest slate."""
    size = pc.fill_null(pc.list_value_length(slates["item"]), 0).to_numpy()
    slate = np.repeat(np.arange(len(size)), size)
    place = np.arange(len(slate)) - np.repeat(np.cumsum(size) - size, size)
    of_request = slates.select(["request_id", "user", "time"]).take(pa.array(slate))
    shown = of_request.append_column("item", pc.list_flatten(slates["item"]))
    return shown.append_column("slate", pa.array(slate)).append_column("place", pa.array(place)), int(size.max(initial=0))


def _answers(sql: SqlEngine, log: FeedbackLog, kind: Kind, span: tuple[int, int], statements: Mapping[str, str]) -> pa.Table:
    """Name the well-formed rows of a table with a time in `span`, and the answer of each statement; returns the last answer."""
    table, (since, until) = log.tables[kind], span
    part = table.within(since, until)

    def run() -> pa.Table:
        sql.open_table(f"all_{kind}", table.uri, part, SCHEMAS[kind])
        # rows without an ingest id are in no window, so the join does not see them either
        sql.create_view(kind, f"SELECT * FROM all_{kind} WHERE time BETWEEN {since} AND {until} AND {is_well_formed(kind)} "
                              "AND writer IS NOT NULL AND seq IS NOT NULL")
        for name, statement in statements.items():
            answer = sql.query(statement)
            sql.register(name, answer)
        return answer

    return table.checked(run, part)
