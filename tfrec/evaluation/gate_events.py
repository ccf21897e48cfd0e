"""Which events of a window judge the challenger: the newest that can be asked, of which nobody decides alone.

Whoever pushes an item also writes events that a model which has learnt the push predicts best. So one user's events count up to a
share, and a burst, many new users on one item that the others hardly touch, does not judge. What does not judge is not lost:
the next retrain learns it, or its own rules leave it out.
"""
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tfrec.data.behaviour.histories import Histories
from tfrec.data.behaviour.interactions import Interactions
from tfrec.evaluation.protocol import Ints, askable, hash_sample

BURST = 10  # new users on one item: fewer are no burst,
BURST_FACTOR = 3.0  # nor are so many times as many as the other users' events let one expect


@dataclass(frozen=True)
class Judges:
    """The events that judge, as indices in the order of time, and how many were left out, by reason."""

    events: Ints
    left_out: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.events)


def judging_events(inter: Interactions, new: NDArray[np.bool_], *, share: float, limit: int, user_share: float,
                   histories: Histories | None = None) -> Judges:
    """The newest `share` of the new events that can be asked, without bursts and within each user's share.

    Args:
        inter: all behaviour.
        new: `[n]`, which events no model has learnt.
        share: of those of them whose user has a history.
        limit: events that are kept at most, those with the smallest hash.
        user_share: of the judging events that may be one user's, where there are users enough.
        histories: of `inter`, when the caller has them already.
    """
    asked = askable(inter, np.flatnonzero(new), histories=histories)
    newest = asked[int((1 - share) * len(asked)) :]
    burst = _bursts(inter, new, newest)
    rest = newest[~burst]
    kept = _within_share(inter, rest, share=user_share)
    left_out = {"burst": int(burst.sum()), "user_share": len(rest) - len(kept)}
    return Judges(hash_sample(inter, kept, limit=limit), {why: count for why, count in left_out.items() if count})


def _bursts(inter: Interactions, new: NDArray[np.bool_], events: Ints) -> NDArray[np.bool_]:
    """Which of `events` are by new users on an item that they, and not the other users, rush to.

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
    """Of each user the events with the smallest hash, as many as no user's share is above `share` or an equal one."""
    user = inter.user[events]
    count = np.bincount(user)[np.unique(user)] if len(user) else np.zeros(0, np.int64)
    most = int(count.max(initial=1))
    while most > 1:
        capped = np.minimum(count, most)
        if most <= max(share * capped.sum(), capped.mean()):
            break
        most -= 1
    kept = [hash_sample(inter, events[user == who], limit=most) for who in np.flatnonzero(np.bincount(user) > most)]
    few = events[(np.bincount(user) <= most)[user]] if len(user) else events
    return np.sort(np.concatenate([few, *kept]))
