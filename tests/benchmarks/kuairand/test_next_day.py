"""The figures of the protocol "next day" on values worked by hand."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from tests.benchmarks.kuairand.next_day import (
    CHINA,
    DAY,
    Redraws,
    auc,
    by_group,
    calibrated_by_day_before,
    calibration_error,
    day_of,
    fit_logistic,
    interval,
    logit,
    rates_out_of_fold,
    smoothed_rates,
)


def array(*values: float) -> np.ndarray:
    return np.array(values)


@pytest.mark.parametrize(("score", "happened", "expected"), [
    ((1, 2, 3, 4), (0, 0, 1, 1), 1.0),
    ((4, 3, 2, 1), (0, 0, 1, 1), 0.0),
    ((1, 2, 3, 4), (0, 1, 0, 1), 0.75),  # of four pairs, (2, 3) is the wrong way round
    ((5, 5, 5, 5), (0, 1, 0, 1), 0.5),
    ((1, 2, 2, 3), (0, 1, 0, 1), 0.875),  # one pair of four is a tie
    ((1, 2), (1, 1), np.nan),
    ((), (), np.nan),
])
def test_auc(score: tuple[float, ...], happened: tuple[int, ...], expected: float) -> None:
    assert_allclose(auc(array(*score), array(*happened)), expected)


def test_auc_of_weighted_events_is_that_of_repeated_ones() -> None:
    score, happened, weight = array(1, 2, 3, 4), array(0, 1, 0, 1), np.array([2, 1, 3, 0])
    assert_allclose(auc(score, happened, weight), auc(np.repeat(score, weight), np.repeat(happened, weight)))
    assert_allclose(auc(score, happened, weight), 2 / 5)  # the event 2 is above both of 1, and below the three of 3


def test_auc_of_each_group_that_has_both() -> None:
    user = np.array([0, 0, 0, 1, 1, 3, 3, 3, 3])
    happened = array(1, 0, 0, 1, 1, 0, 1, 0, 1)
    score = array(2, 1, 3, 9, 8, 1, 1, 5, 6)
    users, own, count = by_group(score, happened, user)
    assert_array_equal(users, [0, 3])  # user 1 clicked everything
    assert_allclose(own, [0.5, 0.625])  # user 3: a tie, a win, a loss and a win of 4 pairs
    assert_array_equal(count, [3, 4])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.booleans()), min_size=1, max_size=40))
def test_auc_of_each_group_is_the_auc_of_its_own_events(rows: list[tuple[int, int, bool]]) -> None:
    user, score, happened = (np.array(column, float) for column in zip(*rows, strict=True))
    users, own, _ = by_group(score, happened, user.astype(int))
    each = {u: auc(score[user == u], happened[user == u]) for u in np.unique(user)}
    assert_array_equal(users, [u for u, value in each.items() if not np.isnan(value)])
    assert_allclose(own, [value for value in each.values() if not np.isnan(value)])


def test_calibration_error() -> None:
    p, happened = array(0.1, 0.1, 0.8, 0.8), array(0, 0, 1, 0)
    assert_allclose(calibration_error(p, happened, bins=2), (2 * 0.1 + 2 * 0.3) / 4)
    assert_allclose(calibration_error(p, happened, bins=1), 0.45 - 0.25)
    assert_allclose(calibration_error(p, happened, bins=9), (0.1 + 0.1 + 0.2 + 0.8) / 4)  # more bins than events


def test_smoothed_rates() -> None:
    rates = smoothed_rates(np.array([0, 0, 2, 2]), array(1, 1, 0, 1), n=4, prior=2)
    assert_allclose(rates, [3.5 / 4, 0.75, 2.5 / 4, 0.75])  # the rate of all is 3 of 4
    assert_allclose(logit(array(0.5, 0.8)), [0, np.log(4)])


def test_a_logistic_regression_finds_the_log_odds() -> None:
    x, happened = np.array([[0.0]] * 4 + [[1.0]] * 4), array(1, 0, 0, 0, 1, 1, 1, 0)
    assert_allclose(fit_logistic(x, happened, ridge=1e-9), [2 * np.log(3), -np.log(3)], rtol=1e-5)  # 1 of 4, then 3 of 4


def test_a_day_is_calibrated_by_the_day_before() -> None:
    x = np.array([[0.0], [0.0], [0.0], [0.0], [0.0], [0.0]])
    found = calibrated_by_day_before(x, array(1, 1, 1, 0, 1, 0), np.array([4, 4, 4, 4, 6, 6]))
    assert_allclose(found, np.log(3), rtol=1e-2)  # 3 of 4 on both days: the second does not know its own labels


def test_a_day_begins_at_midnight_in_china() -> None:
    midnight = 19_107 * DAY - CHINA  # 25 April 2022
    assert_array_equal(day_of(midnight + np.array([-1, 0, DAY - 1, DAY]), first=midnight), [-1, 0, 0, 1])


def test_redraws_are_of_users_and_alike_for_all_scores() -> None:
    user = np.array([0, 0, 2, 2, 5, 5])
    happened = array(1, 0, 1, 0, 0, 1)
    redraws = Redraws(user, np.zeros(6, int), redraws=50)
    perfect = redraws.per_user_auc(happened, happened)
    assert_array_equal(perfect, 1.0)
    assert interval(redraws.auc(happened, happened) - redraws.auc(2 * happened, happened)) == (0, 0, 0)
    mixed = interval(redraws.per_user_auc(array(1, 0, 1, 0, 1, 0), happened))
    assert_allclose(mixed.mean, 2 / 3)
    assert mixed.low < 2 / 3 < mixed.high


def test_the_auc_of_a_user_compares_within_a_day() -> None:
    user, day = np.zeros(4, int), np.array([0, 0, 3, 3])
    redraws = Redraws(user, day, redraws=2)
    assert_array_equal(redraws.per_user_auc(array(1, 0, 9, 8), array(1, 0, 1, 0)), 1)  # the model of day 3 scores higher


def test_a_rate_out_of_fold_knows_no_row_of_its_own_fold() -> None:
    key, happened = np.array([7, 7, 7, 9, 7, 5]), array(1, 1, 0, 0, 1, 1)
    learnt, fold = np.array([True, True, True, True, False, False]), np.array([0, 1, 1, 0, 0, 1])
    rate, count = rates_out_of_fold(key, happened, learnt, fold, prior=2.0)
    mean = 2.0 * 0.5  # of what is learnt
    assert_allclose(1 / (1 + np.exp(-rate)), [(1 + mean) / 4, (1 + mean) / 3, (1 + mean) / 3, 0.5, (2 + mean) / 5, 0.5])
    assert_allclose(np.expm1(count), [2, 1, 1, 0, 3, 0], atol=1e-9)
