"""Logged slates with the reward of each position, for off-policy evaluation and for learning from slates.

`read_slates` returns slates that were drawn by chance; `matured_slates` returns slates of any policy whose labels have all
matured in a window. Both take a sample that is the same for the same log, and count by reason the requests that cannot be used.
DuckDB reads only the columns that are needed, so a log may be larger than memory.
"""
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.data.feedback_log.duckdb_view import create_view
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.window import Window
from tfrec.data.labels.join import join
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.readers.quarantine import Quarantine
from tfrec.errors import DataError

_LISTS = ("history", "history_action", "history_time", "exclude", "allow_tags", "deny_tags")
_LIVE = ("prior_items", "prior_log_p")
_LABEL = ("request_id", "item", "reward", "converted", "action", "time", "shown_time")
_COLUMNS = ("time", "user", "query", *_LISTS, *_LIVE)  # of a request

# MIN and BOOL_OR give the same for rows that were written twice. One position without a propensity makes the slate unknown.
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
_SHOWN = """
SELECT request_id, item, MIN("position") AS "position", ANY_VALUE(log_propensity) AS log_propensity
FROM impressions SEMI JOIN wanted USING (request_id) GROUP BY request_id, item ORDER BY request_id, "position"
"""


class SlatePosition(NamedTuple):
    """The item at one position of a slate, and its label."""

    item: str
    log_propensity: float | None  # given the earlier positions; None when unknown
    reward: float
    converted: bool = False
    delay: int = 0  # seconds until the outcome that counts most; 0 without one


@dataclass(frozen=True, eq=False)
class PopularityAtRequest:
    """The live popularity that was sent along with a request: items and their log p at that second."""

    names: Sequence[str]  # shared by all requests that were read together
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
    """A request as it was served, with its `PopularityAtRequest` under "live", and the first positions of its slate."""

    request: dict[str, Any]
    positions: list[SlatePosition]


def read_slates(
    log: FeedbackLog,
    window: Window,
    rule: LabelRule,
    *,
    quarantine: Quarantine | None,
    positions: int | None,
    most: int,
    since: int = 0,
) -> tuple[list[Slate], Counter[str]]:
    """Read up to `most` slates that were drawn by chance, up to `positions` of each; the others are counted by reason.

    Of more slates the same sample is taken each time. Slates shown before `since`, in seconds since 1970, are left out.

    Raises:
        DataError: a table cannot be read, or a row is malformed and there is no quarantine.
    """
    requests, shown, left_out = _select(log, window, which=f"{_DRAWN} AND time >= {int(since)}", most=most, since=since)
    examples = join(log, window, rule, quarantine=quarantine, only=requests["request_id"]).table
    slates, unsettled = _assemble(requests, shown, examples, usable=all, positions=positions,
                                  otherwise="labels not mature yet, or items that are not in the catalogue")
    return slates, left_out + unsettled


def matured_slates(
    log: FeedbackLog, window: Window, examples: pa.Table, rule: LabelRule, *, after: int, most: int
) -> tuple[list[Slate], Counter[str]]:
    """Read slates of any policy whose last label matured in a window, in the order of time.

    A position whose outcome nothing can better becomes an example at once, and the others of its slate a day later. A slate is
    learnt once, when all of it has matured. An item without an example has left the catalogue: its position stays in the slate,
    and the slate is left out only when it has no other.

    Args:
        log: the feedback log.
        window: up to when labels have matured, and the version of the table that is read.
        examples: those of the join by `rule`, of this window and of all windows before it.
        rule: says how long a label takes to mature.
        after: seconds since 1970; requests until then were learnt before.
        most: of more slates than this, the same sample is taken each time. Those left out are counted by reason.
    """
    which = f"time > {int(after)} AND time + {rule.attribution_seconds} < {int(window.now)}"
    requests, shown, _ = _select(log, window, which=which, most=most)
    examples = examples.filter(pc.is_in(examples["request_id"], requests["request_id"]))
    slates, left_out = _assemble(requests, shown, examples, usable=any, otherwise="items that are not in the catalogue")
    return sorted(slates, key=lambda slate: (slate.request["time"], slate.request["request_id"])), left_out


