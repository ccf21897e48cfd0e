"""The popularity prior: exact numbers of small logs, and laws of any log."""
import gc
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from tfrec.data.behaviour.interactions import Interactions
from tfrec.errors import DataError, ModelError
from tfrec.models.popularity_prior import COMPONENTS, HALF_LIVES, PopularityPrior

DAY = 86_400
MIXED = np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 0.1, 0.2])
V = 4

news = st.lists(st.tuples(st.integers(0, V - 1), st.integers(0, 2000 * DAY)), max_size=12)
starts = st.sampled_from([0, 400 * DAY])


def prior_of(events: list[tuple[int, int]], *, start: int = 0) -> PopularityPrior:
    prior = PopularityPrior(V, start=start, weights=MIXED)
    prior.update([item for item, _ in events], [time for _, time in events])
    return prior


def from_scratch(events: list[tuple[int, int]], *, start: int = 0) -> np.ndarray:
    """The formula, one event at a time."""
    clock = max([start, *(time for _, time in events)])
    p = np.full(V, MIXED[-2] / V)
    slower = np.full(V, 1 / V)
    for days, weight in reversed(list(zip(HALF_LIVES, MIXED[:6], strict=True))):
        counts = np.zeros(V)
        for item, time in events:
            counts[item] += 2.0 ** (-(clock - time) / (days * DAY))
        slower = (counts + 50 * slower) / (counts.sum() + 50)
        p += weight * slower
    untouched = ~np.isin(np.arange(V), [item for item, _ in events])
    return p + MIXED[-1] * (untouched / untouched.sum() if untouched.any() else 1 / V)


