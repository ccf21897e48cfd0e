"""The check of shares: by hand, by symmetry, and under looks after each user."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrec.experiments.sample_ratio import log_bayes_factor, sample_ratio_p

LEVEL = 0.01


def counts(rng: np.random.Generator, shares: list[float], *, streams: int, users: int) -> np.ndarray:
    """`[streams, users, arms]`: how many came to each arm after each user."""
    came = rng.choice(len(shares), (streams, users), p=shares)
    return np.cumsum(came[..., None] == np.arange(len(shares)), axis=1)


def test_the_factor_worked_out_by_hand() -> None:
    # a prior of 2 users on two equal shares is uniform: n of one kind have probability 1 / (n + 1), against 1 / 2^n
    for n in range(6):
        assert log_bayes_factor([n, 0], [0.5, 0.5], prior=2) == pytest.approx(np.log(2**n / (n + 1)))
    assert log_bayes_factor([1, 1], [1, 1], prior=2) == pytest.approx(np.log(4 / 6))


@given(st.lists(st.tuples(st.integers(0, 10_000), st.floats(0.01, 1)), min_size=2, max_size=5), st.randoms())
def test_the_order_of_arms_and_the_sum_of_shares_do_not_matter(arms: list[tuple[int, float]], random: object) -> None:
    users, shares = (np.array(column, float) for column in zip(*arms, strict=True))
    order = np.random.default_rng(0).permutation(len(arms))
    here = log_bayes_factor(users, shares)
    assert log_bayes_factor(users[order], shares[order] / 7) == pytest.approx(here, rel=1e-6, abs=1e-6)
    assert 0 <= sample_ratio_p(users, shares) <= 1


def test_nobody_is_no_evidence() -> None:
    assert sample_ratio_p([0, 0], [0.9, 0.1]) == 1


@pytest.mark.parametrize("shares", [[0.5, 0.5], [0.95, 0.05], [0.2, 0.3, 0.5]])
def test_looking_after_each_user_raises_no_more_false_alarms_than_stated(shares: list[float]) -> None:
    seen = counts(np.random.default_rng(0), shares, streams=300, users=1500)
    alarms = (sample_ratio_p(seen, shares) < LEVEL).any(axis=1).mean()
    assert alarms <= LEVEL + 2 * (LEVEL * (1 - LEVEL) / 300) ** 0.5


def test_one_user_of_ten_who_is_lost_in_one_arm_is_noticed() -> None:
    seen = counts(np.random.default_rng(0), [1 / 1.9, 0.9 / 1.9], streams=50, users=20_000)
    assert (sample_ratio_p(seen[:, -1], [0.5, 0.5]) < LEVEL).all()
