"""Logged slates with what they earned: for who asks what another policy would have earned, and for who learns from them.

In come the log and a window, out comes a sample of the requests (those answered by chance, or all that have matured since), each
with its places and their rewards, and how many others there are by the reason why they cannot be used. DuckDB reads what it must
of each column, so a log may be larger than memory.
"""
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.data.feedback_log.log import FeedbackLog, Window
from tfrec.data.labels.join import join, register
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.readers.rows import Quarantine
from tfrec.errors import DataError

_LISTS = ("history", "history_action", "history_time", "exclude", "allow_tags", "deny_tags")
_LIVE = ("prior_items", "prior_log_p")
_LABEL = ("request_id", "item", "reward", "converted", "action", "time", "shown_time")
_COLUMNS = ("time", "user", "query", *_LISTS, *_LIVE)  # of a request

# a copy of a row says the same; a slate of which one place has no propensity has none
_BY_REQUEST = """
CREATE TEMP TABLE by_request AS
SELECT request_id, MIN(policy) AS policy, MIN(time) AS time, BOOL_OR(log_propensity IS NULL) AS is_unknown,
  BOOL_OR(log_propensity < 0) AS is_chance
FROM impressions GROUP BY request_id
"""
_DRAWN = "NOT is_unknown AND is_chance"
_WANTED = """
CREATE TEMP TABLE wanted AS
SELECT request_id FROM by_request WHERE {which} ORDER BY MD5(request_id), request_id LIMIT {most}
"""
_OTHERS = f"""
SELECT SPLIT_PART(policy, '(', 1) || IF(is_unknown, ': no propensities', ': nothing was left to chance'), COUNT(*)
FROM by_request WHERE NOT ({_DRAWN}) GROUP BY 1
UNION ALL
SELECT 'shown before the version had learnt', COUNT(*) FROM by_request WHERE {_DRAWN} AND time < {{since}} HAVING COUNT(*) > 0
"""
_REQUESTS = f"""
SELECT request_id, {", ".join(f'ARG_MIN("{name}", "position") AS "{name}"' for name in _COLUMNS)}
FROM impressions SEMI JOIN wanted USING (request_id) GROUP BY request_id
"""
_PLACES = """
SELECT request_id, item, MIN("position") AS place, ANY_VALUE(log_propensity) AS log_propensity
FROM impressions SEMI JOIN wanted USING (request_id) GROUP BY request_id, item ORDER BY request_id, place
"""


class Place(NamedTuple):
    """What was shown at a place, and what came of it."""

    item: str
    log_propensity: float | None  # given the earlier places; None: nobody knows it
    reward: float
    converted: bool = False
    delay: int = 0  # seconds until the outcome that counts most; 0 without one


@dataclass(frozen=True, eq=False)
class PopularityAtRequest:
    """The items whose popularity of that second was sent along with a request, and their log p."""

    names: Sequence[str]  # that all requests of one reading share
    code: npt.NDArray[np.int32]  # [P] in `names`
    log_p: npt.NDArray[np.float32]  # [P]

    @property
    def items(self) -> list[str]:
        """`[P]` ids."""
        return [self.names[code] for code in self.code]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PopularityAtRequest) and self.items == other.items and np.array_equal(self.log_p, other.log_p)

    __hash__ = None  # type: ignore[assignment]


class Slate(NamedTuple):
    """A request as served, its `PopularityAtRequest` under "live", and the first places of what was shown."""

    request: dict[str, Any]
    places: list[Place]


def read_slates(
    log: FeedbackLog,
    window: Window,
    rule: LabelRule,
    *,
    quarantine: Quarantine | None,
    places: int | None,
    most: int,
    since: int = 0,
) -> tuple[list[Slate], Counter[str]]:
    """Up to `most` slates that were drawn by chance, the same ones for the same log, with up to `places` places each; and the
    others, counted by reason. Those shown before `since`, seconds since 1970, are among the others.

    Raises:
        DataError: a table cannot be read, or a row is malformed and there is no quarantine.
    """
    requests, shown, left_out = _select(log, window, which=f"{_DRAWN} AND time >= {int(since)}", most=most, since=since)
    examples = join(log, window, rule, quarantine=quarantine, only=requests["request_id"]).table
    slates, unsettled = _assemble(requests, shown, examples, places=places)
    return slates, left_out + unsettled


