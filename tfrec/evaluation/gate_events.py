"""Which events of a window the gate compares on: the newest ones, chosen so that nobody decides alone.

Whoever pushes an item also writes events that a model which has learnt the push predicts best. So the events of one user count up
to a share, and a burst does not count at all: many new users on one item that other users hardly touch. An event that is left out
here is not lost; the next retrain learns it, or its own rules leave it out.
"""
from bisect import bisect_left
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tfrec.data.behaviour.histories import Histories
from tfrec.data.behaviour.interactions import Interactions
from tfrec.evaluation.protocol import Ints, hash_sample, with_history

BURST = 10  # events of new users on one item; fewer are no burst
BURST_FACTOR = 3.0  # times what the other users' events let one expect; fewer are no burst


@dataclass(frozen=True)
class GateEvents:
    """The events to compare on, as indices in time order, and how many were left out, by reason."""

    events: Ints
    left_out: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.events)


def gate_events(inter: Interactions, new: NDArray[np.bool_], *, share: float, limit: int, user_share: float,
                   histories: Histories | None = None) -> GateEvents:
    """The newest of the new events of users with a history, without bursts and within each user's share.

    Args:
        inter: all behaviour.
        new: `[n]`, which events no model has learnt.
        share: of the new events whose user has a history, the newest ones.
        limit: events that are kept at most, those with the smallest hash.
        user_share: of the result that may be one user's, where there are enough users.
        histories: of `inter`, when the caller has them already.
    """
    candidates = with_history(inter, np.flatnonzero(new), histories=histories)
    newest = candidates[int((1 - share) * len(candidates)) :]
    burst = _bursts(inter, new, newest)
    rest = newest[~burst]
    kept = _within_share(inter, rest, share=user_share)
    left_out = {"burst": int(burst.sum()), "user_share": len(rest) - len(kept)}
    return GateEvents(hash_sample(inter, kept, limit=limit), {why: count for why, count in left_out.items() if count})


def _bursts(inter: Interactions, new: NDArray[np.bool_], events: Ints) -> NDArray[np.bool_]:
    """`[n]`: which of `events` are by new users on an item that new users rush to and other users do not.

    With n_i and o_i events of new and of other users on item i, and n and o in all, n_i is a burst when it is at least `BURST`
    and above `BURST_FACTOR` n (o_i + 1) / (o + 1). Where all users are new there are no others to compare with.
    """
    known = np.zeros(len(inter.users), bool)
    known[inter.user[~new]] = True
    fresh = ~known[inter.user[events]]
    item, n_items = inter.item[events], len(inter.items)
    by_new, by_others = (np.bincount(item[who], minlength=n_items) for who in (fresh, ~fresh))
    others = int((~fresh).sum())
    if others < BURST:
        return np.zeros(len(events), bool)
    expected = fresh.sum() * (by_others + 1) / (others + 1)
    rushed = (by_new >= BURST) & (by_new > BURST_FACTOR * expected)
    return np.asarray(fresh & rushed[item])


def _within_share(inter: Interactions, events: Ints, *, share: float) -> Ints:
    """Of each user the events with the smallest hash, as many as leave no user above `share` or, if larger, an equal share."""
    user = inter.user[events]
    most = _most_of_one(user, share=share)
    kept = [hash_sample(inter, events[user == who], limit=most) for who in np.flatnonzero(np.bincount(user) > most)]
    few = events[(np.bincount(user) <= most)[user]] if len(user) else events
    return np.sort(np.concatenate([few, *kept]))


def newest_within_share(user: NDArray[np.integer], *, share: float) -> Ints:
    """Of rows `[n]` in the order of time, the newest of each user, as many as leave no user above `share`; as sorted indices."""
    order = np.lexsort((-np.arange(len(user)), user))
    _, first, size = np.unique(user[order], return_index=True, return_counts=True)
    newer = np.arange(len(user)) - np.repeat(first, size)  # how many of the same user's rows are newer
    return np.sort(order[newer < _most_of_one(user, share=share)])


def _most_of_one(user: NDArray[np.integer], *, share: float) -> int:
    """How many of the events of `user` `[n]` one user may have so that nobody is above `share` or, if larger, an equal share."""
    count = np.unique(user, return_counts=True)[1]

    def is_too_many(most: int) -> bool:  # and so are more, as the sum of what is left grows ever slower
        capped = np.minimum(count, most)
        return bool(most > max(share * capped.sum(), capped.mean()))

    return 1 + bisect_left(range(2, int(count.max(initial=1)) + 1), True, key=is_too_many)
