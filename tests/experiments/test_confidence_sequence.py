"""Intervals that hold at every look: by hand, by symmetry, and on simulated streams that are looked at after each request."""
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.experiments.streams import Stream, arms_after_each_request, stream
from tfrec.experiments.confidence_sequence import LEAST, Estimate, arm_mean, difference, radius
from tfrec.experiments.user_moments import FloatArray, user_moments, user_rows

LEVEL = 0.05
STREAMS = 60


def arm(requests: list[float], reward: list[float], past_requests: list[float] | None = None,
        past_reward: list[float] | None = None) -> FloatArray:
    return user_moments(user_rows(requests, reward, past_requests, past_reward))


def many(seed: int, n: int = 400, lift: float = 0.0) -> FloatArray:
    """The moments of users whose past says much about them."""
    rng = np.random.default_rng(seed)
    rate = rng.gamma(2.0, size=n)
    before, after = rng.integers(0, 5, n), rng.integers(1, 5, n)
    return user_moments(user_rows(after, rng.poisson(rate * after * (1 + lift)) + 0.1, before, rng.poisson(rate * before),
                                  usual=2.0))


def test_the_radius_worked_out_by_hand() -> None:
    # s = t = 1: sqrt(1 * 2 / 1 * log(2 / 0.0025)) = sqrt(2 * 6.684612)
    assert radius(1.0, scale=1.0, level=0.05) == pytest.approx(3.656395, abs=1e-6)
    # s = 1, t = 2: sqrt(5 / 4 * log(5 / 0.01)) = sqrt(1.25 * 6.214608)
    assert radius(1.0, scale=2.0, level=0.1) == pytest.approx(2.787160, abs=1e-6)


def test_the_mean_and_the_error_of_users_worked_out_by_hand() -> None:
    # 4 requests earn 2, so 1/2 each; left over are 1 - 1/2 and 1 - 3/2; variance 2/1 * (1/4 + 1/4) / 4^2 = 1/16
    found = arm_mean(arm([1, 3], [1, 1]), level=LEVEL, effect=0.1)
    assert (found.mean, found.error) == (0.5, 0.25)
    other = difference(arm([1, 3], [1, 1]), arm([2, 2], [2, 4]), level=LEVEL, effect=0.1, past=False)
    # the other arm: 6 / 4; left over 2 - 3 and 4 - 3; variance 2 * 2 / 16 = 1/4
    assert (other.mean, other.error) == (1.0, pytest.approx((1 / 16 + 1 / 4) ** 0.5))
    assert np.isnan([other.low, other.high]).all()  # two users are no reason to decide


def test_an_interval_waits_for_rewarded_users_of_both_arms() -> None:
    def paid(n: int) -> FloatArray:
        return arm([1.0] * 200, [1.0] * n + [0.0] * (200 - n))

    for first, second, there in ((LEAST, LEAST, True), (LEAST - 1, LEAST, False), (LEAST, LEAST - 1, False)):
        found = difference(paid(first), paid(second), level=LEVEL, effect=0.1)
        assert np.isfinite([found.low, found.high]).all() == there


@pytest.mark.parametrize("empty", [np.zeros((6, 6)), user_moments(np.zeros((0, 6))), arm([1], [0])])
def test_an_arm_without_users_or_with_one_has_no_interval(empty: FloatArray) -> None:
    for one, other in ((empty, many(0)), (many(0), empty), (empty, empty)):
        with np.errstate(all="raise"):
            found = difference(one, other, level=LEVEL, effect=0.1)
        assert np.isnan([found.low, found.high]).all()


def test_a_swap_of_the_arms_turns_the_interval_round() -> None:
    there, back = (difference(*pair, level=LEVEL, effect=0.1) for pair in ((many(0), many(1)), (many(1), many(0))))
    np.testing.assert_allclose([there.mean, there.low, there.high], [-back.mean, -back.high, -back.low], rtol=1e-12)


@given(st.permutations(range(8)), st.floats(0.1, 1000))
def test_the_order_of_users_and_the_unit_of_rewards_do_not_matter(order: list[int], unit: float) -> None:
    rng = np.random.default_rng(0)
    requests, reward = rng.integers(1, 5, 800), rng.random(800)
    before, earned = rng.integers(0, 3, 800), rng.random(800)
    blocks = np.concatenate([np.arange(800).reshape(8, 100)[part] for part in order])

    def found(rows: np.ndarray, unit: float) -> Estimate:
        moments = user_moments(user_rows(requests[rows], reward[rows] * unit, before[rows], (before * earned)[rows] * unit,
                                         usual=0.5 * unit))
        return difference(moments, many(1) * np.outer(*[[1, 1, unit, unit, 1, 1]] * 2), level=LEVEL, effect=0.1)

    np.testing.assert_allclose(found(blocks, unit), np.array(found(np.arange(800), 1.0)) * unit, rtol=1e-7, atol=1e-9 * unit)


