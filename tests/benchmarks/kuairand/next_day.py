"""The protocol "next day" for logs of slates: how well what was shown was told apart, asked before it was learnt.

AUC is the chance that a shown item with the outcome has a higher score than one without; ties count half. *Per-user AUC* compares
within a user's day only, and is the mean over those that have both, by their impressions (GAUC; Zhou et al. 2018,
arXiv:1706.06978): it does not pay to know who clicks a lot, nor does it cost that a score moves overnight. Calibration is the
expected calibration error (Guo et al. 2017, arXiv:1706.04599) over bins of equal size. Intervals redraw users, who are redrawn
alike for all models: the interval of a difference is paired.
"""
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
BINS = 15
DAY = 86_400
CHINA = 8 * 3600  # seconds that China's clock is ahead of UTC


class Interval(NamedTuple):
    """A figure of all events, and 95% of its redraws."""

    mean: float
    low: float
    high: float


def day_of(seconds: np.ndarray, *, first: int) -> np.ndarray:
    """`[n]`: days in China's time since the day that begins at `first`, seconds since 1970."""
    return (np.asarray(seconds) - first) // DAY


def auc(score: np.ndarray, happened: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Sum over pairs (i happened, j did not) of w_i w_j [s_i > s_j], half for equal ones, over that of w_i w_j; NaN without."""
    weight = np.ones(len(score)) if weight is None else weight
    order = np.argsort(score, kind="stable")
    begins = np.flatnonzero(np.diff(score[order], prepend=-np.inf) > 0)
    if not len(begins):
        return float("nan")
    yes, no = (np.add.reduceat(np.where(which, weight, 0.0)[order], begins) for which in (happened > 0, happened <= 0))
    below = np.cumsum(no) - no
    pairs = yes.sum() * no.sum()
    return float((yes * (below + no / 2)).sum() / pairs) if pairs else float("nan")


def by_group(score: np.ndarray, happened: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, Floats, Floats]:
    """The groups that have both outcomes, the AUC of each, and the number of each one's impressions."""
    order = np.lexsort((score, group))
    group, score, yes = group[order], score[order], happened[order] > 0
    opens = np.flatnonzero(np.diff(group, prepend=-1) != 0)
    tie_opens = np.flatnonzero((np.diff(group, prepend=-1) != 0) | (np.diff(score, prepend=-np.inf) != 0))
    plus = np.add.reduceat(yes.astype(float), tie_opens)
    minus = np.add.reduceat((~yes).astype(float), tie_opens)
    of = np.searchsorted(opens, tie_opens, side="right") - 1  # whose each group of equal scores is
    total_minus = np.bincount(of, minus)
    before = np.cumsum(minus) - minus - (np.cumsum(total_minus) - total_minus)[of]
    won, n_yes = np.bincount(of, plus * (before + minus / 2)), np.bincount(of, plus)
    both = (n_yes > 0) & (total_minus > 0)
    return group[opens][both], (won / np.maximum(n_yes * total_minus, 1))[both], (n_yes + total_minus)[both]


def calibration_error(p: np.ndarray, happened: np.ndarray, *, bins: int = BINS) -> float:
    """Sum over bins of |mean p - share that happened| * the bin's share of events; bins hold equally many, ordered by p."""
    order = np.argsort(p, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return float(sum(len(part) * abs(p[part].mean() - happened[part].mean()) for part in parts) / len(p))


def smoothed_rates(key: np.ndarray, happened: np.ndarray, *, n: int, prior: float) -> Floats:
    """`[n]`: (s + prior m) / (c + prior) of each key, from s outcomes in c events; m is the rate of all."""
    mean = float(happened.mean()) if len(happened) else 0.5
    return (np.bincount(key, happened, n) + prior * mean) / (np.bincount(key, minlength=n) + prior)


def rates_out_of_fold(key: np.ndarray, happened: np.ndarray, learnt: np.ndarray, fold: np.ndarray, *, prior: float,
                      ) -> tuple[Floats, Floats]:
    """Log odds of the smoothed rate of each row's key, and ln(1 + its count), from the rows `learnt`; for those themselves, from
    the rows of other folds.
    """
    _, key = np.unique(key, return_inverse=True)
    n, mean = int(key.max()) + 1, happened[learnt].mean()
    yes, count = (np.bincount(key[learnt], weights, n) for weights in (happened[learnt], None))
    of_yes, of_count = yes[key], count[key].astype(float)
    for number in np.unique(fold[learnt]):
        rows = learnt & (fold == number)
        of_yes[rows] -= np.bincount(key[rows], happened[rows], n)[key[rows]]
        of_count[rows] -= np.bincount(key[rows], minlength=n)[key[rows]]
    return logit((of_yes + prior * mean) / (of_count + prior)), np.log1p(of_count)


def logit(p: np.ndarray) -> Floats:
    """ln(p / (1 - p))."""
    return np.log(p) - np.log1p(-p)


def fit_logistic(x: np.ndarray, happened: np.ndarray, *, rounds: int = 30, ridge: float = 1e-3) -> Floats:
    """`[columns + 1]`: weights and intercept of a logistic regression by Newton steps; Platt scaling for one column."""
    x = np.column_stack([x, np.ones(len(x))])
    w = np.zeros(x.shape[1])
    for _ in range(rounds):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -30, 30)))
        gradient = x.T @ (p - happened) + ridge * w
        step = np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + ridge * np.eye(len(w)), gradient)
        w -= step
        if np.abs(step).max() < 1e-8:
            break
    return w


def calibrated_by_day_before(scores: np.ndarray, happened: np.ndarray, day: np.ndarray) -> Floats:
    """`[n]`: logits of `scores` `[n, columns]` by the logistic regression of the day before; of the first day, by its own."""
    found = np.zeros(len(scores))
    days = np.unique(day)
    for before, now in zip([days[0], *days[:-1]], days, strict=True):
        w = fit_logistic(scores[day == before], happened[day == before])
        found[day == now] = scores[day == now] @ w[:-1] + w[-1]
    return found


class Redraws:
    """Draws of as many users as there are, with replacement.

    Args:
        user: `[n]`, whose each event is, numbered from 0.
        day: `[n]`, of each event, numbered from 0.
        redraws: How many.
        seed: Of the draws.
    """

    def __init__(self, user: np.ndarray, day: np.ndarray, *, redraws: int = 200, seed: int = 0) -> None:
        self.user, self._days = user, int(day.max()) + 1
        self._group = user * self._days + day
        n, rng = int(user.max()) + 1, np.random.default_rng(seed)
        present = np.unique(user)
        self._drawn = np.zeros((redraws, n), np.float32)
        for row in self._drawn:
            row += np.bincount(rng.choice(present, len(present)), minlength=n)

    def auc(self, score: np.ndarray, happened: np.ndarray) -> Floats:
        """`[1 + redraws]`: of all, and of each redraw."""
        return np.array([auc(score, happened), *(auc(score, happened, drawn[self.user]) for drawn in self._drawn)])

    def per_user_auc(self, score: np.ndarray, happened: np.ndarray) -> Floats:
        """`[1 + redraws]`, as `auc`."""
        group, own, count = by_group(score, happened, self._group)
        drawn = self._drawn[:, group // self._days]
        return np.concatenate([[np.average(own, weights=count)], (drawn @ (own * count)) / (drawn @ count)])


def interval(redrawn: np.ndarray) -> Interval:
    """The interval of a figure, or of the difference of two, from what `Redraws` gives."""
    low, high = np.percentile(redrawn[1:], [2.5, 97.5])
    return Interval(float(redrawn[0]), float(low), float(high))
