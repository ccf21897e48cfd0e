"""Intervals for the reward per request of an arm, and for the difference of two, that hold at every moment at once.

An ordinary 95% interval is right 95% of the time when it is looked at once. Somebody who looks after each request and stops when
it leaves 0 out is wrong far more often. These intervals are wrong at any moment of the whole experiment with the stated
probability at most.

The estimate of a difference, D with standard error s, is asymptotically a Brownian motion in the information 1/s^2, and the
normal mixture of Robbins (1970), over true differences of N(0, t^2), gives the interval

    D +- sqrt(s^2 (s^2 + t^2) / t^2 * log((s^2 + t^2) / (s^2 level^2)))

(Howard et al. 2021, equation 14; with estimated variances, Waudby-Smith et al. 2021; in experiments, Johari et al. 2022). It is
narrowest where s is about t / 2, so `effect` says which difference is to be found soonest; any value is valid. Where users come
back and are alike to themselves, the motion has larger correlations than a Brownian one, and crosses a boundary less often
(Slepian 1962). The variance is that of sums over users (the delta method, Deng et al. 2018), less what the users' past explains
(CUPED, Deng et al. 2013): the past cannot depend on the arm, so this moves no estimand.

"Asymptotically" needs users: there is no interval before `LEAST` users of each arm have been rewarded.
"""
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tfrec.experiments.user_moments import HAS_PAST, ONE, PAST, REQUESTS, REWARD, WAS_REWARDED, FloatArray

LEAST = 100  # rewarded users of each arm: rare and skewed rewards look normal in the sum by then
_PAST = [PAST, HAS_PAST]


class Estimate(NamedTuple):
    """A mean, its standard error, and the interval; NaN where there is none yet. Numbers, or arrays of one shape."""

    mean: FloatArray
    error: FloatArray
    low: FloatArray
    high: FloatArray


class _Arm(NamedTuple):
    mean: FloatArray  # [...] reward per request
    users: FloatArray
    rewarded: FloatArray
    variance: FloatArray  # [...] of the mean
    with_past: FloatArray  # [..., 2] covariance of the mean and of the mean past
    past: FloatArray  # [..., 2]
    of_past: FloatArray  # [..., 2, 2] covariance of the mean past


def arm_mean(arm: FloatArray, *, level: float, effect: float, least: int = LEAST,
             usual: npt.ArrayLike | None = None) -> Estimate:
    """The reward per request of an arm with the moments `[..., 6, 6]`.

    Args:
        arm: its moments.
        level: as for `difference`.
        effect: as for `difference`.
        least: as for `difference`.
        usual: of what `effect` is a share; by default of the mean itself, which does not do where this may be 0.
    """
    one = _arm(arm)
    scale = np.abs(one.mean if usual is None else np.asarray(usual, np.float64)) * effect
    return _estimate(one.mean, one.variance, one.rewarded >= least, scale=scale, level=level)


def difference(control: FloatArray, arm: FloatArray, *, level: float, effect: float, past: bool = True,
               least: int = LEAST) -> Estimate:
    """How much more reward per request an arm has than the control.

    Args:
        control: `[..., 6, 6]`, moments of the users of the control.
        arm: `[..., 6, 6]`, of the other arm.
        level: the probability that the interval is ever wrong.
        effect: a difference, as a share of the reward per request, that is to be found soonest.
        past: whether what the users' past explains is taken out.
        least: rewarded users of each arm, before whom there is no interval.

    Returns:
        Arrays `[...]`.
    """
    one, other = _arm(control), _arm(arm)
    mean, variance = other.mean - one.mean, one.variance + other.variance
    if past:
        explained = _solved(one.of_past + other.of_past, one.with_past + other.with_past)
        mean = mean - (explained * (other.past - one.past)).sum(-1)
        variance = np.maximum(variance - (explained * (one.with_past + other.with_past)).sum(-1), 0.0)
        users = one.users + other.users
        variance = variance * users / np.maximum(users - 2, 1)  # two slopes were fitted
    ready = np.minimum(one.rewarded, other.rewarded) >= least
    with np.errstate(invalid="ignore", divide="ignore"):
        usual = (control[..., ONE, REWARD] + arm[..., ONE, REWARD]) / (control[..., ONE, REQUESTS] + arm[..., ONE, REQUESTS])
    return _estimate(mean, variance, ready, scale=np.abs(usual) * effect, level=level)


def radius(error: npt.ArrayLike, *, scale: npt.ArrayLike, level: float) -> FloatArray:
    """Half the width of the interval around an estimate with the standard error `error`; `scale` is t of the formula above."""
    s, t = np.square(np.asarray(error, np.float64)), np.square(np.asarray(scale, np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.sqrt(s * (s + t) / t * np.log((s + t) / (s * level**2))))


def _estimate(mean: FloatArray, variance: FloatArray, ready: npt.NDArray[np.bool_], *, scale: FloatArray,
              level: float) -> Estimate:
    error = np.sqrt(variance)
    half = np.where(ready & (error > 0), radius(error, scale=scale, level=level), np.nan)
    return Estimate(mean, error, mean - half, mean + half)


def _arm(moments: FloatArray) -> _Arm:
    """The means of an arm and their covariances; a user's part in the mean is (reward - mean * requests) / requests of all."""
    with np.errstate(invalid="ignore", divide="ignore"):
        users, requests = moments[..., ONE, ONE], moments[..., ONE, REQUESTS]
        mean = moments[..., ONE, REWARD] / requests
        # n / (n - 1) makes the variance of a sample that of its population
        small = users / np.maximum(users - 1, 1)
        left = moments[..., REWARD, :] - mean[..., None] * moments[..., REQUESTS, :]  # sums of left-over times each column
        variance = (left[..., REWARD] - mean * left[..., REQUESTS]) * small / requests**2
        past = moments[..., ONE, _PAST] / users[..., None]
        with_past = left[..., _PAST] * (small / (requests * users))[..., None]
        squares = moments[..., _PAST, :][..., :, _PAST] / users[..., None, None]
        of_past = (squares - past[..., :, None] * past[..., None, :]) * (small / users)[..., None, None]
    return _Arm(mean, users, moments[..., ONE, WAS_REWARDED], np.maximum(variance, 0.0), with_past, past, of_past)


def _solved(matrix: FloatArray, right: FloatArray) -> FloatArray:
    """The smallest x with matrix x = right, `[..., 2]`; 0 for a column that does not vary."""
    matrix, right = np.nan_to_num(matrix), np.nan_to_num(right)
    size = np.sqrt(np.maximum(np.diagonal(matrix, axis1=-2, axis2=-1), 0.0))
    scale = np.divide(1.0, size, out=np.zeros_like(size), where=size > 1e-150)
    scaled = matrix * scale[..., :, None] * scale[..., None, :]
    inverse = np.linalg.pinv(scaled, rcond=1e-9, hermitian=True)
    return np.asarray((inverse @ (right * scale)[..., None])[..., 0] * scale)
