"""The pair accuracy by hand, its laws, and what a simulation knows."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tfrec.evaluation.pair_accuracy import LEAST, POSITIONS, PairAccuracy, balanced_pairs, compare_accuracy


def compared(reward: np.ndarray, champion: np.ndarray, challenger: np.ndarray, shown: np.ndarray | None = None) -> PairAccuracy:
    whole = np.ones(reward.shape, bool) if shown is None else shown
    return compare_accuracy(reward, whole, champion=champion, challenger=challenger, users=np.arange(len(reward)))


def test_by_hand() -> None:
    """Of 40 slates of two, 30 chose the upper item and 10 the lower: both kinds count the same."""
    reward = np.array([[1.0, 0.0]] * 30 + [[0.0, 1.0]] * 10)
    down = np.tile([2.0, 1.0], (40, 1))
    mixed = np.array([[2.0, 1.0]] * 15 + [[1.0, 2.0]] * 15 + [[1.0, 2.0]] * 8 + [[1.0, 1.0]] * 2)
    found = compared(reward, down, mixed)
    assert (found.slates, found.champion) == (40, 0.5)
    assert found.challenger == pytest.approx((15 / 30 + 9 / 10) / 2)  # equal scores are half right
    assert found.gap is not None
    assert found.gap.mean == pytest.approx(0.2)
    assert found.gap.low < 0.2 < found.gap.high
    assert found.to_dict()["gap"]["mean"] == found.gap.mean


def test_positions_that_are_known_better_count_more() -> None:
    """First against second: 20 and 20 pairs, weight 10. First against third: 10 and 10, weight 5."""
    reward = np.array([[1, 0, 0]] * 20 + [[0, 1, 0]] * 20 + [[1, 0, 0]] * 10 + [[0, 0, 1]] * 10, float)
    shown = np.array([[1, 1, 0]] * 40 + [[1, 0, 1]] * 20, bool)
    right_on_the_first = np.array([[1, 0, 0]] * 20 + [[0, 1, 0]] * 20 + [[0, 0, 0]] * 20, float)
    found = compared(reward, np.zeros((60, 3)), right_on_the_first, shown)
    assert found.challenger == pytest.approx((10 * 1 + 5 * 0.5) / 15)
    assert found.champion == 0.5


@given(arrays(np.float64, (60, 4), elements=st.sampled_from([-1.0, 0.0, 0.5, 1.0])), arrays(np.bool_, (60, 4)),
       st.permutations(range(4)))
def test_the_position_alone_knows_nothing(reward: np.ndarray, shown: np.ndarray, order: list[int]) -> None:
    by_position = np.tile(np.array(order, float), (60, 1))
    found = compared(reward, by_position, reward, shown)
    assert found.champion == pytest.approx(0.5)
    if found.gap is not None:
        assert found.challenger == pytest.approx(1.0)  # the truth is always right


@given(arrays(np.float64, (50, 3), elements=st.sampled_from([0.0, 1.0])), st.integers(0, 2**32 - 1))
def test_only_the_order_of_scores_counts_and_the_gap_is_odd(reward: np.ndarray, seed: int) -> None:
    ours, theirs = np.random.default_rng(seed).normal(size=(2, 50, 3))
    found, bent, turned = (compared(reward, *scores) for scores in (
        (theirs, ours), (theirs * 3 + 100, np.exp(ours)), (ours, theirs)))
    assert found == bent
    assert (found.champion, found.challenger) == (turned.challenger, turned.champion)
    if found.gap is not None and turned.gap is not None:
        assert found.gap.mean == pytest.approx(-turned.gap.mean)


@pytest.mark.parametrize("reward", [np.zeros((0, 5)), np.zeros((99, 0)), np.zeros((99, 5)), np.ones((99, 1)), np.ones((99, 5)),
                                    np.tile([1.0, 0.0], (99, 1)), np.eye(2)[np.arange(LEAST - 1) % 2]])
def test_slates_without_two_directions_tell_nothing(reward: np.ndarray) -> None:
    found = compared(reward, np.zeros(reward.shape), np.ones(reward.shape))
    assert (found.gap, found.champion, found.challenger) == (None, 0.5, 0.5)
    assert found.slates < LEAST


def test_long_slates_are_cut_and_holes_left_out() -> None:
    reward = np.zeros((2, POSITIONS + 30))
    reward[0, 1], reward[1, 0], reward[:, POSITIONS:] = 1, 1, 5
    shown = np.ones(reward.shape, bool)
    shown[:, 2:] = False
    assert len(balanced_pairs(reward, shown).row) == 2
    assert balanced_pairs(reward, np.ones(reward.shape, bool)).better.max() < POSITIONS


def test_who_knows_more_is_found_whoever_chose_the_order() -> None:
    """People like items by a truth and look at the upper positions more. The champion, which knows half, chose the slates."""
    rng = np.random.default_rng(3)
    n, k = 4_000, 6
    truth = rng.normal(size=(n, 30))
    champion, better = truth + rng.normal(size=truth.shape), truth + 0.3 * rng.normal(size=truth.shape)
    listed = np.argsort(-champion, axis=1)[:, :k]
    like, theirs, ours = (np.take_along_axis(each, listed, axis=1) for each in (truth, champion, better))
    looked = rng.random((n, k)) < 1 / (1 + np.arange(k))
    reward = (looked & (rng.random((n, k)) < 1 / (1 + np.exp(-like)))).astype(float)
    found = compared(reward, theirs, ours)
    assert found.champion == pytest.approx(0.5)  # its order is the positions'
    assert found.gap is not None
    assert found.gap.low > 0.03
    worse = compared(reward, theirs, theirs + rng.normal(size=theirs.shape)).gap
    assert worse is not None
    assert abs(worse.mean) < 0.02  # noise on the champion's own order is neither right nor wrong
    opposed = compared(reward, theirs, -like).gap
    assert opposed is not None
    assert opposed.high < 0