def test_a_past_that_says_nothing_changes_nothing_and_one_that_says_all_leaves_no_error() -> None:
    rng = np.random.default_rng(0)
    reward = rng.random((2, 500))
    nothing = [arm([1.0] * 500, list(one), [2.0] * 500, [0.0] * 500) for one in reward]
    plain, with_it = (difference(*nothing, level=LEVEL, effect=0.1, past=past) for past in (False, True))
    np.testing.assert_allclose(plain, with_it, rtol=0.01)
    everything = [arm([1.0] * 500, list(one), [1.0] * 500, list(one - 0.5)) for one in reward]
    found = difference(*everything, level=LEVEL, effect=0.1)
    assert abs(found.mean) < 1e-9
    assert found.error < 1e-6


def test_the_past_never_changes_what_is_estimated() -> None:
    """Over many experiments the mean is the same with and without it, and the error is smaller, as it says of itself."""
    pairs = [(many(2 * seed), many(2 * seed + 1, lift=0.2)) for seed in range(300)]
    plain, with_it = (difference(*(np.array(one) for one in zip(*pairs, strict=True)), level=LEVEL, effect=0.1, past=past)
                      for past in (False, True))
    moved = with_it.mean - plain.mean
    assert abs(moved.mean()) < 3 * moved.std() / 300**0.5
    assert plain.mean.mean() == pytest.approx(0.4, abs=3 * plain.mean.std() / 300**0.5)  # 20% of 2
    for found in (plain, with_it):
        assert found.error.mean() == pytest.approx(found.mean.std(), rel=0.12)  # three deviations of 300 draws
    assert with_it.mean.std() < 0.85 * plain.mean.std()


def arms(kind: dict[str, float], lift: float = 0.0) -> Iterator[tuple[Stream, FloatArray, FloatArray]]:
    """Streams, and the moments of both arms after each request."""
    for seed in range(STREAMS):
        one = stream(np.random.default_rng(seed), lift=lift, **kind)  # type: ignore[arg-type]
        yield one, *arms_after_each_request(one)


def found_of(plain: FloatArray, changed: FloatArray) -> Estimate:
    return difference(plain, changed, level=LEVEL, effect=0.3, least=30)


def ever_wrong(found: Estimate, truth: float = 0.0) -> bool:
    return bool(((found.low > truth) | (found.high < truth)).any())


ALLOWED = LEVEL + 2 * (LEVEL * (1 - LEVEL) / STREAMS) ** 0.5  # two deviations of so many streams
USUAL = {"requests": 4000, "users": 1500, "mean": 0.3}
SKEWED = {"requests": 4000, "users": 3000, "mean": 0.3, "share": 0.2, "value_spread": 1.5}
UNLIKE = {"requests": 5000, "users": 200, "mean": 0.2, "likeness": 2.0, "newcomers": 1.0}


@pytest.mark.parametrize("kind", [USUAL, SKEWED])
def test_looking_after_each_request_raises_no_more_false_alarms_than_stated(kind: dict[str, float]) -> None:
    here, ordinary = 0.0, 0.0
    for _, plain, changed in arms(kind):
        found = found_of(plain, changed)
        here += ever_wrong(found) / STREAMS
        ordinary += bool((abs(found.mean) > 1.96 * found.error)[np.isfinite(found.low)].any()) / STREAMS
    assert here <= ALLOWED
    assert ordinary > 3 * ALLOWED / 2  # which is why an ordinary interval must not be looked at twice


def test_users_are_the_unit_as_requests_of_one_user_are_alike() -> None:
    here, by_request = 0.0, 0.0
    for one, plain, changed in arms(UNLIKE):
        here += ever_wrong(found_of(plain, changed)) / STREAMS
        nothing = np.zeros(len(one.user))  # who takes requests for independent sees a user in each
        as_users = Stream(np.arange(len(one.user)), one.reward, one.arm[one.user], nothing, nothing)
        by_request += ever_wrong(found_of(*arms_after_each_request(as_users))) / STREAMS
    assert here <= ALLOWED
    assert by_request > 2 * ALLOWED


def test_the_interval_holds_the_true_difference_at_every_look() -> None:
    wrong = [ever_wrong(found_of(plain, changed), 0.4 * plain[-1, 0, 2] / plain[-1, 0, 1])
             for _, plain, changed in arms(USUAL, lift=0.4)]
    assert np.mean(wrong) <= ALLOWED
