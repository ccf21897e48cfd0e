"""Settled slates with the reward of each position, for off-policy evaluation and for learning from slates.

`drawn_slates` returns slates that were drawn by chance; `matured_slates` returns slates of any policy whose labels have all
matured. Both read the settled examples of the time in question only, take a sample that is the same for the same log, and count
by reason the requests that cannot be used. Slates are rows of an Arrow table: columns stay columns from the log to the batch.
"""
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.data.people.queries import NOT_KEPT, is_hidden
from tfrec.data.records import pinned_of
from tfrec.data.settled.examples import NEWEST, SettledExamples

_REQUEST = [
    ("user", pa.string()),
    ("query", pa.string()),
    ("history", pa.list_(pa.string())),
    ("history_action", pa.list_(pa.string())),  # beside `history`, or empty
    ("history_time", pa.list_(pa.int64())),  # beside `history`, or empty; -1: unknown
    ("exclude", pa.list_(pa.string())),
    ("allow_tags", pa.list_(pa.string())),
    ("deny_tags", pa.list_(pa.string())),
    ("prior_items", pa.list_(pa.string())),  # live popularity that was sent along,
    ("prior_log_p", pa.list_(pa.float32())),  # and its log p
    ("context", pa.string()),  # JSON of `records.Context`
]
_SHOWN = [
    ("item", pa.string()),
    ("log_propensity", pa.float64()),  # given the earlier positions; null when unknown
    ("reward", pa.float64()),
    ("converted", pa.bool_()),
    ("delay", pa.int64()),  # seconds until the outcome that counts most; 0 without one
]
SLATES = pa.schema([("request_id", pa.string()), ("time", pa.int64()), *_REQUEST,
                    *((name, pa.list_(kind)) for name, kind in _SHOWN)])

_POSITIONS = """
CREATE TEMP TABLE positions AS
SELECT request_id, item, "position", slate_size, log_propensity, policy, shown_time, reward, converted,
  CASE WHEN action IS NULL THEN 0 ELSE GREATEST(time - shown_time, 0) END AS delay
FROM settled WHERE source = 'slate' AND seq <= {upto} AND {within}
""" + NEWEST
# one position without a propensity makes the slate unknown
_BY_REQUEST = """
CREATE TEMP TABLE by_request AS
SELECT request_id, MIN(policy) AS policy, MIN(shown_time) AS time, COUNT(*) >= MAX(slate_size) AS is_whole,
  BOOL_OR(log_propensity IS NULL) AS is_unknown, BOOL_OR(log_propensity < 0) AS is_chance
FROM positions GROUP BY request_id
"""
_WANTED = """
CREATE TEMP TABLE wanted AS
SELECT request_id FROM by_request WHERE {which} ORDER BY MD5(request_id), request_id LIMIT {most}
"""
_SLATES = f"""
SELECT request_id, time, {", ".join(f'"{name}"' for name, _ in (*_REQUEST, *_SHOWN))}
FROM (
  SELECT request_id, MIN(shown_time) AS time, {", ".join(f'ARG_MIN("{name}", "position") AS "{name}"' for name, _ in _REQUEST)}
  FROM settled SEMI JOIN wanted USING (request_id)
  WHERE source = 'slate' AND seq <= {{upto}} AND {{within}} GROUP BY request_id
) JOIN (
  SELECT request_id, {", ".join(f'LIST({name} ORDER BY "position", item) AS {name}' for name, _ in _SHOWN)}
  FROM positions SEMI JOIN wanted USING (request_id) GROUP BY request_id
) USING (request_id) ORDER BY time, request_id
"""
_DRAWN = "NOT is_unknown AND is_chance"
_OTHERS = f"""
SELECT SPLIT_PART(policy, '(', 1) || IF(is_unknown, ': no propensities', ': nothing was left to chance') AS why, COUNT(*) AS n
FROM by_request WHERE NOT ({_DRAWN}) GROUP BY 1
UNION ALL
SELECT 'shown before the version had learnt', COUNT(*) FROM by_request WHERE {_DRAWN} AND time < {{since}} HAVING COUNT(*) > 0
UNION ALL
SELECT 'labels not mature yet', COUNT(*) FROM by_request WHERE {_DRAWN} AND time >= {{since}} AND NOT is_whole HAVING COUNT(*) > 0
"""
_UNKNOWN = "items that are not in the catalogue"