def _select(
    log: FeedbackLog, window: Window, *, which: str, most: int, since: int = 0
) -> tuple[pa.Table, pa.Table, Counter[str]]:
    """The sampled requests, a row for each of their positions, and how many requests were not drawn by chance."""
    table = log.tables["impressions"]
    dataset = table.dataset(window.impressions_version)

    def read() -> tuple[pa.Table, pa.Table, Counter[str]]:
        with duckdb.connect(config={"python_enable_replacements": False}) as db:
            create_view(db, "impressions", table.uri, dataset, table.schema)
            db.execute(_BY_REQUEST)
            db.execute(_WANTED.format(which=which, most=int(most)))
            requests = db.sql(_REQUESTS).to_arrow_table()
            return requests, db.sql(_SHOWN).to_arrow_table(), Counter(dict(db.sql(_OTHERS.format(since=int(since))).fetchall()))

    found: tuple[pa.Table, pa.Table, Counter[str]] = table.checked(read, dataset)
    return found


def _assemble(
    requests: pa.Table, shown: pa.Table, examples: pa.Table, *, usable: Callable[[Iterable[object]], bool], otherwise: str,
    positions: int | None = None,
) -> tuple[list[Slate], Counter[str]]:
    """Put requests, positions and labels together; slates whose labels are not `usable` are counted as `otherwise`."""
    label = {(row["request_id"], row["item"]): row for row in examples.select(_LABEL).to_pylist()}
    of_request: dict[str, list[dict[str, Any]]] = {}
    for row in shown.to_pylist():
        of_request.setdefault(row["request_id"], []).append(row)
    slates, left_out = [], Counter[str]()
    requests = requests.sort_by("request_id").combine_chunks()
    for row, live in zip(requests.drop_columns(_LIVE).to_pylist(), _live(requests), strict=True):
        name = row["request_id"]
        cut = of_request[name][:positions]
        labels = [label.get((name, one["item"])) for one in cut]
        if not usable(labels):
            left_out[otherwise] += 1
            continue
        request = {column: (value or []) if column in _LISTS else value for column, value in row.items()} | {"live": live}
        slates.append(Slate(request, [_position(one, found) for one, found in zip(cut, labels, strict=True)]))
    return slates, left_out


def _live(requests: pa.Table) -> list[PopularityAtRequest]:
    """The live popularity of each request, none where the columns are null. Arrays: a request may have hundreds of numbers."""
    items, log_p = (pc.fill_null(requests[name].combine_chunks(), []) for name in _LIVE)
    flat = pc.list_flatten(items).dictionary_encode()
    names, codes = flat.dictionary.to_pylist(), flat.indices.to_numpy(zero_copy_only=False).astype(np.int32)
    values = pc.list_flatten(log_p).to_numpy(zero_copy_only=False).astype(np.float32)
    ends = [np.cumsum(pc.list_value_length(column).to_numpy(zero_copy_only=False)) for column in (items, log_p)]
    if not np.array_equal(ends[0], ends[1]):
        raise DataError("impressions: expected prior_log_p and prior_items to have the same length in each row.")
    return [PopularityAtRequest(names, codes[start:end], values[start:end]) for start, end in pairwise([0, *ends[0].tolist()])]


def _position(shown: dict[str, Any], label: dict[str, Any] | None) -> SlatePosition:
    if label is None:
        return SlatePosition(shown["item"], shown["log_propensity"], 0.0)
    delay = 0 if label["action"] is None else max(0, label["time"] - label["shown_time"])
    return SlatePosition(shown["item"], shown["log_propensity"], label["reward"], bool(label["converted"]), delay)
