"""What a policy would have earned, from what another one logged: estimators, their intervals, and when there is no number.

Rows of a log go in: the reward r, the probability pi_0(a|x) with which the logging policy took the action, the probability
pi(a|x) with which the judged one would have, and, where a model of rewards q is there, q(x, a) and v(x) = sum over a of
pi(a|x) q(x, a). With w = pi / pi_0 each estimator is mean(plain) + sum(weighted) / sum(normaliser):

    IPS     w r                                              (Horvitz & Thompson 1952)
    SNIPS   sum(w r) / sum(w)                                (Swaminathan & Joachims 2015)
    DM      v
    DR      v + w (r - q)                                    (Dudik et al. 2011, arXiv:1103.4601)
    SNDR    v + sum(w (r - q)) / sum(w)

For slates whose places were drawn one after another, RIPS weighs the reward of a place by the product of w of that place and of
those before it (McInerney et al. 2020, arXiv:2007.12986). What a log cannot say is refused with the reason: no estimator notices
by itself that a propensity is missing or that the judged policy goes where the log never went.
"""
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfrec.errors import DataError
from tfrec.evaluation.intervals import Interval, UserBootstrap

LEAST_EFFECTIVE = 30  # rows: with fewer the intervals themselves are guesses
SIGMAS = 4.0  # that the mean weight may be away from 1

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Logged:
    """Rows of a log, checked: of one action each `[n]`, or of the k places of a slate `[n, k]`.

    Raises:
        DataError: a row has no usable propensity, probability or reward; says which and how many.
    """

    reward: FloatArray
    propensity: FloatArray  # of the logged action; of a place given the earlier ones
    target: FloatArray  # the probability of the same action under the judged policy
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
        """w, as the rewards lie; in a slate the product up to each place."""
        ratio = self.target / self.propensity
        return np.asarray(ratio if ratio.ndim == 1 else np.cumprod(ratio, axis=1), np.float64)


class Terms(NamedTuple):
    """What an estimator is made of, `[n]` each."""

    plain: FloatArray
    weighted: FloatArray
    normaliser: FloatArray


class Diagnosis(NamedTuple):
    """Whether the log can speak about a policy."""

    rows: int
    effective: float  # Kish's sample size, sum(w)^2 / sum(w^2); of a slate at its last place
    mean_weight: float  # 1 in expectation, when every action that the policy takes can be in the log
    largest_weight: float
    refusal: str | None  # why there is no number


def ips(logged: Logged) -> Terms:
    """Unbiased, and wide where weights are large. Of slates it is RIPS."""
    earned = logged.weight * logged.reward
    return _only(earned if earned.ndim == 1 else earned.sum(axis=1))


def snips(logged: Logged) -> Terms:
    """A little biased, bounded by the rewards, and no worse for a shifted reward."""
    weight = _of_actions(logged, "SNIPS").weight
    return Terms(np.zeros(len(weight)), weight * logged.reward, weight)


def direct(logged: Logged) -> Terms:
    """As good as the model of rewards, and as biased."""
    return _only(_modelled(logged, "DM")[1])


def doubly_robust(logged: Logged) -> Terms:
    """Unbiased when either the propensities or the model of rewards are right."""
    expected, value = _modelled(logged, "DR")
    return _only(value + logged.weight * (logged.reward - expected))


def self_normalised_doubly_robust(logged: Logged) -> Terms:
    """As `doubly_robust`, its correction bounded as in `snips`."""
    expected, value = _modelled(logged, "SNDR")
    return Terms(value, logged.weight * (logged.reward - expected), logged.weight)


ESTIMATORS: dict[str, Callable[[Logged], Terms]] = {
    "IPS": ips, "SNIPS": snips, "DM": direct, "DR": doubly_robust, "SNDR": self_normalised_doubly_robust,
}


def estimate(terms: Terms, *, users: ArrayLike | None = None, redraws: int = 300, seed: int = 0) -> Interval:
    """The value and its 95% bootstrap interval, which redraws `users` `[n]` (by default rows) and normalises each redraw anew."""
    rows = np.arange(len(terms.plain)) if users is None else users
    return UserBootstrap(rows, redraws=redraws, seed=seed).ratio(*terms)


def bernstein(terms: Terms, *, least: float, most: float, level: float = 0.95) -> Interval:
    """The value with an interval that holds at any n, for rows that are independent and lie from `least` to `most`.

    mean +- sqrt(2 V ln(4/d) / n) + 7 (most - least) ln(4/d) / (3 (n - 1)), d = 1 - level, V the sample variance (Maurer & Pontil
    2009, arXiv:0907.3740, theorem 4, once for each side). `most` is a bound that is known beforehand, such as the largest reward
    over the smallest propensity, and not the largest row that was seen.

    Raises:
        DataError: an estimator that normalises by its weights, or a row beyond the bounds.
    """
    if np.any(terms.weighted):
        raise DataError("empirical Bernstein bounds hold for means: take IPS, DM or DR, or the bootstrap for SNIPS and SNDR.")
    n, rows = len(terms.plain), terms.plain
    if n < 2 or rows.min() < least or rows.max() > most:
        raise DataError(f"empirical Bernstein bounds: expected 2 or more rows from {least:g} to {most:g}, got {n} from "
                        f"{rows.min():g} to {rows.max():g}. Say the bounds that rewards and weights really have.")
    log = np.log(4 / (1 - level))
    half = np.sqrt(2 * rows.var(ddof=1) * log / n) + 7 * (most - least) * log / (3 * (n - 1))
    mean = float(rows.mean())
    return Interval(mean, mean - float(half), mean + float(half))


def diagnose(logged: Logged) -> Diagnosis:
    """What the weights say of the log itself."""
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
        place = ", ".join(map(str, at))
        raise DataError(f"off-policy evaluation: {name}[{place}] must be {wanted}, got {array[at]:g} ({len(wrong)} of "
                        f"{array.size} are not). {advice}")
