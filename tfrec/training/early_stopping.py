"""Early stopping: training ends once the validation score has not improved for `patience` epochs.

Keras has a callback for it, which starts anew with each `fit`. Here an epoch is a `fit` of its own, and an interrupted training
goes on from the scores that it had.
"""
import math
from collections.abc import Iterable


class EarlyStopping:
    """The validation scores so far, and what they say: which is the best, and whether to stop.

    Args:
        patience: epochs without an improvement after which training stops.
        scores: of the epochs already trained, the first to the last; higher is better.
    """

    def __init__(self, *, patience: int, scores: Iterable[float] = ()) -> None:
        self._patience, self._scores = patience, [_ranked(score) for score in scores]

    def record(self, score: float) -> None:
        """Add the score of one more epoch. NaN counts as the worst of all."""
        self._scores.append(_ranked(score))

    @property
    def best(self) -> int:
        """Index of the best score, the first of several equal ones."""
        return self._scores.index(max(self._scores))

    @property
    def improved(self) -> bool:
        """Whether the last score is the best."""
        return self.best == len(self._scores) - 1

    @property
    def should_stop(self) -> bool:
        """Whether the best score is `patience` epochs old."""
        return bool(self._scores) and len(self._scores) - 1 - self.best >= self._patience


def _ranked(score: float) -> float:
    return -math.inf if math.isnan(score) else score
