"""Popularity over time: it goes on from where it was as if it had never stopped, and holds what was known at each moment.

So do the snapshots of one log, by which a first training reads it.
"""
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from tfrec.data.behaviour.interactions import Interactions
from tfrec.errors import DataError, ModelError
from tfrec.models.popularity_prior import PopularityPrior
from tfrec.models.prior_snapshots import snapshots
from tfrec.models.prior_timeline import NEVER, RECENT, PriorTimeline

DAY, ITEMS = 86_400, list("abcd")
MIXED = np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 0.1, 0.2])
EVENTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40 * DAY)), min_size=1, max_size=30)


def log_of(events: list[tuple[int, int]]) -> Interactions:
    """An event a user: who has no earlier one is a newcomer, in any part of the log."""
    return Interactions.from_columns([f"u{n}" for n in range(len(events))], [ITEMS[item] for item, _ in events],
                                     [time for _, time in events], items=ITEMS, now=1 << 40)


def whole(inter: Interactions) -> np.ndarray:
    return np.ones(len(inter), bool)


@given(EVENTS, st.lists(st.integers(0, 29), max_size=3))
def test_counted_in_parts_it_is_as_if_counted_at_once(events: list[tuple[int, int]], cuts: list[int]) -> None:
    inter = log_of(events)
    timeline, edges = PriorTimeline.empty(4, weights=MIXED), sorted({0, *(min(c, len(inter)) for c in cuts), len(inter)})
    for start, end in zip(edges, edges[1:], strict=False):
        timeline = timeline.advanced(inter, (np.arange(len(inter)) >= start) & (np.arange(len(inter)) < end), most=5)
    assert_allclose(timeline.prior.log_p(), PopularityPrior.counted(inter, weights=MIXED).log_p(), rtol=1e-5)
    assert_array_equal(timeline.touched[0], [min((t for i, t in events if i == item), default=NEVER) for item in range(4)])
    assert_array_equal(timeline.touched[1], [max((t for i, t in events if i == item), default=0) for item in range(4)])


@given(EVENTS)
def test_a_moment_holds_what_was_strictly_before_it(events: list[tuple[int, int]]) -> None:
    inter = log_of(events)
    timeline = PriorTimeline.empty(4, weights=MIXED).advanced(inter, whole(inter), most=100)
    assert (np.diff(timeline.times) > 0).all()
    for moment, log_p, touched in zip(timeline.times, timeline.log_p, range(len(timeline)), strict=True):
        before = int(np.searchsorted(inter.time, moment))
        assert_allclose(log_p, PopularityPrior.counted(inter, before, weights=MIXED).log_p(), rtol=1e-5)
        assert_array_equal(timeline.first_touch <= touched, [item in inter.item[:before] for item in range(4)])
    assert_array_equal(timeline.times[timeline.at(inter.time)], inter.time)  # with a moment for each second, it is exact
    assert_array_equal(timeline.log_p[-1], timeline.prior.log_p())  # the last moment is now


def test_what_comes_late_counts_as_if_it_had_come_in_time() -> None:
    inter = log_of([(0, 10 * DAY), (1, 2 * DAY), (2, 11 * DAY)])
    first = PriorTimeline.empty(4, weights=MIXED).advanced(inter, inter.time == 10 * DAY, most=5)
    later = first.advanced(inter, inter.time != 10 * DAY, most=5)
    assert later.times.tolist() == [0, 10 * DAY, 10 * DAY + 1, 11 * DAY, 11 * DAY + 1]
    assert_allclose(later.prior.log_p(), PopularityPrior.counted(inter, weights=MIXED).log_p(), rtol=1e-6)
    assert later.log_p[1].tolist() == first.log_p[1].tolist()  # the past is not rewritten
    assert first.advanced(inter, np.zeros(3, bool), most=5, upto=4).upto == 4


def test_what_no_event_reads_is_left_out() -> None:
    inter = log_of([(item % 4, DAY * item) for item in range(1, 9)])
    timeline = PriorTimeline.empty(4, weights=MIXED).advanced(inter, whole(inter), most=100)
    assert timeline.since(5 * DAY + 7).times.tolist() == [day * DAY for day in (5, 6, 7, 8)] + [8 * DAY + 1]
    assert timeline.since(0).times.tolist() == timeline.times.tolist()


