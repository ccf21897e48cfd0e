"""The bootstrap over users."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrec.evaluation.intervals import UserBootstrap


def test_equals_weights_drawn_one_at_a_time() -> None:
    users, values = np.array([7, 7, 2, 9, 2, 7]), np.array([1.0, 0, 0, 1, 1, 0.5])
    codes, rng = np.array([0, 0, 1, 2, 1, 0]), np.random.default_rng(0)
    means = [np.average(values, weights=np.bincount(rng.integers(0, 3, 3), minlength=3)[codes]) for _ in range(300)]
    found = UserBootstrap(users).interval(values)
    assert found is not None
    np.testing.assert_allclose(found, [values.mean(), *np.percentile(means, [2.5, 97.5])], rtol=0, atol=1e-12)


def test_one_user_has_no_spread() -> None:
    assert UserBootstrap([5, 5, 5, 5]).interval([1, 0, 0, 0]) == (0.25, 0.25, 0.25)


def test_a_slice_reads_only_its_events_and_none_gives_none() -> None:
    bootstrap = UserBootstrap(["a", "b", "c", "a"])
    assert bootstrap.interval([1, 0, 0, 1], where=[True, False, False, True]) == (1, 1, 1)
    assert bootstrap.interval([1, 0, 0, 1], where=[False] * 4) is None
    assert UserBootstrap([]).interval([]) is None


def test_refuses_values_of_other_events() -> None:
    with pytest.raises(ValueError, match="expected 2 values, one an event, got 3"):
        UserBootstrap([1, 2]).interval([1, 2, 3])


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20))
def test_a_difference_is_antisymmetric_and_holds_between_its_ends(rows: list[tuple[int, float, float]]) -> None:
    users, ours, theirs = (np.array(column) for column in zip(*rows, strict=True))
    bootstrap = UserBootstrap(users, redraws=50)
    there, back = bootstrap.difference(ours, theirs), bootstrap.difference(theirs, ours)
    assert there is not None
    assert back is not None
    np.testing.assert_allclose([there.mean, there.low, there.high], [-back.mean, -back.high, -back.low], atol=1e-12)
    assert there.low <= there.high


def test_fewer_users_than_the_least_have_a_mean_and_no_bounds() -> None:
    bootstrap = UserBootstrap([1, 1, 2, 3], least=3)
    mean, low, high = bootstrap.interval([1, 0, 0, 0], where=[True, True, True, False])
    assert (mean, np.isnan([low, high]).all()) == (pytest.approx(1 / 3), True)
    assert not np.isnan(bootstrap.interval([1, 0, 0, 0])).any()
