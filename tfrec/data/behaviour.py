"""What people have done by now, and what of it no model has learnt: base log, old and new examples in, one stream out.

The join gives examples by window; a retrain needs the whole behaviour of a user as history and must know which events are news.
An event that an earlier run held back for its gate is news again: it has been judged on, not learnt.
"""
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.data.interactions import Interactions

COLUMNS = ("user", "item", "time", "action", "reward")


@dataclass(frozen=True, eq=False)
class Behaviour:
    """All positive events, and which of them are new `[n]`."""

    inter: Interactions
    new: npt.NDArray[np.bool_]


def gather(base: Interactions | None, past: pa.Table, fresh: pa.Table, *, items: Collection[str],
           held_back: Collection[Sequence[str]] = ()) -> Behaviour:
    """Put the stream together.

    Args:
        base: behaviour from before there was a feedback log.
        past, fresh: examples of earlier windows and of this one; those without a reward are no behaviour.
        items: the catalogue's ids, in order.
        held_back: (user, item) of earlier events that no model has learnt.
    """
    tables = [table.select(COLUMNS).filter(pc.greater(table["reward"], 0)) for table in (past, fresh)]
    if base is not None:
        tables.insert(0, to_table(base))
    whole = pa.concat_tables(tables, promote_options="permissive").combine_chunks()
    inter = Interactions.from_columns(
        whole["user"], whole["item"], whole["time"].to_numpy(), items=list(items), action=whole["action"],
        weight=whole["reward"].to_numpy(),
    )
    learnt = whole.slice(0, whole.num_rows - tables[-1].num_rows)
    key = inter.user.astype(np.int64) * len(inter.items) + inter.item
    new = ~np.isin(key, _keys(inter, learnt["user"], learnt["item"]))
    if held_back:
        users, names = zip(*held_back, strict=True)
        new |= np.isin(key, _keys(inter, pa.array(users, pa.string()), pa.array(names, pa.string())))
    return Behaviour(inter, new)


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
