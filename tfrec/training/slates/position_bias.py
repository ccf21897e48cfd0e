"""How scores and places turn into rewards, read off a log before anything is learnt: scores and rewards in, few numbers out.

    E[reward of an item at place k] = m_k (gain * score + intercept),    m_1 = 1, 0 < m_k <= 1

The score is in its own units and lower places are looked at less: value learning, the bandits' head and the correction of
skipped items for their place all need both. Least squares for (gain, intercept) and for m in turn, each of one sum of squares.
"""
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tfrec.errors import DataError

ROUNDS = 20  # of alternating; a log of 5,000 slates changes in the fourth digit after 8
LEAST_PLACE = 0.05  # a place that nobody seems to look at may still be looked at
LEAST_SHARE = 0.05  # of the rewards' spread: scores that tell nothing, or the wrong thing, are taken to tell that little


@dataclass(frozen=True)
class PositionBiasModel:
    """What a window of slates says."""

    gain: float  # reward of one unit of score, at the first place
    intercept: float
    places: npt.NDArray[np.float32]  # m, [K]
    mean_reward: npt.NDArray[np.float32]  # [K]
    mean_score: float
    noise: float  # standard deviation of rewards about what is expected, above 0

    def expected(self, scores: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """`[n, K]` of scores `[n, K]` by place."""
        return np.asarray(self.places * (self.gain * scores + self.intercept), np.float64)


def fit_position_bias(
    scores: npt.NDArray[np.floating], reward: npt.NDArray[np.floating], shown: npt.NDArray[np.bool_]
) -> PositionBiasModel:
    """Fit it.

    Args:
        scores, reward: `[n, K]`.
        shown: `[n, K]`, where there is an item.

    Raises:
        DataError: nothing was shown.
    """
    if not shown.any():
        raise DataError("slates: nothing was shown, so there is nothing to learn from.")
    n_places = shown.shape[1]
    place = np.nonzero(shown)[1]  # only what was shown: one long slate is no reason for long arrays
    r, s = (np.asarray(array[shown], np.float64) for array in (reward, scores))

    def by_place(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.bincount(place, values, n_places)

    mean = by_place(r) / np.maximum(np.bincount(place, minlength=n_places), 1)
    first = max(abs(mean[0]), 1e-12)
    places = np.clip(mean / (first if mean[0] >= 0 else -first), LEAST_PLACE, 1.0)
    least = LEAST_SHARE * max(float(r.std()), 1e-6) / max(float(s.std()), 1e-6)
    gain, intercept = least, 0.0
    for _ in range(ROUNDS):
        m = places[place]
        # r = gain * (m s) + intercept * m
        system = np.array([[(m * m * s * s).sum(), (m * m * s).sum()], [(m * m * s).sum(), (m * m).sum()]])
        gain, intercept = np.linalg.lstsq(system, np.array([(m * s * r).sum(), (m * r).sum()]), rcond=None)[0]
        if gain < least:
            gain = least
            intercept = (m * (r - m * gain * s)).sum() / max((m * m).sum(), 1e-12)
        expected = gain * s + intercept
        fitted = by_place(r * expected) / np.maximum(by_place(expected**2), 1e-12)
        places = np.clip(fitted / max(fitted[0], 1e-12), LEAST_PLACE, 1.0) if fitted[0] > 0 else places
    found = PositionBiasModel(float(gain), float(intercept), places.astype(np.float32), mean.astype(np.float32),
                         float(s.mean()), noise=1.0)
    return replace(found, noise=float(max((r - found.places[place] * (found.gain * s + found.intercept)).std(), 1e-6)))