def matured_slates(
    log: FeedbackLog, window: Window, examples: pa.Table, rule: LabelRule, *, after: int, most: int
) -> tuple[list[Slate], Counter[str]]:
    """Up to `most` slates of any policy whose last label matured in a window, in the order of time; those left out, by reason.

    A place with an outcome that nothing can better is an example at once, the others of its slate a day later: a slate is learnt
    when all of it has matured, and `examples` must be those of all windows up to this one. An item without an example is not in
    the catalogue any more: the slate keeps its place, and is left out only when it has no other.

    Args:
        log: the feedback log.
        window: up to when labels have matured, and the version of the table that is read.
        examples: of the join by `rule`, this window's and those before.
        rule: says how long a label takes to mature.
        after: seconds since 1970; requests until then were learnt before.
        most: of more, a sample is taken, the same for the same log.
    """
    which = f"time > {int(after)} AND time + {rule.attribution_seconds} < {int(window.now)}"
    requests, shown, _ = _select(log, window, which=which, most=most)
    slates, left_out = _assemble(requests, shown, examples.filter(pc.is_in(examples["request_id"], requests["request_id"])),
                                 matured=True)
    return sorted(slates, key=lambda slate: (slate.request["time"], slate.request["request_id"])), left_out


def _select(
    log: FeedbackLog, window: Window, *, which: str, most: int, since: int = 0
) -> tuple[pa.Table, pa.Table, Counter[str]]:
    """The requests that are wanted, a row for each place of them, and how many were not drawn by chance."""
    table = log.tables["impressions"]
    dataset = table.dataset(window.impressions_version)

    def read() -> tuple[pa.Table, pa.Table, Counter[str]]:
        with duckdb.connect(config={"python_enable_replacements": False}) as db:
            register(db, "impressions", table.uri, dataset, table.schema)
            db.execute(_BY_REQUEST)
            db.execute(_WANTED.format(which=which, most=int(most)))
            requests = db.sql(_REQUESTS).to_arrow_table()
            return requests, db.sql(_PLACES).to_arrow_table(), Counter(dict(db.sql(_OTHERS.format(since=int(since))).fetchall()))

    found: tuple[pa.Table, pa.Table, Counter[str]] = table.checked(read, dataset)
    return found


def _assemble(
    requests: pa.Table, shown: pa.Table, examples: pa.Table, *, places: int | None = None, matured: bool = False
) -> tuple[list[Slate], Counter[str]]:
    label = {(row["request_id"], row["item"]): row for row in examples.select(_LABEL).to_pylist()}
    of_request: dict[str, list[dict[str, Any]]] = {}
    for row in shown.to_pylist():
        of_request.setdefault(row["request_id"], []).append(row)
    slates, left_out = [], Counter[str]()
    requests = requests.sort_by("request_id").combine_chunks()
    for row, live in zip(requests.drop_columns(_LIVE).to_pylist(), _live(requests), strict=True):
        name = row["request_id"]
        cut = of_request[name][:places]
        labels = [label.get((name, place["item"])) for place in cut]
        if not any(labels) if matured else None in labels:
            left_out["items that are not in the catalogue" if matured else
                     "labels not mature yet, or items that are not in the catalogue"] += 1
            continue
        request = {column: (value or []) if column in _LISTS else value for column, value in row.items()} | {"live": live}
        slates.append(Slate(request, [_place(place, found) for place, found in zip(cut, labels, strict=True)]))
    return slates, left_out


def _live(requests: pa.Table) -> list[PopularityAtRequest]:
    """Of each request; a log from before it was kept has none. As arrays: there may be hundreds of numbers a request."""
    items, log_p = (pc.fill_null(requests[name].combine_chunks(), []) for name in _LIVE)
    flat = pc.list_flatten(items).dictionary_encode()
    names, codes = flat.dictionary.to_pylist(), flat.indices.to_numpy(zero_copy_only=False).astype(np.int32)
    values = pc.list_flatten(log_p).to_numpy(zero_copy_only=False).astype(np.float32)
    ends = [np.cumsum(pc.list_value_length(column).to_numpy(zero_copy_only=False)) for column in (items, log_p)]
    if not np.array_equal(ends[0], ends[1]):
        raise DataError("impressions: expected prior_log_p to be as long as prior_items, which it is beside, in each row.")
    return [PopularityAtRequest(names, codes[start:end], values[start:end]) for start, end in pairwise([0, *ends[0].tolist()])]


def _place(place: dict[str, Any], label: dict[str, Any] | None) -> Place:
    if label is None:
        return Place(place["item"], place["log_propensity"], 0.0)
    delay = 0 if label["action"] is None else max(0, label["time"] - label["shown_time"])
    return Place(place["item"], place["log_propensity"], label["reward"], bool(label["converted"]), delay)
