"""The simulated world does what its formulas say, and the same for the same seed."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from tests.benchmarks.simulation.simulator import World, best_first, draw, hide


@pytest.fixture(scope="module")
def world() -> World:
    return World(3, items=30, users=400)


def test_clicks_come_as_often_as_is_said(world: World) -> None:
    user = np.repeat(np.flatnonzero(~world.bots)[:100], 200)
    slate = np.tile([4, 9, 2], (len(user), 1))
    clicked = world.answer(user, slate).clicked
    positions = np.array([1, 2 ** -0.7, 3 ** -0.7])
    assert_allclose(clicked.mean(0), world.chance(user)[:, [4, 9, 2]].mean(0) * positions, atol=0.01)
    assert_allclose(world.value(user, slate).mean(), clicked.sum(1).mean(), atol=0.02)


def test_purchases_follow_clicks_with_the_delay_that_is_said(world: World) -> None:
    user = np.repeat(np.flatnonzero(~world.bots), 100)
    found = world.answer(user, np.tile(np.arange(5), (len(user), 1)))
    assert not (found.converted & ~found.clicked).any()
    assert_allclose(found.delay[found.converted].mean(), 6 * 3600, rtol=0.05)
    assert_array_equal(found.delay[~found.converted], 0)


def test_bots_click_on_everything_and_buy_nothing() -> None:
    bots = World(0, items=10, users=50, bots=1.0)
    found = bots.answer(np.arange(50), np.tile(np.arange(4), (50, 1)))
    assert found.clicked.all()
    assert not found.converted.any()


def test_a_drift_changes_a_share_of_people_and_of_items() -> None:
    world = World(1, items=40, users=300, drifting=0.5)
    before = world.chance(np.arange(300))
    world.drift()
    after = world.chance(np.arange(300))
    same = np.isclose(before, after)
    assert 0.15 < same.mean() < 0.35  # neither the person nor the item: a quarter
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] < 0.8


def test_nobody_betters_the_oracle(world: World) -> None:
    rng = np.random.default_rng(0)
    user, hidden = rng.integers(0, 400, 50), np.tile([7, 8, -1], (50, 1))
    best = world.best(user, 4, hidden=hidden)
    assert not np.isin(best, [7, 8]).any()
    for _ in range(20):
        other = np.array([rng.permutation(np.setdiff1d(np.arange(30), [7, 8]))[:4] for _ in user])
        assert (world.value(user, other) <= world.value(user, best) + 1e-12).all()


def test_the_same_seed_is_the_same_world_whatever_was_asked_in_between() -> None:
    one, other = World(5, items=20, users=30), World(5, items=20, users=30)
    other.answer(np.arange(30), np.tile(np.arange(3), (30, 1)))
    other.organic(4)
    one.drift()
    other.drift()
    assert_array_equal(one.chance(np.arange(30)), other.chance(np.arange(30)))
    assert [item.full_text for item in one.items] == [item.full_text for item in other.items]


def test_people_find_each_item_once_by_themselves(world: World) -> None:
    found = world.organic(6)
    assert len(found) == len(set(found)) == 400 * 6


@given(st.integers(0, 2**31), st.integers(3, 8), st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_slates_hold_different_items_that_may_come(seed: int, items: int, epsilon: float) -> None:
    rng = np.random.default_rng(seed)
    logits = hide(rng.normal(size=(5, items)), np.array([[0], [1], [-1], [-1], [2]]))
    slate, log_pi = draw(logits, 2, epsilon=epsilon, gumbel=rng.gumbel(size=(5, items)), uniform=rng.random((5, 2, 2)))
    assert (slate[:, 0] != slate[:, 1]).all()
    assert np.isfinite(np.take_along_axis(logits, slate, 1)).all()
    assert (log_pi <= 1e-12).all()


def test_slates_come_as_often_as_their_propensities_say() -> None:
    n, rng = 60_000, np.random.default_rng(0)
    logits = np.tile([0.0, 1.0, -1.0], (n, 1))
    slate, log_pi = draw(logits, 2, epsilon=0.2, gumbel=rng.gumbel(size=(n, 3)), uniform=rng.random((n, 2, 2)))
    for first in range(3):
        for second in range(3):
            these = (slate[:, 0] == first) & (slate[:, 1] == second)
            if first != second:
                assert_allclose(these.mean(), np.exp(log_pi[these][0].sum()), atol=0.006)


@given(st.integers(0, 2**31), st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_best_first_is_a_sort(seed: int, positions: int) -> None:
    scores = np.random.default_rng(seed).normal(size=(4, 7))
    assert_array_equal(best_first(scores, positions), np.argsort(-scores, axis=1)[:, :positions])
