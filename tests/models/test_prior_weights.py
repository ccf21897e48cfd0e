"""The fitted weights of the popularity prior are at their maximum."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from tfrec.data.behaviour.interactions import Interactions
from tfrec.errors import DataError
from tfrec.models.popularity_prior import COMPONENTS, DEFAULT_WEIGHTS, HALF_LIVES, PopularityPrior
from tfrec.models.prior_weights import LEANING, fit_weights, lean

DAY = 86_400


def log_of(items: str, times: list[int], *, catalogue: str) -> Interactions:
    """One user an event, so that none is a repeat."""
    return Interactions.from_columns([str(n) for n in range(len(items))], list(items), times, items=list(catalogue))


def test_weights_go_to_the_component_that_is_always_right() -> None:
    # every event is the first of its item
    first = log_of("abcdefgh", list(range(8)), catalogue="abcdefghij")
    assert_allclose(fit_weights(first, start=0, stop=8)[-1], 1, atol=2e-2)
    # every day has its own film, seen 400 times on that day: the fastest half life knows it best
    hours = [day * DAY + n * 180 for day in range(8) for n in range(400)]
    days = log_of("".join(film * 400 for film in "abcdefgh"), hours, catalogue="abcdefgh")
    weights = fit_weights(days, start=800, stop=3200)
    assert weights[0] > 0.8
    assert_allclose(weights.sum(), 1, rtol=1e-12)
    assert_array_equal(weights, fit_weights(days, start=800, stop=3200))


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 30 * DAY)), min_size=2, max_size=12))
def test_no_component_would_make_the_fitted_events_likelier(events: list[tuple[str, int]]) -> None:
    log = log_of("".join(item for item, _ in events), [time for _, time in events], catalogue="abcd")
    weights = fit_weights(log, start=1, stop=len(log))
    seen = []
    for event in range(1, len(log)):
        past = log.time < log.time[event]
        prior = PopularityPrior(4)
        prior.update(log.item[past], log.time[past])
        seen.append(prior.components(log.item[event])[:, 0])
    gradient = (np.array(seen) / (np.array(seen) @ weights)[:, None]).mean(axis=0)
    assert gradient.max() < 1 + 1e-3


def test_a_range_without_events_cannot_be_fitted() -> None:
    log = log_of("abca", [0, DAY, DAY, 2 * DAY], catalogue="abcd")
    with pytest.raises(DataError, match="expected 0 <= start < stop <= 4 events, got 4 and 4"):
        fit_weights(log, start=4, stop=4)


def fashions(days: int = 30, each: int = 40) -> Interactions:
    """Each day has 12 films of its own among 24 that are always seen a little more: only fast counts rank the day's first."""
    rng = np.random.default_rng(0)
    rows = []
    for day in range(days):
        own = [f"d{day}-{n}" for n in range(12)]
        always = [f"a{n}" for n in range(24)]
        rows += [(item, day * DAY + int(rng.integers(DAY))) for item in [*own * each, *always * (each // 8)]]
    items, times = zip(*rows, strict=True)
    return Interactions.from_columns([str(n) for n in range(len(rows))], items, times)


def test_the_mixture_leans_on_the_half_life_that_ranks_best_and_leaves_new_items_their_share() -> None:
    log, slow = fashions(), np.array([0.01, 0, 0, 0, 0.3, 0.59, 0.03, 0.07])
    leant = lean(log, slow, start=len(log) // 2, stop=len(log))
    assert leant[0] > LEANING / 3
    assert_allclose(leant.sum(), 1, rtol=1e-12)
    assert_array_equal(leant[-2:], slow[-2:])
    PopularityPrior(3, weights=leant)  # are weights of a prior
    assert_array_equal(leant, lean(log, slow, start=len(log) // 2, stop=len(log)))


@pytest.mark.parametrize("log", [
    log_of("abca", [0, DAY, DAY, 2 * DAY], catalogue="abcd"),  # short
    log_of("a", [5], catalogue="a"),
    log_of("a" * 300, list(range(300)), catalogue="a"),  # there is nothing to rank
    log_of("abcdefghijklmnopqrstuvwxyz" * 10, [3] * 260, catalogue="abcdefghijklmnopqrstuvwxyz"),  # nothing is before it
])
def test_a_log_that_cannot_tell_keeps_the_likeliest_mixture(log: Interactions) -> None:
    assert len(DEFAULT_WEIGHTS) == len(COMPONENTS) == len(HALF_LIVES) + 2
    assert_array_equal(lean(log, np.array(DEFAULT_WEIGHTS), start=0, stop=len(log)), DEFAULT_WEIGHTS)


def test_a_range_without_events_cannot_be_ranked() -> None:
    log = log_of("abca", [0, DAY, DAY, 2 * DAY], catalogue="abcd")
    with pytest.raises(DataError, match="expected 0 <= start < stop <= 4 events, got 3 and 2"):
        lean(log, np.array(DEFAULT_WEIGHTS), start=3, stop=2)
