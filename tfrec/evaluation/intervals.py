"""95% bootstrap intervals, by redrawing users and not events.

Events of one person are alike, so an interval that redraws events is too narrow (MovieLens' last fifth is 6,000 events of
145 people). The redraws depend on nothing but who the events belong to and the seed: two models scored on the same events
are redrawn together, which makes the interval of their difference paired.
"""
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Interval(NamedTuple):
    """A mean and its 95% bootstrap interval."""

    mean: float
    low: float
    high: float


class UserBootstrap:
    """Redraws of the users of `[n]` events: as many users as there are, with replacement, `redraws` times.

    A user drawn twice weighs double in that redraw. Users are numbered by first appearance, so that a seed gives the same
    redraws as the reference protocol. An interval over fewer than `least` users has a mean and no bounds (NaN): one user
    redrawn is always the same, which looks like certainty and is not.
    """

    def __init__(self, users: ArrayLike, *, redraws: int = 300, seed: int = 0, least: int = 1) -> None:
        names, first, code = np.unique(np.asarray(users), return_index=True, return_inverse=True)
        number = np.empty(len(names), np.int64)
        number[np.argsort(first)] = np.arange(len(names))
        self._user: NDArray[np.int64] = number[code]
        self._least = least
        n, rng = len(names), np.random.default_rng(seed)
        self._drawn = np.zeros((redraws, n))
        if n:
            for row in self._drawn:
                row += np.bincount(rng.integers(0, n, n), minlength=n)

    def interval(self, values: ArrayLike, where: ArrayLike | None = None) -> Interval | None:
        """The interval of the mean of `values` `[n]` over the events where `where` `[n]` holds. None when there is no such event.

        A redraw that holds none of those events has no mean and is left out.
        """
        sample: NDArray[np.float64] = np.asarray(values, np.float64)
        if len(sample) != len(self._user):
            raise ValueError(f"expected {len(self._user)} values, one an event, got {len(sample)}")
        user = self._user
        if where is not None:
            kept = np.asarray(where, bool)
            sample, user = sample[kept], user[kept]
        if not len(sample):
            return None
        if len(np.unique(user)) < self._least:
            return Interval(float(sample.mean()), float("nan"), float("nan"))
        n = self._drawn.shape[1]
        total = self._drawn @ np.bincount(user, sample, minlength=n)
        weight = self._drawn @ np.bincount(user, minlength=n)
        low, high = np.percentile(total[weight > 0] / weight[weight > 0], [2.5, 97.5])
        return Interval(float(sample.mean()), float(low), float(high))

    def ratio(self, plain: ArrayLike, weighted: ArrayLike, normaliser: ArrayLike) -> Interval:
        """The interval of mean(plain) + sum(weighted) / sum(normaliser), each `[n]`; redraws that sum to 0 are left out."""
        n = self._drawn.shape[1]
        sums = [np.bincount(self._user, np.asarray(each, np.float64), minlength=n) for each in (plain, weighted, normaliser)]
        first, second, norm = (np.append(self._drawn @ each, each.sum()) for each in sums)
        rows = np.append(self._drawn @ np.bincount(self._user, minlength=n), len(self._user))
        every = first / rows + np.divide(second, norm, out=np.full(len(norm), np.nan), where=norm != 0)
        low, high = np.nanpercentile(every[:-1], [2.5, 97.5])
        return Interval(float(every[-1]), float(low), float(high))

    def difference(self, ours: ArrayLike, theirs: ArrayLike, where: ArrayLike | None = None) -> Interval | None:
        """The interval of the mean of `ours - theirs`, both `[n]` and of the same events."""
        return self.interval(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64), where)
