"""What newcomers choose counts as far as people with a history make one expect it; nothing is thrown away."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.behaviour.newcomers import HISTORY_SECONDS, RATIO, bounded_counts, by_newcomers

counts = hnp.arrays(np.float64, 6, elements=st.floats(0, 1e6))


def weighing(established, newcomers):
    """Of one half life."""
    old, new = np.array(established, float), np.array(newcomers, float)
    return bounded_counts(old, new, totals=np.array([old.sum(), new.sum()]), chosen=int(np.count_nonzero(old)))


def test_somebody_is_a_newcomer_for_a_day():
    times = [0, 5, HISTORY_SECONDS - 1, HISTORY_SECONDS, HISTORY_SECONDS + 5]
    inter = Interactions.from_columns(["a", "b", "a", "a", "b"], ["i", "j", "k", "l", "i"], times)
    assert by_newcomers(inter).tolist() == [True, True, True, False, False]


def test_who_a_newcomer_is_does_not_depend_on_what_comes_later():
    inter = Interactions.from_columns(["a", "b", "a"], ["i", "j", "k"], [0, 5, HISTORY_SECONDS])
    assert by_newcomers(inter.slice(0, 2)).tolist() == by_newcomers(inter)[:2].tolist()


def test_by_hand():
    # E = 8, F = 17, and people with a history chose two items
    # the first: 3 * (4 / (8 - 4 + 1) + 1 / (1 + 1)) * (17 - 1 + 1) = 66.3; the last: 3 * (0 + 1 / (2 + 1)) * (17 - 16 + 1) = 2
    assert weighing([4, 4, 0], [1, 0, 16]) == pytest.approx([1, 0, 2])
    assert weighing([4, 4, 0], [1, 0, 16_000]) == pytest.approx([1, 0, 2])


def test_a_thousand_newcomers_count_as_an_average_item_until_people_with_a_history_agree():
    old, new = np.full(200, 50.0), np.full(200, 10.0)
    old[0], new[0] = 0, 1_000  # the others are chosen by a newcomer for 5 people with a history
    assert weighing(old, new)[0] == pytest.approx(RATIO / 5 * 50, rel=0.02)
    old[0] = 400
    assert weighing(old, new)[0] == pytest.approx(RATIO / 5 * 450, rel=0.02)
    old[0] = 2_000
    assert weighing(old, new)[0] == 1_000


@given(counts, counts)
def test_nothing_is_added_and_nothing_negative(old, new):
    found = weighing(old, new)
    assert (found >= 0).all()
    assert (found <= new).all()


@given(counts, st.integers(0, 5), st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_choice_of_somebody_with_a_history_never_lowers_what_a_rush_on_the_same_item_counts(old, item, rush, more):
    agreeing, new = old.copy(), np.zeros(6)
    agreeing[item], new[item] = old[item] + more, rush
    before, after = old + weighing(old, new), agreeing + weighing(agreeing, new)
    assert after[item] >= before[item] - 1e-6 * max(1.0, before[item])


@given(hnp.arrays(np.float64, 50, elements=st.floats(0, 100)))
def test_where_nobody_has_a_history_all_counts_alike(new):
    new += 1.0  # every item is chosen
    assert weighing(np.zeros(50), new).tolist() == new.tolist()