def test_few_moments_are_kept_the_newer_the_more() -> None:
    # a year: an event an hour in its last month, and before that, where moments are kept further apart, four a day
    inter = log_of([(n % 4, n * 3600) for n in range(1, 24 * 365) if n % 6 == 0 or n > 24 * 335])
    timeline = PriorTimeline.of(inter, weights=MIXED, most=10_000)
    hours = np.maximum(int(inter.time[-1]) - timeline.times, 0) // 3600
    assert np.unique(hours[hours < RECENT]).tolist() == list(range(RECENT))
    assert RECENT + 150 < len(timeline) < RECENT + 300
    assert timeline.times[0] < int(inter.time[len(inter) // 10])
    assert timeline.thinned().times.tolist() == timeline.times.tolist()


def test_it_is_read_as_it_was_written_and_grows(tmp_path: Path) -> None:
    inter = log_of([(0, DAY), (1, 2 * DAY), (0, 3 * DAY)])
    timeline = PriorTimeline.empty(4, weights=MIXED).advanced(inter, whole(inter), most=9, upto=7)
    timeline.save(tmp_path / "timeline.npz")
    again = PriorTimeline.load(tmp_path / "timeline.npz")
    assert_array_equal(again.times, timeline.times)
    assert again.upto == 7
    assert_allclose(again.log_p, timeline.log_p, atol=0.01)
    assert_array_equal(again.prior.log_p(), timeline.prior.log_p())
    again.grow(6)
    assert (again.log_p.shape[1], again.touched[:, 4:].tolist(), len(again.prior)) == (6, [[NEVER] * 2, [0] * 2], 6)
    assert (again.log_p[:, 4:] == again.log_p[:, :4].min(axis=1, keepdims=True)).all()


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", None])
def test_what_cannot_be_read_is_named(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "timeline.npz"
    if damage is None:
        np.savez(path, times=[1])
    else:
        path.write_bytes(damage)
    with pytest.raises(ModelError, match=r"timeline.npz: expected the popularity of a checkpoint over time"):
        PriorTimeline.load(path)


@pytest.fixture
def tiny_log() -> Interactions:
    """a at day 0, b and c in one second of day 1, a at day 2; d never."""
    return Interactions.from_columns(list("0123"), list("abca"), [0, DAY, DAY, 2 * DAY], items=list("abcd"))


def log_p_of(events: list[tuple[int, int]]) -> np.ndarray:
    prior = PopularityPrior(4, weights=MIXED)
    prior.update([item for item, _ in events], [time for _, time in events])
    return prior.log_p()


def test_a_snapshot_holds_what_was_strictly_before_the_second_of_its_edge(tiny_log: Interactions) -> None:
    found = snapshots(tiny_log, weights=MIXED, edges=[0, 1, 2, 3, 4])
    past = [[], [(0, 0)], [(0, 0)], [(0, 0), (1, DAY), (2, DAY)], [(0, 0), (1, DAY), (2, DAY), (0, 2 * DAY)]]
    assert found.log_p.dtype == np.float32
    assert_allclose(found.log_p, [log_p_of(events) for events in past], rtol=1e-5)
    assert found.first_touch.dtype == np.int32
    assert found.first_touch.tolist() == [1, 3, 3, 5]


def test_no_snapshot_and_no_event(tiny_log: Interactions) -> None:
    log_p, first_touch = snapshots(tiny_log, weights=MIXED, edges=[])
    assert (log_p.shape, first_touch.tolist()) == ((0, 4), [0, 0, 0, 0])
    assert_allclose(snapshots(tiny_log.slice(0, 0), weights=MIXED, edges=[0]).log_p, [[np.log(0.25)] * 4], rtol=1e-6)


@pytest.mark.parametrize("edges", [[-1], [5], [2, 1]])
def test_edges_ascend_within_the_log(tiny_log: Interactions, edges: list[int]) -> None:
    with pytest.raises(DataError, match="expected ascending edges from 0 to 4"):
        snapshots(tiny_log, weights=MIXED, edges=edges)
