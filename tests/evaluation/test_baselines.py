"""Counts that roll and weights that are fitted, by hand."""
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tfrec.data.behaviour.interactions import Interactions
from tfrec.evaluation.baselines import EASE, ITEM_KNN, RollingPopularity, fit_baselines, popularity_scorer
from tfrec.evaluation.protocol import Histories, rank_events


def test_popularity_counts_strictly_before_the_second(tiny: Interactions) -> None:
    scorer = popularity_scorer(tiny)
    assert scorer(np.array([4, 6, 7])).tolist() == [[2, 1, 1, 0, 0], [3, 1, 1, 1, 0], [3, 2, 1, 1, 0]]
    # v:b ties with c and d; u:d beats e
    assert rank_events(tiny, [6, 7], scorer).rank.tolist() == [2, 1]


def test_a_window_counts_what_is_recent_and_breaks_ties_by_all_of_time(tiny: Interactions) -> None:
    # at second 40 the last 15 hold a and d once each; of all 6 events a has 3, b, c and d one
    found = popularity_scorer(tiny, window=15)(np.array([6]))
    np.testing.assert_allclose(found, [[1 + 3 / 7, 1 / 7, 1 / 7, 1 + 1 / 7, 0]], rtol=1e-15)


def test_a_window_holds_its_first_second() -> None:
    counts = RollingPopularity(1, window=15)
    counts.update(0, 10)
    assert [float(counts.scores(now)[0]) for now in (10, 11, 25, 26)] == [0, 1.5, 1.5, 0.5]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 20), st.integers(0, 25)), max_size=20), st.sampled_from([None, 5]))
def test_live_counts_do_not_depend_on_the_order_of_news_and_questions(
    news: list[tuple[int, int, int]], window: int | None
) -> None:
    live = RollingPopularity(3, window=window)
    for known, (item, time, now) in enumerate(news, start=1):
        live.update([item], [time])
        past = [(i, t) for i, t, _ in news[:known] if t < now]
        recent = [i for i, t in past if window is None or t >= now - window]
        expected = np.bincount(recent, minlength=3).astype(float)
        if window is not None:
            expected += np.bincount([i for i, _ in past], minlength=3) / (len(past) + 1)
        np.testing.assert_array_equal(live.scores(now), expected)


def test_many_updates_at_once_and_one_by_one_are_the_same() -> None:
    rng = np.random.default_rng(0)
    items, times = rng.integers(0, 5, 3000), np.sort(rng.integers(0, 1000, 3000))
    whole, parts = RollingPopularity(5, window=100), RollingPopularity(5, window=100)
    whole.update(items, times)
    for start in range(0, 3000, 7):
        parts.update(items[start : start + 7], times[start : start + 7])
    np.testing.assert_array_equal(whole.scores(700), parts.scores(700))


def test_fitted_baselines_weigh_the_newest_most_and_know_the_training_set_only(tiny: Interactions) -> None:
    found = fit_baselines(tiny, train_end=4, histories=Histories(tiny))
    assert not found.skipped
    # training: u {a, b, c}, v {a}; cosines a-b and a-c 1/sqrt(2), b-c 1; u's history is a, then b and c in order of sha1
    scores = found.scorers[ITEM_KNN](np.array([7]))[0]
    half = 0.5**0.5
    np.testing.assert_allclose(scores[0], (0.8 + 1) * half, rtol=1e-12)
    np.testing.assert_allclose(sorted(scores[1:3]), [0.64 * half + 0.8, 0.64 * half + 1], rtol=1e-12)
    assert scores[3:].tolist() == [0, 0]


def test_large_logs_skip_what_would_not_fit_in_memory_and_say_so(tiny: Interactions) -> None:
    # training: u {a, b, c}, v {a}
    found = fit_baselines(tiny, train_end=4, max_side=1, max_neighbours=8)
    assert set(found.scorers) == {"popularity", "popularity_7d"}
    assert found.skipped == {
        ITEM_KNN: "up to 9 pairs of neighbours, above 8",
        EASE: "2 training users and 3 training items, both above 1",
    }
    assert not fit_baselines(tiny, train_end=4, max_side=2, max_neighbours=9).skipped
    assert set(fit_baselines(tiny, train_end=0).skipped.values()) == {"no training event"}
