"""Changes and their intervals: by hand, and laws."""
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrec.monitors.estimates import GROUPS, MonitorFinding, compared, difference, jackknife, psi, ratio_change, unknown, worst


def test_a_relative_change_by_hand():
    assert ratio_change(np.array([3.0, 10.0]), np.array([20.0, 100.0])) == pytest.approx(0.5)  # .3 after .2
    assert ratio_change(np.array([-3.0, 10.0]), np.array([-20.0, 100.0])) == pytest.approx(-0.5)  # of a reward below 0
    assert ratio_change(np.array([3.0, 10.0]), np.array([0.0, 100.0])) == 0  # of nothing there is no change
    assert difference(np.array([3.0, 10.0]), np.array([20.0, 100.0])) == pytest.approx(0.1)


def test_psi_by_hand():
    """Shares of .5 and .5 after .25 and .75: .25 ln 2 - .25 ln(2/3) = .25 ln 3; half a count is added to each."""
    assert psi(np.array([9.5, 9.5]), np.array([4.5, 14.5])) == pytest.approx(0.25 * math.log(3))


def test_the_jackknife_of_a_mean_is_its_textbook_error():
    """The delete-one jackknife of a mean has the variance s2 / n."""
    values = np.array([1.0, 4.0, 4.0, 7.0])
    sums = np.stack([values, np.ones(4)], axis=1)
    found, error = jackknife(difference, sums, np.zeros_like(sums))
    assert (found, error) == (pytest.approx(4.0), pytest.approx(math.sqrt(values.var(ddof=1) / 4)))


def test_one_person_says_nothing_of_others():
    found, error = jackknife(difference, np.array([[3.0, 4.0], [0.0, 0.0]]), np.zeros((2, 2)))
    assert (found, error) == (0.75, math.inf)


def test_the_index_of_the_same_people_is_not_large_by_chance():
    """A plain index of 8 categories and 200 events is .04 on average; without its bias it is about 0."""
    rng, plain, corrected = np.random.default_rng(0), [], []
    for _ in range(200):
        newest, earlier = (rng.multinomial(200 // GROUPS, np.full(8, 1 / 8), GROUPS).astype(float) for _ in range(2))
        plain.append(psi(newest.sum(axis=0), earlier.sum(axis=0)))
        corrected.append(jackknife(psi, newest, earlier)[0])
    assert np.mean(plain) > 0.05
    assert abs(np.mean(corrected)) < np.mean(plain) / 5


def sums_of(means: list[float], *, n: int = 20, noise: float = 0.1) -> np.ndarray:
    """[GROUPS, windows, 2]: each group has n requests in each window, with these means."""
    rng = np.random.default_rng(1)
    reward = n * np.array(means) + rng.normal(0, noise * n, (GROUPS, len(means)))
    return np.stack([reward, np.full_like(reward, n)], axis=-1)


def changed(means: list[float], **named):
    sums = sums_of(means)
    given = {"counts": sums[..., 1].sum(axis=0), "least": 100, "margin": 0.2, "level": 0.01} | named
    return compared(ratio_change, sums, **given)


def test_an_alarm_needs_more_than_the_margin():
    found = changed([1.0] * 7 + [1.5])
    assert (found.state, found.value, found.usual) == ("alarm", pytest.approx(1.5, abs=0.05), pytest.approx(1.0, abs=0.05))
    assert 0.2 < found.low < found.change < found.high
    assert changed([1.0] * 7 + [1.15]).state == "ok"


def test_a_side_that_does_not_matter_raises_none():
    assert changed([1.0] * 7 + [1.5], side="fall").state == "ok"
    assert changed([1.0] * 7 + [0.5], side="fall").state == "alarm"


def test_weekends_are_usual_and_one_bad_day_is_not():
    week = [1.0, 1.0, 1.5, 1.5, 1.0, 1.0, 1.0]
    assert changed([*week, 1.5]).state == "ok"
    assert changed([1.0, 1.0, 1.5, 1.0, 1.0, 1.0, 1.0, 1.5]).state == "alarm"


def test_too_little_is_unknown_and_says_what_is_needed():
    sums = sums_of([1.0] * 8)
    counts = np.array([0, 0, 0, 0, 0, 900.0, 900, 900])
    found = compared(ratio_change, sums, counts=counts, least=500, margin=0.2, level=0.01, of="reward")
    assert (found.state, found.change) == ("unknown", None)
    assert found.why == ("reward: needs 500 requests in the newest window and in three before it, has 900, and 2 such windows "
                         "before it")
    assert compared(ratio_change, sums, counts=counts[::-1], least=500, margin=0.2, level=0.01).state == "unknown"


@given(st.lists(st.floats(0.1, 5), min_size=5, max_size=9), st.floats(0.01, 100))
def test_another_unit_changes_nothing(means, unit):
    one, other = changed(means), compared(
        ratio_change, sums_of(means) * [unit, 1.0], counts=np.full(len(means), 1280.0), least=100, margin=0.2, level=0.01)
    assert one.state == other.state
    assert one.change == pytest.approx(other.change, rel=1e-6, abs=1e-9)


def test_an_alarm_speaks_for_all():
    quiet, loud = MonitorFinding("ok", "a", change=0.9, bound=1.0), MonitorFinding("alarm", "b", change=0.3, bound=0.2)
    assert worst([unknown("x"), quiet, loud], none="n") == loud
    assert worst([unknown("x"), quiet], none="n") == quiet
    assert worst([unknown("x")], none="n") == unknown("x")
    assert worst([], none="n") == unknown("n")


def test_figures_are_rounded_for_json():
    assert MonitorFinding("ok", "w", value=0.123456).rounded() == {
        "state": "ok", "why": "w", "value": 0.1235, "usual": None, "change": None, "low": None, "high": None, "bound": None}
    assert MonitorFinding("ok", high=math.inf).rounded()["high"] is None
