"""Position bias: how scores and positions turn into rewards, estimated from a log before anything is learnt.

    E[reward of an item at position k] = m_k (gain * score + intercept),    m_1 = 1, 0 < m_k <= 1
    P(reward > 0 at position k) = m_k sigma(click_slope * (score - mean score) + click_level)

A score has units of its own, and lower positions are looked at less. Value learning, the bandits' head and the correction of
skipped items for their position all need both. The fit alternates least squares for (gain, intercept) and for m. The second line
is Platt scaling (Platt 1999): likelihoods start from it. From a slope that is too steep, the first steps of a retrain would move
the towers only to take back what their scores never said.
"""
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from tfrec.errors import DataError

ROUNDS = 20  # of alternating; a log of 5,000 slates changes in the fourth digit after 8
LEAST_WEIGHT = 0.05  # a position that nobody seems to look at may still be looked at
MOST_LEVEL = 5.0  # of log odds: clicks of less than 1% or more than 99% are no reason for a start without a gradient
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
        click_level: Log odds of a positive reward at the mean score and the first position.
        click_slope: Log odds of one unit of score, above 0.
    """

    gain: float
    intercept: float
    position_weights: npt.NDArray[np.float32]
    mean_reward: npt.NDArray[np.float32]
    mean_score: float
    noise: float
    click_level: float = 0.0
    click_slope: float = 1.0

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
        return np.asarray(np.bincount(position, values, n_positions), np.float64)

    mean = by_position(r) / np.maximum(np.bincount(position, minlength=n_positions), 1)
    top = int(position.min())  # the first position with an item: above it a rule may have pinned some
    first = max(abs(mean[top]), 1e-12)
    weights = np.clip(mean / (first if mean[top] >= 0 else -first), LEAST_WEIGHT, 1.0)
    least = LEAST_SHARE * max(float(r.std()), 1e-6) / max(float(s.std()), 1e-6)
    gain, intercept = least, 0.0
    for _ in range(ROUNDS):
        gain, intercept = _fit_line(weights[position], s, r, least=least)
        expected = gain * s + intercept
        fitted = by_position(r * expected) / np.maximum(by_position(expected**2), 1e-12)
        weights = np.clip(fitted / max(fitted[top], 1e-12), LEAST_WEIGHT, 1.0) if fitted[top] > 0 else weights
    level, slope = _fit_clicks(s, r, weights[position])
    found = PositionBiasModel(float(gain), float(intercept), weights.astype(np.float32), mean.astype(np.float32),
                              float(s.mean()), noise=1.0, click_level=level, click_slope=slope)
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


def _fit_clicks(s: Floats, r: Floats, chance: Floats) -> tuple[float, float]:
    """Level and slope of the likelihood that `pointwise.py` learns, y = [r > 0] by weights |r|, or 1 where r = 0.

    The slope is at least what explains `LEAST_SHARE` of the spread of y, in the units of log odds.
    """
    happened, weight = r > 0, np.where(r == 0, 1.0, np.abs(r))
    spread, share = max(float(s.std()), 1e-6), float(np.average(happened, weights=weight))
    x, c = (s - s.mean()) / spread, np.where(r < 0, 1.0, np.minimum(chance, 1 - 1e-6))

    def loss(parameters: Floats) -> tuple[float, Floats]:
        p = 1 / (1 + np.exp(-(parameters[0] + parameters[1] * x)))
        seen = np.clip(c * p, 1e-12, 1 - 1e-12)
        value = -np.where(happened, np.log(seen), np.log1p(-seen)) @ weight
        slope = weight * (1 - p) * np.where(happened, -1.0, seen / (1 - seen))
        return float(value) / len(x), np.array([slope.sum(), slope @ x]) / len(x)

    least = LEAST_SHARE / np.sqrt(np.clip(share * (1 - share), 0.01, None))
    start = np.clip(np.log((share + 1e-6) / (1 - share + 1e-6)), -MOST_LEVEL, MOST_LEVEL)
    found = minimize(loss, [start, least], jac=True, method="L-BFGS-B", bounds=[(-MOST_LEVEL, MOST_LEVEL), (least, None)]).x
    return float(found[0]), float(found[1] / spread)
