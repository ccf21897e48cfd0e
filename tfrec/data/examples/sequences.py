"""Fixed windows of behaviour, in which every position of a user's sequence is learnt from in one pass.

A window holds up to `length` consecutive events of one user as tokens and, beside each token, the event that follows it as
target. A target is predicted from the newest token of an *earlier second* (`read_at`): the events of one second are a basket, and
none of them is history for another.

Windows tile a user's events from the newest backwards, so each event that has history is a target once. A basket is not cut in
two where a window begins, because its second part would have no token to be read from: the part goes to the next window, whole.
Where a basket is larger than a window, its targets stand in several windows, which all hold the tokens before the basket.
"""
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tfrec.data.behaviour.histories import Ints, UserOrder, by_user
from tfrec.data.behaviour.interactions import Interactions

PAD = -1


@dataclass(frozen=True, eq=False)
class Windows:
    """Arrays `[windows, length]`; unused positions hold `PAD` in `item` and `target` and 0 in `weight`."""

    item: npt.NDArray[np.int32]  # token: catalogue position
    action: npt.NDArray[np.int32]  # token: code of the action
    gap: npt.NDArray[np.int64]  # token: seconds until the user's next event
    target: npt.NDArray[np.int32]  # catalogue position to predict
    read_at: npt.NDArray[np.int32]  # position of the token from which the target is predicted
    weight: npt.NDArray[np.float32]  # of the target; 0: not learnt from
    event: npt.NDArray[np.int64]  # index of the target in the interactions

    def __len__(self) -> int:
        return len(self.item)

    def take(self, rows: Ints) -> "Windows":
        """The windows numbered `rows`, in that order."""
        return Windows(*(getattr(self, f.name)[rows] for f in fields(self)))

    @property
    def used(self) -> Ints:
        """`[windows]`: positions up to the last target that is learnt and the last token that one is read from."""
        last = np.maximum(np.arange(self.item.shape[1]), self.read_at) + 1
        return np.asarray(np.where(self.weight > 0, last, 0).max(1, initial=0), np.int64)


def windows(inter: Interactions, *, length: int, learn: npt.NDArray[np.bool_] | None = None) -> Windows:
    """Tile the events of all users.

    Args:
        inter: events in protocol order.
        length: tokens in a window.
        learn: `[len(inter)]`, the events that may be targets; all by default. Windows without a target are left out.
    """
    order = by_user(inter)
    events, basket_begin = order.events, order.basket_begin
    tiles = _Tile(*np.array(list(_tiles(order, length)), np.int64).reshape(-1, len(_Tile._fields)).T[:, :, None])
    token, is_token = _cells(tiles.token_begin, tiles.token_end, length)
    target, is_target = _cells(tiles.target_begin, tiles.target_end, length)
    weight = np.where(is_target & (target >= tiles.learnt_begin), inter.weight[events[target]], 0)
    if learn is not None:
        weight = np.where(learn[events[target]], weight, 0)
    gap = np.diff(inter.time[events], append=0)  # a user's newest event is never a token
    found = Windows(
        item=np.where(is_token, inter.item[events[token]], PAD).astype(np.int32),
        action=np.where(is_token, inter.action[events[token]], 0).astype(np.int32),
        gap=np.where(is_token, gap[token], 0).astype(np.int64),
        target=np.where(is_target, inter.item[events[target]], PAD).astype(np.int32),
        read_at=np.where(weight > 0, basket_begin[target] - 1 - tiles.token_begin, 0).astype(np.int32),
        weight=weight.astype(np.float32),
        event=np.where(is_target, events[target], 0).astype(np.int64),
    )
    return found.take(np.flatnonzero((found.weight > 0).any(1)))


class _Tile(NamedTuple):
    """Where a window lies: half-open ranges of places among the events sorted by user. Also holds columns of many tiles."""

    token_begin: Any
    token_end: Any
    target_begin: Any
    learnt_begin: Any  # targets before this place are part of a basket that another window learns whole
    target_end: Any


def _tiles(order: UserOrder, length: int) -> Iterator[_Tile]:
    """The windows of all users."""
    n = len(order.events)
    place = np.arange(n)
    opens_basket = order.basket_begin == place
    # the first basket that opens at or after each place, of any user
    next_basket = np.minimum.accumulate(np.where(opens_basket, place, n)[::-1])[::-1].tolist()
    begins = np.unique(order.user_begin).tolist()
    for begin, end in pairwise([*begins, n]):
        newest = end - 1  # the newest event that is no target yet
        while newest > begin:
            token_begin = max(begin, newest - length)
            whole = next_basket[token_begin + 1]
            if whole <= newest:
                yield _Tile(token_begin, newest, token_begin + 1, whole, newest + 1)
                newest = whole - 1
                continue
            basket = int(order.basket_begin[newest])  # holds every event of token_begin + 1 .. newest
            if basket == begin:  # the user's first basket has no history
                break
            yield _Tile(max(begin, basket - length), basket, token_begin + 1, token_begin + 1, newest + 1)
            newest = token_begin


def _cells(begin: Ints, end: Ints, width: int) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """`[tiles, width]`: places begin, begin + 1, ..., and whether each is before the end; 0 where it is not."""
    place = begin + np.arange(width)
    inside = place < end
    return np.where(inside, place, 0), inside
