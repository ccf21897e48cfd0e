"""Position bias: how scores and positions turn into rewards, estimated from a log before anything is learnt.

    E[reward of an item at position k] = m_k (gain * score + intercept),    m_1 = 1, 0 < m_k <= 1

A score has units of its own, and lower positions are looked at less. Value learning, the bandits' head and the correction of
skipped items for their position all need both. The fit alternates least squares for (gain, intercept) and for m.
"""
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tfrec.errors import DataError

ROUNDS = 20  # of alternating; a log of 5,000 slates changes in the fourth digit after 8
LEAST_WEIGHT = 0.05  # a position that nobody seems to look at may still be looked at
LEAST_SHARE = 0.05  # of the rewards' spread: scores that tell nothing, or the wrong thing, are taken to tell that little

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PositionBiasModel:
    """How a window of slates turned scores into rewards.

    Attributes:
        gain: Reward of one unit of score at the first position, above 0.
        intercept: Reward of a score of 0 at the first position.
        position_weights: m, `[K]`.
        mean_reward: `[K]`, the mean reward of each position.
        mean_score: The mean score of what was shown.
        noise: Standard deviation of rewards about their expectation, above 0.
    """

    gain: float
    intercept: float
    position_weights: npt.NDArray[np.float32]
    mean_reward: npt.NDArray[np.float32]
    mean_score: float
    noise: float

    def expected(self, scores: npt.NDArray[np.floating]) -> Floats:
        """Expected rewards `[n, K]` of scores `[n, K]` by position."""
        return np.asarray(self.position_weights * (self.gain * scores + self.intercept), np.float64)


def fit_position_bias(
    scores: npt.NDArray[np.floating], reward: npt.NDArray[np.floating], shown: npt.NDArray[np.bool_]
) -> PositionBiasModel:
    """The position bias of a window of slates.

    Args:
        scores: `[n, K]`, the model's scores of what was shown.
        reward: `[n, K]`.
        shown: `[n, K]`, where there is an item.

    Raises:
        DataError: Nothing was shown.
    """
    if not shown.any():
        raise DataError("slates: nothing was shown, so there is nothing to learn from.")
    n_positions = shown.shape[1]
    position = np.nonzero(shown)[1]  # only what was shown: one long slate is no reason for long arrays
    r, s = (np.asarray(array[shown], np.float64) for array in (reward, scores))

    def by_position(values: Floats) -> Floats:
        return np.bincount(position, values, n_positions)

    mean = by_position(r) / np.maximum(np.bincount(position, minlength=n_positions), 1)
    first = max(abs(mean[0]), 1e-12)
    weights = np.clip(mean / (first if mean[0] >= 0 else -first), LEAST_WEIGHT, 1.0)
    least = LEAST_SHARE * max(float(r.std()), 1e-6) / max(float(s.std()), 1e-6)
    gain, intercept = least, 0.0
    for _ in range(ROUNDS):
        gain, intercept = _fit_line(weights[position], s, r, least=least)
        expected = gain * s + intercept
        fitted = by_position(r * expected) / np.maximum(by_position(expected**2), 1e-12)
        weights = np.clip(fitted / max(fitted[0], 1e-12), LEAST_WEIGHT, 1.0) if fitted[0] > 0 else weights
    found = PositionBiasModel(float(gain), float(intercept), weights.astype(np.float32), mean.astype(np.float32),
                              float(s.mean()), noise=1.0)
    residual = r - found.position_weights[position] * (found.gain * s + found.intercept)
    return replace(found, noise=float(max(residual.std(), 1e-6)))


def _fit_line(m: Floats, s: Floats, r: Floats, *, least: float) -> tuple[float, float]:
    """Gain, at least `least`, and intercept by least squares of r = gain * (m s) + intercept * m."""
    system = np.array([[(m * m * s * s).sum(), (m * m * s).sum()], [(m * m * s).sum(), (m * m).sum()]])
    gain, intercept = np.linalg.lstsq(system, np.array([(m * s * r).sum(), (m * r).sum()]), rcond=None)[0]
    if gain < least:
        gain = least
        intercept = (m * (r - m * gain * s)).sum() / max((m * m).sum(), 1e-12)
    return gain, intercept