def drawn_slates(settled: SettledExamples, *, upto: int, items: Sequence[str], positions: int | None, most: int,
                 since: int = 0) -> tuple[pa.Table, Counter[str]]:
    """Read up to `most` slates that were drawn by chance, up to `positions` of each; the others are counted by reason.

    Args:
        settled: the settled examples.
        upto: the number of the newest part that is read.
        items: ids of the catalogue; a slate with another item among its positions is left out.
        positions: of each slate, the first; None for all, which must have matured.
        most: of more slates the same sample is taken each time.
        since: seconds since 1970; slates that were shown before are left out.

    Returns:
        A table of `SLATES`, in the order of time, and how many slates were left out, by reason.
    """
    is_whole = "is_whole" if positions is None else "TRUE"
    statements = [_POSITIONS.format(upto=int(upto), within="TRUE"), _BY_REQUEST,
                  _WANTED.format(which=f"{_DRAWN} AND time >= {int(since)} AND {is_whole}", most=int(most)),
                  _SLATES.format(upto=int(upto), within="TRUE"), _OTHERS.format(since=int(since))]
    found, others = settled.queries(statements)
    left_out = Counter(dict(zip(others["why"].to_pylist(), others["n"].to_pylist(), strict=True)))
    slates = _with_text(_cut(found.cast(SLATES), positions), left_out)
    unknown = np.asarray(_known(slates, items)) < _sizes(slates)
    left_out.update({_UNKNOWN: int(unknown.sum())} if unknown.any() else {})
    return slates.filter(pa.array(~unknown)), left_out


def matured_slates(settled: SettledExamples, *, upto: int, items: Sequence[str], after: int, until: int,
                   most: int) -> tuple[pa.Table, Counter[str]]:
    """Read the slates of any policy that were shown at after < time < until, in seconds since 1970.

    A position whose outcome nothing can better settles at once, and the others of its slate a day later. A slate is learnt once,
    when all of it has matured: `until` is one attribution window before the labels' now. An item that has left the catalogue
    stays in its slate; the slate is left out only when it has no other.

    Args:
        settled: the settled examples.
        upto: the number of the newest part that is read.
        items: ids of the catalogue.
        after: requests until then were learnt before.
        until: requests from then on have open labels.
        most: of more slates than this, the same sample is taken each time.

    Returns:
        A table of `SLATES`, in the order of time, and how many slates were left out, by reason.
    """
    within = f"shown_time > {int(after)} AND shown_time < {int(until)}"
    statements = [_POSITIONS.format(upto=int(upto), within=within), _BY_REQUEST, _WANTED.format(which="TRUE", most=int(most)),
                  _SLATES.format(upto=int(upto), within=within)]
    [found] = settled.queries(statements)
    left_out = Counter[str]()
    slates = _with_text(found.cast(SLATES), left_out)
    usable = _known(slates, items) > 0
    left_out.update({_UNKNOWN: int((~usable).sum())} if not usable.all() else {})
    return slates.filter(pa.array(usable)), left_out


def flat(slates: pa.Table, column: str) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """The values of a list column one after the other, and the row that each of them is of; a null list is empty."""
    lists = slates[column].combine_chunks()
    if isinstance(lists, pa.ChunkedArray):  # a table without rows
        lists = pa.array([], lists.type)
    sizes = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return np.repeat(np.arange(len(lists)), sizes), pc.list_flatten(lists)


def pinned(slates: pa.Table) -> npt.NDArray[np.bool_]:
    """Whether a rule put each item of the slates, one after the other, where it was shown."""
    row, names = flat(slates, "item")
    found = np.zeros(len(row), bool)
    by_row = {number: items for number, text in enumerate(slates["context"].to_pylist()) if (items := pinned_of(text))}
    for at in np.flatnonzero(np.isin(row, list(by_row))):
        found[at] = names[int(at)].as_py() in by_row[int(row[at])]
    return found


def earned(slates: pa.Table, *, with_pinned: bool = True) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """The items that earned something, one after the other, and the row of the slate that each is of."""
    row, item = flat(slates, "item")
    positive = pc.fill_null(pc.greater(flat(slates, "reward")[1], 0), False).to_numpy(zero_copy_only=False)
    if not with_pinned:
        positive = positive & ~pinned(slates)
    return row[positive], item.filter(pa.array(positive))


def _with_text(slates: pa.Table, left_out: Counter[str]) -> pa.Table:
    """The slates without those whose query is not kept as text: what they would be asked again is not known."""
    hidden = is_hidden(slates["query"])
    if count := pc.sum(hidden).as_py():
        left_out[NOT_KEPT] = count
    return slates.filter(pc.invert(hidden)) if count else slates


def _cut(slates: pa.Table, positions: int | None) -> pa.Table:
    if positions is None or not slates.num_rows:
        return slates
    for name, _ in _SHOWN:
        cut = pc.list_slice(slates[name], 0, positions, return_fixed_size_list=False)
        slates = slates.set_column(slates.column_names.index(name), name, cut)
    return slates


def _sizes(slates: pa.Table) -> npt.NDArray[np.int64]:
    return np.bincount(flat(slates, "item")[0], minlength=slates.num_rows)


def _known(slates: pa.Table, items: Sequence[str]) -> npt.NDArray[np.int64]:
    """`[n]`: how many items of each slate are in the catalogue."""
    row, names = flat(slates, "item")
    known = pc.is_in(names, value_set=pa.array(items, pa.string())).to_numpy(zero_copy_only=False)
    return np.bincount(row[known], minlength=slates.num_rows)
