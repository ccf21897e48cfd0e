# mypy: warn-return-any, disallow-subclassing-any, disallow-untyped-decorators, enable-error-code=name-defined
"""The fit of the popularity prior: how much each speed of fading is believed, by likelihood and then by ranking.

The likelihood is mostly that of rare items, and asks for slow counts, which know them. What is shown is the head of a ranking,
and on a log that lives by the day fast counts rank it better. So the likeliest mixture leans on one or two half lives where that
ranks better by more than chance.
"""
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tfrec.data.behaviour.interactions import Interactions
from tfrec.errors import DataError
from tfrec.models.popularity_prior import COMPONENTS, HALF_LIVES, PopularityPrior

MIN_UNIFORM = 1e-4  # no item is ever impossible: log p >= ln(1e-4 / V)
EM_GAP = 1e-4  # nats per event below the best mixture at which the fit ends
EM_STEPS = 20_000  # a bound for inputs on which EM is slow, about a second
LEANING = 0.8  # of the share of all half lives, what goes to those that are leant on
RANKED = 2000  # events by whose ranks a leaning is chosen, at most
LEAST_RANKED = 200  # events: of fewer, chance is all that can be read
RANKED_FLOATS = 1 << 28  # of all their scores: a catalogue of a million items gets 268 events


def fit_weights(inter: Interactions, *, start: int, stop: int, sample: int = 4000) -> NDArray[np.float64]:
    """Weights of the mixture under which events [start, stop) are likeliest, each given all events strictly before its second.

    This is expectation maximisation on at most `sample` events, evenly spaced. P[e, k] is what component k gave to event e, and a
    step is w_k <- mean_e w_k P[e, k] / (P w)[e]. The gradient g_k = mean_e P[e, k] / (P w)[e] bounds what is left to gain: the
    log likelihood an event of the best mixture is at most this one's + max_k g_k - 1 (Lindsay 1983).

    Args:
        inter: A log, in the order of time.
        start: The first event to fit.
        stop: The event after the last one to fit.
        sample: Number of events, at most.

    Raises:
        DataError: The range holds no event.
    """
    if not 0 <= start < stop <= len(inter):
        raise DataError(f"fit_weights: expected 0 <= start < stop <= {len(inter)} events, got {start} and {stop}.")
    chosen = np.linspace(start, stop - 1, min(sample, stop - start)).astype(np.int64)
    everybody = np.zeros(len(inter), np.bool_)  # how fast a log lives is read off all of it
    prior = PopularityPrior(len(inter.items), start=int(inter.time[0]))
    seen = np.empty((len(chosen), len(COMPONENTS)))
    done = 0
    for row, event in zip(seen, chosen, strict=True):
        done = prior.roll(inter, done, int(event), everybody)
        row[:] = prior.components(inter.item[event])[:, 0]
    weights = np.full(len(COMPONENTS), 1 / len(COMPONENTS))
    for _ in range(EM_STEPS):
        gradient = (1 / (seen @ weights)) @ seen / len(seen)
        weights *= gradient
        if gradient.max() - 1 < EM_GAP:
            break
    weights *= (1 - MIN_UNIFORM) / weights.sum()
    weights[-2] += MIN_UNIFORM
    return weights


def lean(inter: Interactions, weights: NDArray[np.float64], *, start: int, stop: int) -> NDArray[np.float64]:
    """The weights, or with `LEANING` of their half lives' share on one or two half lives, as popularity alone ranks events best.

    The share of uniform and of untouched items stays. What counts is the gain in NDCG@10 on events [start, stop) less two of its
    standard errors, so a log that cannot tell, as one that is short, keeps `weights`. Items that a user has met are not left out,
    which is alike for all.

    Args:
        inter: A log, in the order of time.
        weights: `[len(COMPONENTS)]`, fitted.
        start: The first event to rank.
        stop: The event after the last one to rank.

    Raises:
        DataError: The range holds no event.
    """
    if not 0 <= start < stop <= len(inter):
        raise DataError(f"lean: expected 0 <= start < stop <= {len(inter)} events, got {start} and {stop}.")
    if stop - start < LEAST_RANKED:
        return weights
    candidates = np.array([weights, *_leaning(weights)])
    most = max(1, min(RANKED, RANKED_FLOATS // len(inter.items)))
    chosen = np.linspace(start, stop - 1, min(most, stop - start)).astype(np.int64)
    everybody = np.zeros(len(inter), np.bool_)
    prior, done = PopularityPrior(len(inter.items), start=int(inter.time[0])), 0
    gain = np.empty((len(chosen), len(candidates)))
    for row, event in zip(gain, chosen, strict=True):
        done = prior.roll(inter, done, int(event), everybody)
        p = candidates @ prior.components()
        own = p[:, [inter.item[event]]]
        rank = 1 + (p > own).sum(1) + 0.5 * ((p == own).sum(1) - 1)
        row[:] = np.where(rank <= 10, 1 / np.log2(rank + 1), 0)
    gain -= gain[:, [0]]
    best: NDArray[np.float64] = candidates[int(np.argmax(gain.mean(0) - 2 * gain.std(0) / np.sqrt(len(gain))))]
    return best


def _leaning(weights: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Mixtures that lean on each half life, and on each two that follow one another."""
    n = len(HALF_LIVES)
    share = weights[:n].sum()
    for first in range(n):
        for last in range(first, min(first + 2, n)):
            leant = weights.copy()
            leant[:n] *= 1 - LEANING
            leant[first : last + 1] += LEANING * share / (last + 1 - first)
            yield leant
