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

_COLUMNS = [*ACTIONS.names, "is_positive"]


@dataclass(frozen=True, eq=False)
class MergedBehaviour:
    """All behaviour, and which of it is new."""

    inter: Interactions
    new: npt.NDArray[np.bool_]  # [n], not learnt yet
    arrived: npt.NDArray[np.bool_]  # [n], not counted yet
    shown: npt.NDArray[np.bool_]  # [n], acted on in a slate


def merge_behaviour(base: pa.Table | None, logged: pa.Table, *, after: int, counted: int, items: Collection[str],
                    held_back: Collection[Sequence[str]] = (), cap: float = math.inf, now: int | None = None) -> MergedBehaviour:
    """Merge all behaviour: one event for each user and item whose actions together are positive (`labels/pair_rewards.py`).

    Args:
        base: rewards of actions from before there was a feedback log (`read_preferences`).
        logged: settled examples with a reward (`SettledExamples.behaviour`).
        after: the last part of the examples that was read before.
        counted: the last part that popularity has counted.
        items: the catalogue's ids, in order.
        held_back: (user, item) of earlier events that no model has learnt.
        cap: `reward.cap`.
        now: seconds since 1970, by default of the clock; nothing counts as later.
    """
    before = [] if base is None else [_with_positives(base)]

    def pairs(rows: pa.Table) -> pa.Table:
        whole = pa.concat_tables([*before, rows.select(_COLUMNS)], promote_options="permissive").combine_chunks()
        return positive_pairs(one_row_per_pair(whole, cap=cap, is_positive=whole["is_positive"]))

    whole = pairs(logged)
    inter = Interactions.from_columns(
        whole["user"], whole["item"], whole["time"].to_numpy(), items=list(items), action=whole["action"],
        weight=whole["reward"].to_numpy(), now=now,
    )

    def unknown_to(part: int) -> npt.NDArray[np.bool_]:
        known = pairs(logged.filter(pc.less_equal(logged["seq"], part)))
        return ~inter.among(known["user"], known["item"])

    new = unknown_to(after)
    arrived = new if counted == after else unknown_to(counted)
    if held_back:
        users, names = zip(*held_back, strict=True)
        new = new | inter.among(pa.array(users, pa.string()), pa.array(names, pa.string()))
    chosen = logged.filter(pc.and_(logged["was_shown"], logged["is_positive"]))
    return MergedBehaviour(inter, new, arrived, inter.among(chosen["user"], chosen["item"]))


def _with_positives(rewards: pa.Table) -> pa.Table:
    """Rewards of actions, and whether each is positive; actions without a reward are left out."""
    rows = rewards.select(ACTIONS.names).append_column("is_positive", pc.greater(rewards["reward"], 0))
    return rows.filter(pc.not_equal(rows["reward"], 0))
