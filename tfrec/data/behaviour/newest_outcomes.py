"""The newest outcomes of the log, by which a gateway and a popularity delta count what is popular now.

They are columns of codes: a million rows of strings would be some hundred megabytes, and slow to sort.
"""
import itertools

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.schema import SCHEMAS
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.labels.pair_rewards import one_row_per_pair, positive_pairs, rewarded_actions
from tfrec.data.records import MAX_VALUE

MAX_ROWS = 1_000_000  # read in half a second
_CODED = ("user", "item", "action", "writer")  # dictionaries
_COLUMNS = SCHEMAS["outcomes"].names
_BLOCK = 20_000  # rows of whole users that are weighed at once


def newest_outcomes(log: FeedbackLog, *, max_rows: int = MAX_ROWS) -> pa.Table:
    """The newest `max_rows` outcomes of the log, and those of the same second as the oldest of them.

    They are in the order of users' names and, of a user, of time. `user`, `item`, `action` and `writer` are dictionaries; that of
    `user` is sorted. Rows of other tools that lack a column, or whose value is beyond `MAX_VALUE` or NaN, are left out.
    What it costs does not depend on the length of the log.

    Raises:
        DataError: the table cannot be read; names the file.
    """
    table = log.tables["outcomes"]
    since = table.time_of_newest(max_rows)
    complete = [name for name in _COLUMNS if name != "request_id"]
    reader = table.columns(since=since, complete=complete)
    time = reader.read("time").to_numpy()
    if len(time) > max_rows:
        reader = table.columns(since=int(np.partition(time, -max_rows)[-max_rows]), complete=complete)
        time = reader.read("time").to_numpy()
    user = _by_name(reader.read("user", coded=True))
    order = np.lexsort((time, user.indices.to_numpy()))

    def column(name: str) -> pa.Array:
        if name in ("event_id", "request_id"):
            found = reader.read_ids(name, order)
        else:
            found = (user if name == "user" else reader.read(name, coded=name in _CODED)).take(pa.array(order))
        pa.default_memory_pool().release_unused()  # a read unpacks as much as it returns
        return found

    found = pa.table([column(name) for name in _COLUMNS], names=_COLUMNS)
    usable = pc.less_equal(pc.abs(found["value"]), MAX_VALUE)  # never true of NaN
    return found if pc.all(usable).as_py() else found.filter(usable)


def _by_name(column: pa.DictionaryArray) -> pa.DictionaryArray:
    """The same column with its dictionary sorted."""
    order = pc.sort_indices(column.dictionary).to_numpy()
    code = np.empty(len(order), np.int32)
    code[order] = np.arange(len(order), dtype=np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(code[column.indices.to_numpy()]), column.dictionary.take(pa.array(order)))


def first_positives(outcomes: pa.Table, rule: LabelRule | None, *, most: int | None = None) -> pa.Table:
    """The events that popularity counts, as in training: the earliest positive action of each user and item.

    Args:
        outcomes: as `newest_outcomes` gives them.
        rule: None: every outcome is positive.
        most: only so many, the newest.

    Returns:
        The columns `user` and `item`, dictionaries, and `time`; oldest first.
    """
    user = outcomes["user"].combine_chunks().indices.to_numpy()
    cuts = np.searchsorted(user, user[::_BLOCK])  # where the user of each of these rows begins
    cuts = np.unique(np.append(cuts, len(user)))
    blocks = [outcomes.slice(start, stop - start) for start, stop in itertools.pairwise(cuts.tolist())] or [outcomes]
    found = pa.concat_tables([_first_positives(block, rule) for block in blocks])
    order = np.argsort(found["time"].to_numpy(), kind="stable")
    return found.take(pa.array(order if most is None else order[max(0, len(order) - most) :]))


def _first_positives(outcomes: pa.Table, rule: LabelRule | None) -> pa.Table:
    if rule is None:
        all_alike = outcomes.append_column("reward", pa.array(np.ones(outcomes.num_rows)))
        return one_row_per_pair(all_alike, cap=1.0).select(["user", "item", "time"])
    pairs = one_row_per_pair(rewarded_actions(outcomes, rule.reward, rule.lengths), cap=rule.reward.cap)
    return positive_pairs(pairs).select(["user", "item", "time"])
