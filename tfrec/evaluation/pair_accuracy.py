"""Which of two models tells better, within a slate, what people acted on from what they did not.

Where a model chooses what is shown, HR@10 asks whether another model would have shown the same, and favours the one that chose.
A slate is a fairer question: of each two of its items with different rewards, does the model score the better one higher? People
look at the upper positions more, and a model that chose the order would be right by that alone. So both directions of each two
positions count the same: the share of right answers where the better item stood above, and where it stood below. A score that
depends on the position alone reaches .5 exactly, whatever people look at. This is the AUC within a request, balanced by position;
it needs no propensities and no model of attention.

With n pairs in one direction and m in the other, the two positions have the weight n m / (n + m), by which the mean of the two
shares is known best; positions that were never told apart in both directions have none. It asks only about what was shown: what a
model would bring from the rest of the catalogue, only explored slates can tell (`policy_value.py`).
"""
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tfrec.evaluation.intervals import Interval, UserBootstrap

POSITIONS = 20  # of a slate, from the top: few people act further down, and pairs grow with the square
LEAST = 30  # slates with a pair that counts; with fewer, chance decides

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class PairAccuracy:
    """Shares of right answers, balanced by position."""

    slates: int  # with a pair that counts
    champion: float
    challenger: float
    gap: Interval | None  # of the challenger over the champion; None when the slates cannot tell

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return vars(self) | {"gap": None if self.gap is None else self.gap._asdict()}


class BalancedPairs(NamedTuple):
    """Pairs of items of the same slate, `[pairs]` each."""

    row: Ints  # of the slate
    better: Ints  # position of the item with the higher reward
    worse: Ints  # of the other
    weight: NDArray[np.float64]


def compare_accuracy(reward: Floats, shown: NDArray[np.bool_], *, champion: Floats, challenger: Floats,
                     users: NDArray[np.integer]) -> PairAccuracy:
    """Compare two models on the same slates.

    Args:
        reward: `[n, K]`, of each position.
        shown: `[n, K]`, where there is an item: slates may have any length.
        champion: `[n, K]`, its scores of the items.
        challenger: `[n, K]`, the same of the challenger.
        users: `[n]`, who are redrawn for the interval.
    """
    pairs = balanced_pairs(reward, shown)
    slates = len(np.unique(pairs.row[pairs.weight > 0]))
    if slates < LEAST:
        return PairAccuracy(slates, 0.5, 0.5, None)
    theirs, ours, mass = (np.bincount(pairs.row, weights=right * pairs.weight, minlength=len(reward)) for right in (
        _right(pairs, champion), _right(pairs, challenger), np.ones(len(pairs.row))))
    gap = UserBootstrap(users).ratio(np.zeros(len(reward)), ours - theirs, mass)
    return PairAccuracy(slates, float(theirs.sum() / mass.sum()), float(ours.sum() / mass.sum()), gap)


def balanced_pairs(reward: Floats, shown: NDArray[np.bool_]) -> BalancedPairs:
    """The pairs of different rewards, weighted so that both directions of each two positions have the same mass."""
    reward, shown = reward[:, :POSITIONS], shown[:, :POSITIONS]
    k = reward.shape[1]
    row, better, worse = np.nonzero((reward[:, :, None] > reward[:, None, :]) & shown[:, :, None] & shown[:, None, :])
    count = np.bincount(better * k + worse, minlength=k * k).reshape(k, k)
    both = count + count.T
    share = np.divide(count.T, both, out=np.zeros((k, k)), where=both > 0)  # n m / (n + m), over the n of this direction
    return BalancedPairs(row, better, worse, share[better, worse])


def _right(pairs: BalancedPairs, scores: Floats) -> NDArray[np.float64]:
    """`[pairs]`: 1 where the better item has the higher score, .5 where both have the same."""
    better, worse = scores[pairs.row, pairs.better], scores[pairs.row, pairs.worse]
    return np.asarray((better > worse) + 0.5 * (better == worse), np.float64)
