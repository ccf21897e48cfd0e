"""What people have done by now, and what of it no model has learnt: base log, old and new examples in, one stream out.

The join gives examples by window; a retrain needs the whole behaviour of a user as history and must know which events are news.
An event that an earlier run held back for its gate is news again: it has been judged on, not learnt.
"""
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.labels.repeated_actions import ACTS, behaviour, merged

COLUMNS = tuple(ACTS.names)


@dataclass(frozen=True, eq=False)
class MergedBehaviour:
    """All positive events, and which of them are new `[n]`."""

    inter: Interactions
    new: npt.NDArray[np.bool_]


def gather(base: Interactions | pa.Table | None, past: pa.Table, fresh: pa.Table, *, items: Collection[str],
           held_back: Collection[Sequence[str]] = (), cap: float = math.inf, now: int | None = None) -> MergedBehaviour:
    """Put the stream together: one event for each user and item that all acts together make behaviour (`repeated_actions.py`).

    Args:
        base: behaviour from before there was a feedback log, or what its acts are worth (`read_preferences`).
        past, fresh: examples of earlier windows and of this one.
        items: the catalogue's ids, in order.
        held_back: (user, item) of earlier events that no model has learnt.
        cap: `reward.cap`.
        now: seconds since 1970, by default of the clock; nothing counts as later.
    """
    tables = [_acts(table) for table in (past, fresh)]
    if base is not None:
        before = to_table(base) if isinstance(base, Interactions) else base
        tables.insert(0, _acts(before))
    whole = behaviour(_merged(tables, cap))
    learnt = behaviour(_merged(tables[:-1], cap))
    inter = Interactions.from_columns(
        whole["user"], whole["item"], whole["time"].to_numpy(), items=list(items), action=whole["action"],
        weight=whole["reward"].to_numpy(), now=now,
    )
    key = inter.user.astype(np.int64) * len(inter.items) + inter.item
    new = ~np.isin(key, _keys(inter, learnt["user"], learnt["item"]))
    if held_back:
        users, names = zip(*held_back, strict=True)
        new |= np.isin(key, _keys(inter, pa.array(users, pa.string()), pa.array(names, pa.string())))
    return MergedBehaviour(inter, new)


def _acts(table: pa.Table) -> pa.Table:
    """Examples by the time and action of their earliest act above zero, where they have one; what is worth nothing goes."""
    if "positive_time" in table.column_names:
        is_positive = pc.is_valid(table["positive_time"])
        time = pc.coalesce(table["positive_time"], table["time"])
        action = pc.coalesce(table["positive_action"], table["action"])
    else:
        is_positive = pc.greater(table["reward"], 0)
        time, action = table["time"], table["action"]
    found = pa.table([table["user"], table["item"], time, action, table["reward"], is_positive], names=[*COLUMNS, "is_positive"])
    return found.filter(pc.or_(is_positive, pc.not_equal(table["reward"], 0)))


def _merged(tables: Sequence[pa.Table], cap: float) -> pa.Table:
    whole = pa.concat_tables(tables, promote_options="permissive").combine_chunks()
    return merged(whole, cap=cap, is_positive=whole["is_positive"])


def _keys(inter: Interactions, users: pa.ChunkedArray, items: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """One number a (user, item); pairs that `inter` does not know are left out."""
    user = pc.index_in(users, value_set=pa.array(inter.users, pa.string()))
    item = pc.index_in(items, value_set=pa.array(inter.items, pa.string()))
    known = pc.and_(pc.is_valid(user), pc.is_valid(item))
    codes = [c.filter(known).to_numpy().astype(np.int64) for c in (user, item)]
    return np.asarray(codes[0] * len(inter.items) + codes[1])


def to_table(inter: Interactions) -> pa.Table:
    """The events as columns `user, item, time, action, reward`, as the join gives them."""
    names = [np.array(v, object)[codes] for v, codes in
             ((inter.users, inter.user), (inter.items, inter.item), (inter.actions, inter.action))]
    return pa.table({
        "user": pa.array(names[0], pa.string()),
        "item": pa.array(names[1], pa.string()),
        "time": pa.array(inter.time, pa.int64()),
        "action": pa.array(names[2], pa.string()),
        "reward": pa.array(inter.weight.astype(np.float64)),
    })
