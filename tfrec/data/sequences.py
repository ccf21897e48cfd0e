"""Events in, fixed windows of behaviour out: every position of a user's sequence is learnt from in one pass.

A window holds `length` consecutive events of one user as input tokens and, beside each, the event that follows it as target.
A target is predicted from the newest token of an *earlier second* (`read_at`): one second is one basket, and what was taken
together is not history for one another. Windows tile a user's events from the newest backwards, so each target occurs once.
"""
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from tfrec.data.interactions import Interactions

PAD = -1


@dataclass(frozen=True, eq=False)
class Windows:
    """Arrays `[windows, length]`; unused places hold `PAD` in `item` and 0 in `weight`."""

    item: npt.NDArray[np.int32]  # token: catalogue position
    action: npt.NDArray[np.int32]  # token: code of the action
    gap: npt.NDArray[np.int64]  # token: seconds until the user's next event
    target: npt.NDArray[np.int32]  # catalogue position to predict
    read_at: npt.NDArray[np.int32]  # place of the token from which the target is predicted
    weight: npt.NDArray[np.float32]  # of the target; 0: not learnt from
    event: npt.NDArray[np.int64]  # index of the target in the interactions

    def __len__(self) -> int:
        return len(self.item)

    def take(self, rows: npt.NDArray[np.int64]) -> "Windows":
        """The windows numbered `rows`, in that order."""
        return Windows(*(getattr(self, f.name)[rows] for f in fields(self)))


def windows(inter: Interactions, *, length: int, learn: npt.NDArray[np.bool_] | None = None) -> Windows:
    """Tile the users' events.

    Args:
        inter: events in protocol order.
        length: tokens a window.
        learn: `[len(inter)]`, the events that may be targets; all by default. Windows without a target are left out.
    """
    order = np.argsort(inter.user, kind="stable")
    user, time = inter.user[order], inter.time[order]
    n = len(order)
    first = np.r_[True, user[1:] != user[:-1]] if n else np.zeros(0, bool)
    begin = np.maximum.accumulate(np.where(first, np.arange(n), 0))  # index of the user's first event
    new_second = first | np.r_[True, time[1:] != time[:-1]] if n else first
    second = np.maximum.accumulate(np.where(new_second, np.arange(n), 0))  # index of the first event of this second
    target = np.flatnonzero(~first)  # each event but a user's first is the target of the token before it
    token = target - 1
    count = np.bincount(user, minlength=len(inter.users))  # events a user
    behind = (begin[token] + count[user[token]] - 1) - target  # targets of the user that come after this one
    tile = behind // length
    start = np.maximum(begin[token], begin[token] + count[user[token]] - 1 - (tile + 1) * length)  # first token of the tile
    place = token - start
    read_at = second[target] - 1 - start
    kept = read_at >= 0
    if learn is not None:
        kept &= learn[order[target]]
    row_key = np.stack([user[token].astype(np.int64), -tile])
    _, row = np.unique(row_key, axis=1, return_inverse=True)
    used = np.zeros(row.max() + 1 if len(row) else 0, bool)
    used[row[kept]] = True
    number = np.cumsum(used) - 1
    inside = used[row]
    at = (number[row[inside]], place[inside])

    def filled(values: npt.NDArray[Any], dtype: type, empty: int) -> npt.NDArray[Any]:
        out: npt.NDArray[Any] = np.full([int(used.sum()), length], empty, dtype)
        out[at] = values[inside]
        return out

    source, aim = order[token], order[target]
    return Windows(
        item=filled(inter.item[source], np.int32, PAD),
        action=filled(inter.action[source], np.int32, 0),
        gap=filled(time[target] - time[token], np.int64, 0),
        target=filled(inter.item[aim], np.int32, PAD),
        read_at=filled(np.maximum(read_at, 0), np.int32, 0),
        weight=filled(np.where(kept, inter.weight[aim], 0), np.float32, 0),
        event=filled(aim, np.int64, 0),
    )
