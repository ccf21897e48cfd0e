"""Rates of items: what shows and actions make of them, whatever the order in which they are counted."""
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from tfrec.errors import DataError, ModelError
from tfrec.models.ranking.item_rates import HALF_LIVES, ItemRates

DAY = 86_400


def counted(items: list[int], times: list[int], acted: list[list[bool]], *, n: int = 4, weights: float = 1.0) -> ItemRates:
    made = ItemRates(n, ["click", "buy"])
    made.update(items, times, np.array(acted, bool).reshape(-1, 2), looked_at=np.full(len(items), weights), slates=len(items))
    return made


def test_the_columns_of_a_hand_counted_log() -> None:
    """Item 0: 20 shows and 5 clicks in one second; item 1: 20 shows and 1 click. Of all shows 6 in 40 bring a click."""
    made = ItemRates(3, ["click"])
    click = np.zeros((40, 1), bool)
    click[[0, 1, 2, 3, 4, 20]] = True
    made.update([0] * 20 + [1] * 20, [DAY] * 40, click, looked_at=np.ones(40), slates=8)
    found = made.columns()
    mean = 6 / 40
    slow = [(5 + 20 * mean) / 40, (1 + 20 * mean) / 40]  # .2 and .1
    fast = [(5 + 20 * slow[0]) / 40, (1 + 20 * slow[1]) / 40]  # .225 and .075

    def logit(p: float) -> float:
        return float(np.log(p / (1 - p)))

    assert slow == [0.2, 0.1]
    assert fast == [0.225, 0.075]
    for item in (0, 1):
        expected = [np.log(21) / 10, logit(slow[item]) - logit(mean), np.log(21) / 10, logit(fast[item]) - logit(mean)]
        assert_allclose(found[item], expected, rtol=1e-5)
    assert_array_equal(found[2], np.zeros(4))  # never shown
    assert (made.clock, made.slates, made.width) == (DAY, 8, 4)


def test_half_of_a_show_is_left_after_a_half_life() -> None:
    fast, slow = (round(days * DAY) for days in HALF_LIVES)
    for half_life, column in ((slow, 0), (fast, 3)):
        made = counted([0], [DAY], [[True, False]])
        made.update([1], [DAY + half_life], np.zeros((1, 2), bool), looked_at=[1.0], slates=1)
        assert made.columns([0])[0, column] == pytest.approx(np.log1p(0.5) / 10, rel=1e-5)


def test_a_position_that_is_seldom_looked_at_is_less_of_a_show() -> None:
    assert counted([0], [5], [[False, False]], weights=0.25).columns([0])[0, 0] == pytest.approx(np.log1p(0.25) / 10)
    once, seldom = (counted([0] * 9, [5] * 9, [[k < 2, False] for k in range(9)], weights=w).columns([0])[0, 1] for w in (1, 0.5))
    assert once == pytest.approx(0, abs=1e-6)  # the only item is like all items
    assert seldom == pytest.approx(0, abs=1e-6)


shows = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 40 * DAY), st.booleans(), st.booleans()), max_size=30)


@given(shows, st.randoms(use_true_random=False), st.integers(0, 30))
def test_order_and_parts_make_no_difference(rows: list[tuple[int, int, bool, bool]], random: object, cut: int) -> None:
    whole = counted([r[0] for r in rows], [r[1] for r in rows], [[r[2], r[3]] for r in rows])
    mixed = list(rows)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    parts = ItemRates(4, ["click", "buy"])
    for some in (mixed[:cut], mixed[cut:], []):
        parts.update([r[0] for r in some], [r[1] for r in some], np.array([[r[2], r[3]] for r in some], bool).reshape(-1, 2),
                     looked_at=np.ones(len(some)), slates=len(some))
    assert_allclose(parts.columns(), whole.columns(), rtol=1e-5, atol=1e-6)
    assert np.isfinite(parts.columns()).all()
    assert (parts.clock, parts.slates) == (whole.clock, len(rows))
    assert_array_equal(parts.columns([2, 0, 2]), parts.columns()[[2, 0, 2]])


def test_more_of_an_action_is_a_higher_rate_and_years_of_silence_leave_numbers() -> None:
    made = counted([0] * 50 + [1] * 50, [DAY] * 100, [[k % 5 == 0 or 50 <= k < 75, False] for k in range(100)])
    assert made.columns()[1, 1] > made.columns()[0, 1]
    made.update([2], [10_000 * DAY], np.zeros((1, 2), bool), looked_at=[1.0], slates=1)
    assert np.isfinite(made.columns()).all()


def test_it_grows_and_a_copy_changes_on_its_own() -> None:
    made = counted([0, 3], [5, 6], [[True, False], [False, True]])
    before = made.columns()
    made.grow(6)
    assert_array_equal(made.columns()[:4], before)
    other = made.copy()
    other.update([5], [9], np.ones((1, 2), bool), looked_at=[1.0], slates=1)
    assert (made.slates, other.slates) == (2, 3)
    assert_array_equal(made.columns()[5], np.zeros(6))
    with pytest.raises(DataError, match="expected 6 items or more, got 5"):
        made.grow(5)


def test_what_is_saved_is_read_and_damage_is_named(tmp_path: Path) -> None:
    made, path = counted([0, 3], [5, 6], [[True, False], [False, True]]), tmp_path / "rates.npz"
    made.save(path)
    again = ItemRates.load(path)
    assert_array_equal(again.columns(), made.columns())
    assert (again.actions, again.clock, again.slates) == (("click", "buy"), 6, 2)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ModelError, match=r"rates\.npz: expected the rates of a checkpoint"):
        ItemRates.load(path)
    with path.open("wb") as file:
        np.savez(file, counts=np.full((2, 3, 4), np.nan), clock=1, slates=1, actions=np.array(["click", "buy"]))
    with pytest.raises(ModelError, match="expected finite counts"):
        ItemRates.load(path)
