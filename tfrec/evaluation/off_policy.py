"""Off-policy estimators: what a policy would have earned, from what another one logged.

A row of a log has the reward r, the probability pi_0(a|x) with which the logging policy took the action, the probability pi(a|x)
with which the target policy would have taken it and, where there is a reward model q, q(x, a) and v(x) = sum over a of
pi(a|x) q(x, a). With w = pi / pi_0 each estimator is mean(plain) + sum(weighted) / sum(normaliser):

    IPS     w r                                              (Horvitz & Thompson 1952)
    SNIPS   sum(w r) / sum(w)                                (Swaminathan & Joachims 2015)
    DM      v
    DR      v + w (r - q)                                    (Dudik et al. 2011, arXiv:1103.4601)
    SNDR    v + sum(w (r - q)) / sum(w)

For slates whose positions were drawn one after another, RIPS weighs the reward of a position by the product of w over it and the
positions before it (McInerney et al. 2020, arXiv:2007.12986). No estimator notices by itself that a propensity is missing or that
the target policy goes where the log never went, so `Logged` and `diagnose` check for both and say what is wrong.
"""
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfrec.errors import DataError
from tfrec.evaluation.intervals import Interval, UserBootstrap

LEAST_EFFECTIVE = 30  # rows; with fewer the intervals themselves are guesses
SIGMAS = 4.0  # standard errors that the mean weight may be away from 1

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Logged:
    """Checked rows of a log, of one action each `[n]` or of the k positions of a slate `[n, k]`.

    Raises:
        DataError: a row has no usable propensity, probability or reward; says which and how many.
    """

    reward: FloatArray
    propensity: FloatArray  # of the logged action; in a slate given the earlier positions
    target: FloatArray  # the probability of the same action under the target policy
    expected: FloatArray | None = None  # q(x, a) of the logged action
    value: FloatArray | None = None  # v(x)

    def __post_init__(self) -> None:
        for name in ("reward", "propensity", "target", "expected", "value"):
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, np.asarray(given, np.float64))
        shape = self.reward.shape
        uneven = {name: array.shape for name, array in vars(self).items() if array is not None and array.shape != shape}
        if uneven or not self.reward.size:
            raise DataError(f"off-policy evaluation: expected rows, and arrays of one shape, got reward {shape} and {uneven}.")
        _refuse("propensity", self.propensity, (self.propensity > 0) & (self.propensity <= 1), "above 0 and at most 1",
                "Rows without one cannot be weighed: log by a policy that knows its propensities (`explore`), or leave them out.")
        _refuse("target", self.target, (self.target >= 0) & (self.target <= 1), "from 0 to 1", "Ask the judged policy again.")
        for name in ("reward", "expected", "value"):
            array = getattr(self, name)
            if array is not None:
                _refuse(name, array, np.isfinite(array), "a finite number", "Mend the reward rule, or leave these rows out.")

    @property
    def weight(self) -> FloatArray:
        """w, in the shape of the rewards; in a slate the product up to each position."""
        ratio = self.target / self.propensity
        return np.asarray(ratio if ratio.ndim == 1 else np.cumprod(ratio, axis=1), np.float64)


class Terms(NamedTuple):
    """The parts of an estimator, `[n]` each."""

    plain: FloatArray
    weighted: FloatArray
    normaliser: FloatArray


class Diagnosis(NamedTuple):
    """Whether a log supports a policy."""

    rows: int
    effective: float  # Kish's sample size, sum(w)^2 / sum(w^2); of a slate at its last position
    mean_weight: float  # 1 in expectation, if every action of the policy can be in the log
    largest_weight: float
    refusal: str | None  # why there is no number


def ips(logged: Logged) -> Terms:
    """IPS: unbiased, and wide where weights are large. For slates it is RIPS."""
    earned = logged.weight * logged.reward
    return _only(earned if earned.ndim == 1 else earned.sum(axis=1))


def snips(logged: Logged) -> Terms:
    """SNIPS: a little biased, bounded by the rewards, and no worse for a shifted reward."""
    weight = _of_actions(logged, "SNIPS").weight
    return Terms(np.zeros(len(weight)), weight * logged.reward, weight)


def direct(logged: Logged) -> Terms:
    """DM: as good as the reward model, and as biased."""
    return _only(_modelled(logged, "DM")[1])


def doubly_robust(logged: Logged) -> Terms:
    """DR: unbiased when either the propensities or the reward model are right."""
    expected, value = _modelled(logged, "DR")
    return _only(value + logged.weight * (logged.reward - expected))


def self_normalised_doubly_robust(logged: Logged) -> Terms:
    """SNDR: as `doubly_robust`, with the correction bounded as in `snips`."""
    expected, value = _modelled(logged, "SNDR")
    return Terms(value, logged.weight * (logged.reward - expected), logged.weight)


ESTIMATORS: dict[str, Callable[[Logged], Terms]] = {
    "IPS": ips, "SNIPS": snips, "DM": direct, "DR": doubly_robust, "SNDR": self_normalised_doubly_robust,
}


def estimate(terms: Terms, *, users: ArrayLike | None = None, redraws: int = 300, seed: int = 0) -> Interval:
    """The value and its 95% bootstrap interval.

    `users` `[n]` are redrawn, by default rows, and each redraw is normalised anew.
    """
    rows = np.arange(len(terms.plain)) if users is None else users
    return UserBootstrap(rows, redraws=redraws, seed=seed).ratio(*terms)


def diagnose(logged: Logged) -> Diagnosis:
    """Check by the weights whether the log supports the policy."""
    weight = logged.weight if logged.weight.ndim == 1 else logged.weight[:, -1]
    n, mean = len(weight), float(weight.mean())
    square = float((weight**2).sum())
    effective = float(weight.sum()) ** 2 / square if square else 0.0
    error = float(weight.std() / np.sqrt(n))
    refusal = None
    if effective < LEAST_EFFECTIVE:
        refusal = (f"{n} rows are worth {effective:.1f} of the judged policy's own, fewer than {LEAST_EFFECTIVE}: it does what "
                   "the log hardly ever did. Log more, or explore more")
    elif abs(mean - 1) > SIGMAS * error + 1e-9:
        which = ("it goes where the logging policy never or hardly ever went" if mean < 1
                 else "the logged propensities are too small for what was logged")
        refusal = f"weights average {mean:.3f} +- {error:.3f} and not 1: {which}"
    return Diagnosis(n, effective, mean, float(weight.max()), refusal)


def _only(plain: FloatArray) -> Terms:
    return Terms(plain, np.zeros(len(plain)), np.ones(len(plain)))


def _of_actions(logged: Logged, name: str) -> Logged:
    if logged.reward.ndim != 1:
        raise DataError(f"{name} is for single actions, got slates of shape {logged.reward.shape}. Take IPS, for slates RIPS.")
    return logged


def _modelled(logged: Logged, name: str) -> tuple[FloatArray, FloatArray]:
    _of_actions(logged, name)
    if logged.expected is None or logged.value is None:
        raise DataError(f"{name} needs a model of rewards: `expected` q(x, a) and `value` v(x) of each row. Take IPS or SNIPS.")
    return logged.expected, logged.value


def _refuse(name: str, array: FloatArray, fine: NDArray[np.bool_], wanted: str, advice: str) -> None:
    wrong = np.argwhere(~fine)
    if len(wrong):
        at = tuple(int(i) for i in wrong[0])
        position = ", ".join(map(str, at))
        raise DataError(f"off-policy evaluation: {name}[{position}] must be {wanted}, got {array[at]:g} ({len(wrong)} of "
                        f"{array.size} are not). {advice}")
