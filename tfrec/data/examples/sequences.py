"""Events in, fixed windows of behaviour out: every position of a user's sequence is learnt from in one pass.

A window holds up to `length` consecutive events of one user as tokens and, beside each, the event that follows it as target.
A target is predicted from the newest token of an *earlier second* (`read_at`): one second is one basket, and what was taken
together is not history for one another. Windows tile a user's events from the newest backwards, so each event that has
history is a target once. A basket is not cut in two where a window begins, as its second part would have nothing to be read
from: that part goes to the next window, whole. Where more events than a window holds share a second, their windows hold what
came before it, and a target stands at any place.
"""
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tfrec.data.behaviour.interactions import Interactions

PAD = -1
Ints = npt.NDArray[np.int64]
Tile = tuple[int, int, int, int, int]


@dataclass(frozen=True, eq=False)
class Windows:
    """Arrays `[windows, length]`; unused places hold `PAD` in `item` and `target` and 0 in `weight`."""

    item: npt.NDArray[np.int32]  # token: catalogue position
    action: npt.NDArray[np.int32]  # token: code of the action
    gap: npt.NDArray[np.int64]  # token: seconds until the user's next event
    target: npt.NDArray[np.int32]  # catalogue position to predict
    read_at: npt.NDArray[np.int32]  # place of the token from which the target is predicted
    weight: npt.NDArray[np.float32]  # of the target; 0: not learnt from
    event: npt.NDArray[np.int64]  # index of the target in the interactions

    def __len__(self) -> int:
        return len(self.item)

    def take(self, rows: Ints) -> "Windows":
        """The windows numbered `rows`, in that order."""
        return Windows(*(getattr(self, f.name)[rows] for f in fields(self)))

    @property
    def used(self) -> Ints:
        """`[windows]`: places up to the last target that is learnt and the last token that one is read from."""
        last = np.maximum(np.arange(self.item.shape[1]), self.read_at) + 1
        return np.asarray(np.where(self.weight > 0, last, 0).max(1, initial=0), np.int64)


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
    first = np.diff(user, prepend=-1) != 0
    opens = first | (np.diff(time, prepend=-1) != 0)
    second = np.maximum.accumulate(np.where(opens, np.arange(n), 0))  # the first event of each one's second
    tiles = np.array(list(_tiles(np.flatnonzero(first).tolist(), second, opens, length)), np.int64).reshape(-1, 5)
    token_from, token_to, target_from, learn_from, target_to = tiles.T[:, :, None]
    place = np.arange(length)
    token, target = token_from + place, target_from + place
    is_token, is_target = token < token_to, target < target_to
    token, target = np.where(is_token, token, 0), np.where(is_target, target, 0)
    weight = np.where(is_target & (target >= learn_from), inter.weight[order[target]] if n else 0, 0)
    if learn is not None:
        weight = np.where(learn[order[target]], weight, 0)
    gap = np.diff(time, append=0)[token]
    found = Windows(
        item=np.where(is_token, inter.item[order[token]], PAD).astype(np.int32),
        action=np.where(is_token, inter.action[order[token]], 0).astype(np.int32),
        gap=np.where(is_token, gap, 0).astype(np.int64),
        target=np.where(is_target, inter.item[order[target]], PAD).astype(np.int32),
        read_at=np.where(weight > 0, second[target] - 1 - token_from, 0).astype(np.int32),
        weight=weight.astype(np.float32),
        event=np.where(is_target, order[target], 0).astype(np.int64),
    )
    return found.take(np.flatnonzero((found.weight > 0).any(1)))


def _tiles(begins: list[int], second: Ints, opens: npt.NDArray[np.bool_], length: int) -> Iterator[Tile]:
    """(first token, end of tokens, first target, first target that is learnt here, end of targets) of each window.

    Numbers are places among the events sorted by user; `begins` are those of each user's first event.
    """
    n = len(second)
    # the first event at or after each place that opens a second
    next_open = np.minimum.accumulate(np.where(opens, np.arange(n), n)[::-1])[::-1].tolist()
    for begin, end in pairwise([*begins, n]):
        last = end - 1
        while last > begin:
            start = max(begin, last - length)
            learn_from = next_open[start + 1]
            if learn_from <= last:
                yield start, last, start + 1, learn_from, last + 1
            else:
                basket = int(second[last])  # holds all of start + 1 .. last
                if basket == begin:
                    break
                learn_from = start + 1
                yield max(begin, basket - length), basket, learn_from, learn_from, last + 1
            last = learn_from - 1
