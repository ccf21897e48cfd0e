# mypy: warn-return-any, disallow-subclassing-any, disallow-untyped-decorators, enable-error-code=name-defined
"""The fit of the popularity prior: how much each speed of fading is believed, by maximum likelihood on a log."""
import numpy as np
from numpy.typing import NDArray

from tfrec.data.behaviour.interactions import Interactions
from tfrec.errors import DataError
from tfrec.models.popularity_prior import COMPONENTS, PopularityPrior

MIN_UNIFORM = 1e-4  # no item is ever impossible: log p >= ln(1e-4 / V)
EM_GAP = 1e-4  # nats per event below the best mixture at which the fit ends
EM_STEPS = 20_000  # a bound for inputs on which EM is slow, about a second


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
