"""Merges past behaviour with new examples, and tells which events no model has learnt yet.

A retrain needs the whole behaviour of a user as history, and must know which events are new. An event that an earlier run held
back for its gate is new again: a model was judged on it and has not learnt it. It did not arrive again, though: popularity has
counted it.
"""
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.labels.pair_rewards import ACTIONS, one_row_per_pair, positive_pairs


@dataclass(frozen=True, eq=False)
class MergedBehaviour:
    """All behaviour, and which of it is new."""

    inter: Interactions
    new: npt.NDArray[np.bool_]  # [n], not learnt yet
    arrived: npt.NDArray[np.bool_]  # [n], of those, what no earlier run has seen


def merge_behaviour(base: pa.Table | None, past: pa.Table, fresh: pa.Table, *, items: Collection[str],
                    held_back: Collection[Sequence[str]] = (), cap: float = math.inf, now: int | None = None) -> MergedBehaviour:
    """Merge all behaviour: one event for each user and item whose actions together are positive (`labels/pair_rewards.py`).

    Args:
        base: rewards of actions from before there was a feedback log (`read_preferences`).
        past: examples that earlier runs have seen.
        fresh: examples that they have not.
        items: the catalogue's ids, in order.
        held_back: (user, item) of earlier events that no model has learnt.
        cap: `reward.cap`.
        now: seconds since 1970, by default of the clock; nothing counts as later.
    """
    tables = [_earliest_positive(table) for table in (past, fresh)]
    if base is not None:
        tables.insert(0, _earliest_positive(base))
    whole = _positive_pairs(tables, cap)
    learnt = _positive_pairs(tables[:-1], cap)
    inter = Interactions.from_columns(
        whole["user"], whole["item"], whole["time"].to_numpy(), items=list(items), action=whole["action"],
        weight=whole["reward"].to_numpy(), now=now,
    )
    key = inter.user.astype(np.int64) * len(inter.items) + inter.item
    arrived = ~np.isin(key, _keys(inter, learnt["user"], learnt["item"]))
    new = arrived
    if held_back:
        users, names = zip(*held_back, strict=True)
        new = arrived | np.isin(key, _keys(inter, pa.array(users, pa.string()), pa.array(names, pa.string())))
    return MergedBehaviour(inter, new, arrived)


def _earliest_positive(table: pa.Table) -> pa.Table:
    """Examples with the time and action of their earliest positive outcome, if any; examples without a reward are left out."""
    if "is_positive" in table.column_names:
        return table.select([*ACTIONS.names, "is_positive"])
    if "positive_time" in table.column_names:
        is_positive = pc.is_valid(table["positive_time"])
        time = pc.coalesce(table["positive_time"], table["time"])
        action = pc.coalesce(table["positive_action"], table["action"])
    else:
        is_positive = pc.greater(table["reward"], 0)
        time, action = table["time"], table["action"]
    columns = [table["user"], table["item"], time, action, table["reward"], is_positive]
    found = pa.table(columns, names=[*ACTIONS.names, "is_positive"])
    return found.filter(pc.or_(is_positive, pc.not_equal(table["reward"], 0)))


def _positive_pairs(tables: Sequence[pa.Table], cap: float) -> pa.Table:
    whole = pa.concat_tables(tables, promote_options="permissive").combine_chunks()
    return positive_pairs(one_row_per_pair(whole, cap=cap, is_positive=whole["is_positive"]))


def _keys(inter: Interactions, users: pa.ChunkedArray, items: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """A number for each (user, item) pair; pairs that `inter` does not know are left out."""
    user = pc.index_in(users, value_set=pa.array(inter.users, pa.string()))
    item = pc.index_in(items, value_set=pa.array(inter.items, pa.string()))
    known = pc.and_(pc.is_valid(user), pc.is_valid(item))
    codes = [c.filter(known).to_numpy().astype(np.int64) for c in (user, item)]
    return np.asarray(codes[0] * len(inter.items) + codes[1])
