"""Gain, intercept and position weights, where they are known."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from tfrec.errors import DataError
from tfrec.training.slates.position_bias import LEAST_SHARE, MOST_LEVEL, fit_position_bias


def test_what_made_the_rewards_is_found() -> None:
    scores = np.random.default_rng(0).normal(0, 2, (400, 3))
    weights = np.array([1.0, 0.6, 0.3])
    found = fit_position_bias(scores, weights * (0.25 * scores + 1.5), np.ones((400, 3), bool))
    assert_allclose([found.gain, found.intercept], [0.25, 1.5], rtol=1e-4)
    assert_allclose(found.position_weights, weights, rtol=1e-4)
    assert_allclose(found.expected(scores[:1]), weights * (0.25 * scores[:1] + 1.5), rtol=1e-3)
    assert found.noise < 1e-3


def test_scores_that_mislead_are_taken_to_say_little() -> None:
    scores = np.random.default_rng(0).normal(size=(200, 2))
    found = fit_position_bias(scores, 1 - 0.2 * scores, np.ones((200, 2), bool))
    assert_allclose(found.gain, LEAST_SHARE * 0.2, rtol=1e-6)  # rewards spread .2 times as wide as scores


def test_log_odds_of_a_click_are_found() -> None:
    """One of four clicks at a score of -1, three of four at 1, and of what is looked at half the time, half as many."""
    scores = np.array([[-1.0, -1.0], [1.0, 1.0]]).repeat(8, axis=0)
    reward = np.array([[1] * 2 + [0] * 6 + [1] * 6 + [0] * 2, [1] + [0] * 7 + [1] * 3 + [0] * 5], float).T
    found = fit_position_bias(scores, reward, np.ones((16, 2), bool))
    assert_allclose(found.position_weights, [1, 0.5], rtol=1e-3)
    assert_allclose([found.click_level, found.click_slope], [0, np.log(3)], atol=1e-2)
    doubled = fit_position_bias(2 * scores + 7, reward, np.ones((16, 2), bool))
    assert_allclose([doubled.click_level, doubled.click_slope], [0, np.log(3) / 2], atol=1e-2)


def test_clicks_that_scores_do_not_explain_start_from_a_small_slope() -> None:
    scores = np.array([[-1.0], [1.0]]).repeat(2, axis=0)
    found = fit_position_bias(scores, np.array([[1.0], [0.0], [0.0], [0.0]]), np.ones((4, 1), bool))
    assert_allclose(found.click_slope, LEAST_SHARE / np.sqrt(0.25 * 0.75), rtol=1e-6)
    always = fit_position_bias(scores, np.ones((4, 1)), np.ones((4, 1), bool))
    assert always.click_level == MOST_LEVEL


def test_a_first_position_that_is_always_pinned_says_nothing_of_the_others() -> None:
    scores = np.random.default_rng(0).normal(0, 2, (400, 3))
    weights = np.array([9.0, 1.0, 0.4])  # whatever is pinned
    shown = np.broadcast_to([False, True, True], scores.shape)
    found = fit_position_bias(scores, weights * (0.25 * scores + 1.5), shown)
    assert_allclose([found.gain, found.intercept], [0.25, 1.5], rtol=1e-4)
    assert_allclose(found.position_weights[1:], weights[1:], rtol=1e-4)


def test_nothing_shown_is_refused() -> None:
    with pytest.raises(DataError, match="nothing was shown"):
        fit_position_bias(np.zeros((2, 2)), np.zeros((2, 2)), np.zeros((2, 2), bool))


@given(st.integers(0, 2**31), st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_it_is_always_usable(seed: int, positions: int) -> None:
    rng = np.random.default_rng(seed)
    shown = rng.random((30, positions)) < 0.8
    shown[0, 0] = True
    found = fit_position_bias(rng.normal(0, 5, (30, positions)), rng.normal(0, 1, (30, positions)) * (rng.random() < 0.8), shown)
    assert found.gain > 0
    assert np.isfinite([found.intercept, found.click_level]).all()
    assert 0 < found.click_slope < np.inf
    assert found.noise > 0
    assert ((found.position_weights > 0) & (found.position_weights <= 1)).all()
