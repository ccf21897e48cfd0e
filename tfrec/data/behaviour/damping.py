"""How much each event weighs in training, where some few could otherwise decide what is learnt.

New accounts and clicks cost nothing, so whoever wants an item to rise can send as many events as everybody else. Two bounds hold:
what newcomers do with one item counts as far as people with a history make one expect it (`newcomers.agreed`), and one user's
events weigh a share of all at most. Nothing is dropped: an event that weighs less is still the history of its user, and the next
run counts anew, with the agreement that has come by then.
"""
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.behaviour.newcomers import agreed, by_newcomers

FEW = 5  # events of newcomers on one item that count whole: so few are no burst, and a small log has no others
LEAST_MEANS = 2.0  # one user may always weigh so many times the mean of all, as in a log of seven users
_NAMED = 10  # items, and users, that a report names
_TOLD = 3  # of each, that a log line is written for

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Damping:
    """`[n]` factors of the weights, from 0 to 1, and what they change: for whom, in events, at most `_NAMED` of a kind."""

    factor: Floats
    items: dict[str, tuple[int, float]] = field(default_factory=dict)  # events of newcomers, and as how many they count
    users: dict[str, tuple[int, float]] = field(default_factory=dict)  # the same of users who did very much

    def applied(self, inter: Interactions) -> Interactions:
        """The events with the weights that they have now."""
        return replace(inter, weight=(inter.weight * self.factor).astype(np.float32))

    def words(self) -> list[str]:
        """A sentence for each of the `_TOLD` items and users that lose most."""
        by_item = [f"item {item}: {n} events of newcomers count as {m:.1f}" for item, (n, m) in self.items.items()]
        by_user = [f"user {user}: {n} events count as {m:.1f}" for user, (n, m) in self.users.items()]
        return by_item[:_TOLD] + by_user[:_TOLD]

    def figures(self) -> dict[str, Any]:
        """For a report; empty when nothing is damped."""
        found = {"items": self.items, "users": self.users}
        return {kind: {name: [n, round(m, 2)] for name, (n, m) in rows.items()} for kind, rows in found.items() if rows}


def damping(inter: Interactions, new: Mask, *, user_share: float) -> Damping:
    """The factors for all events. New and old ones are counted apart: a push is not replayed later at its full weight.

    Args:
        inter: all behaviour, in the order of time.
        new: `[n]`, the events of this window; the report is about them.
        user_share: of the weight of all events of the window, that one user's may have.
    """
    factor, newcomer = np.ones(len(inter)), by_newcomers(inter)
    for events in (~new, new):  # the report is of the last
        of_items = newcomer_factors(inter.item[events], newcomer[events], n_items=len(inter.items))
        weight = inter.weight[events] * of_items
        of_users = user_factors(inter.user[events], weight, share=user_share)
        factor[events] = of_items * of_users
    pushed = np.flatnonzero(new)[(of_items < 1) & newcomer[new]]
    busy = np.flatnonzero(new)[of_users < 1]
    return Damping(factor, _counted(inter.item[pushed], of_items[of_items < 1], inter.items),
                   _counted(inter.user[busy], factor[busy], inter.users))


def newcomer_factors(item: npt.NDArray[Any], newcomer: Mask, *, n_items: int) -> Floats:
    """`[n]`: for an event of a newcomer, the part of newcomers' events of its item that is agreed on or within `FEW`; else 1."""
    old, new = (np.bincount(item[who], minlength=n_items).astype(np.float64) for who in (~newcomer, newcomer))
    counting = agreed(old, new, totals=np.array([old.sum(), new.sum()]), chosen=int(np.count_nonzero(old)))
    part = np.minimum(1.0, np.maximum(counting, FEW) / np.maximum(new, 1))
    return np.where(newcomer, part[item], 1.0)


def user_factors(user: npt.NDArray[Any], weight: npt.NDArray[Any], *, share: float) -> Floats:
    """`[n]`: by which the events of each user are multiplied, so that no user has more than the share of what is left.

    With s_u what user u weighs, min(s_u, c) is left of it, for the largest c with c <= q sum_u min(s_u, c). For k users above c
    and R the weight of the others that is c = q R / (1 - k q). q is `share`, or `LEAST_MEANS` / users where that is more.
    """
    weighs = np.bincount(user, weight)
    positive = np.sort(weighs[weighs > 0])[::-1]
    if not len(positive):
        return np.ones(len(user))
    q = max(share, LEAST_MEANS / len(positive))
    most = positive[0]
    if most > q * positive.sum():
        above = np.arange(1, min(len(positive), int(np.ceil(1 / q))))
        above = above[above * q < 1]
        rest = positive.sum() - np.cumsum(positive)[above - 1]
        level = q * rest / (1 - above * q)
        most = level[np.argmax(level >= positive[above])]  # the fewest that have to be above
    return np.asarray(np.minimum(1.0, most / np.maximum(weighs, 1e-300))[user])


def _counted(code: npt.NDArray[Any], factor: Floats, names: tuple[str, ...]) -> dict[str, tuple[int, float]]:
    """Events and what they count as, by name; of many names those with most events that do not count."""
    events, counting = np.bincount(code), np.bincount(code, factor)
    order = np.argsort(counting - events, kind="stable")[:_NAMED]
    return {names[n]: (int(events[n]), float(counting[n])) for n in order if events[n]}