def test_two_events_half_a_day_apart_by_hand() -> None:
    prior = PopularityPrior(4, weights=MIXED)
    prior.update([0, 1], [0, DAY // 2])
    parts = prior.components()
    forever = (np.array([1, 1, 0, 0]) + 50 / 4) / 52
    assert_allclose(parts[5:], [forever, [0.25] * 4, [0, 0, 0.5, 0.5]], rtol=1e-12)
    old = 2 ** (-0.5 / 180)  # of 180 days half a day has passed
    assert_allclose(parts[4], (np.array([old, 1, 0, 0]) + 50 * forever) / (51 + old), rtol=1e-12)
    assert_allclose(parts[0], (np.array([0.5, 1, 0, 0]) + 50 * parts[1]) / 51.5, rtol=1e-12)
    assert_allclose(prior.components([1, 0]), parts[:, [1, 0]], rtol=1e-15)
    assert prior.untouched.tolist() == [False, False, True, True]
    assert prior.clock == DAY // 2


def test_one_item_by_hand_and_a_late_event_counts_as_in_time() -> None:
    prior = PopularityPrior(1, weights=MIXED)
    prior.update(0, DAY)
    prior.update(0, 0)
    assert_allclose(prior.log_p(), [0.0], atol=1e-7)
    late = PopularityPrior(2, weights=MIXED)
    late.update(0, DAY)
    late.update(1, 0)
    parts = late.components()[:, 1]
    assert_allclose(parts[0], (0.25 + 50 * parts[1]) / 51.25, rtol=1e-12)
    assert late.clock == DAY


def test_without_events_all_items_are_equal() -> None:
    prior = PopularityPrior(4)
    prior.update([], [])
    assert_allclose(prior.log_p(), [np.log(0.25)] * 4, rtol=1e-6)


def test_one_event_after_years_of_silence_is_one_event() -> None:
    prior = PopularityPrior(100)
    prior.update(np.arange(100).repeat(100), np.arange(10_000) * 600)
    prior.update(0, 3000 * DAY)
    p = np.exp(prior.log_p())
    # fewer than 1 of 51 for each of the five half lives that have forgotten all else
    assert 0.01 < p[0] < 0.01 + 5 / 51


@given(news, starts)
def test_it_equals_a_recomputation_from_scratch(events: list[tuple[int, int]], start: int) -> None:
    prior = prior_of(events, start=start)
    p = from_scratch(events, start=start)
    assert_allclose(MIXED @ prior.components(), p, rtol=1e-9)
    assert_allclose(prior.log_p(), np.log(p), rtol=1e-5, atol=1e-6)
    assert_array_equal(~prior.untouched, np.isin(np.arange(V), [item for item, _ in events]))


@given(news, starts)
def test_every_component_and_so_p_sums_to_one(events: list[tuple[int, int]], start: int) -> None:
    prior = prior_of(events, start=start)
    assert_allclose(prior.components().sum(axis=1), np.ones(len(COMPONENTS)), rtol=1e-9)
    assert_allclose(np.exp(prior.log_p().astype(float)).sum(), 1, rtol=1e-5)


@given(news, st.randoms(use_true_random=False), st.integers(0, 12))
def test_neither_order_nor_division_into_calls_matters(events: list[tuple[int, int]], random: object, cut: int) -> None:
    whole = prior_of(events)
    random.shuffle(events)  # type: ignore[attr-defined]
    parts = prior_of(events[:cut])
    for item, time in events[cut:]:
        parts.update(item, time)
    assert_allclose(parts.components(), whole.components(), rtol=1e-9, atol=1e-250)
    assert parts.clock == whole.clock


@given(news, st.integers(0, 3))
def test_room_for_new_items_is_as_if_it_had_always_been_there(events: list[tuple[int, int]], extra: int) -> None:
    grown, full = prior_of(events), PopularityPrior(V + extra, weights=MIXED)
    grown.grow(V + extra)
    full.update([item for item, _ in events], [time for _, time in events])
    assert_array_equal(grown.log_p(), full.log_p())


@given(news, st.integers(0, 3000 * DAY))
def test_a_copy_by_state_goes_on_alike_and_alone(events: list[tuple[int, int]], later: int) -> None:
    prior = prior_of(events)
    before = prior.log_p()
    twin = PopularityPrior.from_state(prior.state())
    assert_array_equal(twin.log_p(), before)
    twin.update([1], [later])
    assert_array_equal(prior.log_p(), before)
    prior.update([1], [later])
    assert_array_equal(prior.log_p(), twin.log_p())
    assert prior.clock == twin.clock


def test_it_is_saved_without_pickle_and_read_back(tmp_path: Path) -> None:
    prior = prior_of([(0, 5), (3, 99)])
    prior.save(tmp_path / "prior.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["prior.npz"]
    assert_array_equal(PopularityPrior.load(tmp_path / "prior.npz").log_p(), prior.log_p())
    assert_array_equal(PopularityPrior.load(tmp_path / "prior.npz").weights, MIXED)
    assert_array_equal(prior.copy().components(), prior.components())


@pytest.mark.parametrize("broken", [b"", b"PK\x03\x04 no zip", None])
def test_a_file_that_is_no_prior_is_named(tmp_path: Path, broken: bytes | None) -> None:
    path = tmp_path / "prior.npz"
    if broken is None:
        state = prior_of([(0, 5)]).state()
        np.savez(path, **(state | {"half_lives": np.arange(6.0)}))
    else:
        path.write_bytes(broken)
    with pytest.raises(ModelError, match=r"prior\.npz: expected the state of a popularity prior"):
        PopularityPrior.load(path)
    gc.collect()  # a file that was left open would warn now


def test_what_does_not_fit_is_refused() -> None:
    prior = PopularityPrior(2)
    with pytest.raises(DataError, match="expected items from 0 to 1, got -1"):
        prior.update([-1], [0])
    with pytest.raises(DataError, match="expected items from 0 to 1, got 2"):
        prior.update([2], [0])
    with pytest.raises(DataError, match="as many times as items"):
        prior.update([0, 1], [0])
    with pytest.raises(DataError, match="at least the 2 items"):
        prior.grow(1)
    with pytest.raises(ModelError, match="expected 8 weights"):
        prior.weights = [1.0]
    with pytest.raises(ModelError, match="uniform above 0"):
        prior.weights = [1.0, 0, 0, 0, 0, 0, 0, 0]


def log_of(items: str, times: list[int], *, catalogue: str) -> Interactions:
    """One user an event, so that none is a repeat."""
    return Interactions.from_columns([str(n) for n in range(len(items))], list(items), times, items=list(catalogue))


def test_the_first_events_of_a_log_are_counted() -> None:
    inter = log_of("acab", [DAY, 2 * DAY, 3 * DAY, 9 * DAY], catalogue="abcde")
    expected = PopularityPrior(5, weights=MIXED)
    expected.update([0, 2, 0], [DAY, 2 * DAY, 3 * DAY])
    assert_array_equal(PopularityPrior.counted(inter, 3, weights=MIXED).log_p(), expected.log_p())
    expected.update(1, 9 * DAY)
    assert_array_equal(PopularityPrior.counted(inter, weights=MIXED).log_p(), expected.log_p())


def test_it_does_not_import_tensorflow() -> None:
    code = "import sys, tfrec.models.popularity_prior; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], timeout=60, check=False).returncode == 0
