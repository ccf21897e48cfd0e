"""The paired gain of one policy over another, by hand and against the truth."""
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrec.evaluation.policy_value import PolicyValue, compare_policies


def compared(reward: np.ndarray, propensity: np.ndarray, champion: np.ndarray, challenger: np.ndarray) -> PolicyValue:
    """Of slates without holes, one person a slate; actions `[n]` are slates of one item."""
    columns = [each if each.ndim == 2 else each[:, None] for each in (reward, propensity, champion, challenger)]
    return compare_policies(columns[0], columns[1], champion=columns[2], challenger=columns[3],
                            shown=np.ones(columns[0].shape, bool), users=np.arange(len(reward)))


def test_by_hand() -> None:
    # weights: champion 1 everywhere, challenger 1.5 and .5 in turn; rewards come with the first of each pair
    n = 80
    reward, challenger = np.tile([1.0, 0.0], n), np.tile([0.75, 0.25], n)
    found = compared(reward, np.full(2 * n, 0.5), np.full(2 * n, 0.5), challenger)
    assert (found.slates, found.logged) == (160, 0.5)
    assert found.gain is not None
    assert found.gain.mean == pytest.approx(0.25)  # (1.5 - 1) / 2
    assert found.gain.low > 0.2


def test_positions_add_up_and_holes_are_left_out() -> None:
    """Two positions with the gain of the first test each; of every second slate the second position is a hole."""
    n = 80
    reward, challenger = np.tile([[1.0, np.nan], [0.0, 1.0], [1.0, np.nan], [0.0, 0.0]], (n, 1)), np.full((4 * n, 2), 0.25)
    challenger[reward == 1] = 0.75
    shown = ~np.isnan(reward)
    found = compare_policies(reward, np.where(shown, 0.5, np.nan), champion=np.full((4 * n, 2), 0.5), challenger=challenger,
                             shown=shown, users=np.arange(4 * n))
    assert (found.slates, found.logged) == (4 * n, 0.75)
    assert found.gain is not None
    assert found.gain.mean == pytest.approx(0.25 + 0.25 / 2)


@given(st.floats(-5, 5), st.integers(0, 2**32 - 1))
def test_what_every_position_earns_anyway_changes_nothing(constant: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    value, logging = np.array([0.1, 0.3, 0.6]), np.array([0.4, 0.3, 0.3])
    challenger = np.array([0.3, 0.3, 0.4])
    action = rng.choice(3, (200, 4), p=logging)
    reward = (rng.random(action.shape) < value[action]).astype(float)
    found, shifted = (compared(earned, logging[action], logging[action], challenger[action]).gain
                      for earned in (reward, reward + constant))
    assert found == pytest.approx(shifted, abs=1e-9)


def test_a_challenger_that_is_the_champion_gains_nothing_for_certain() -> None:
    same = np.full(100, 0.3)
    found = compared(np.arange(100) % 2, same, same, same)
    assert found.to_dict()["gain"] == {"mean": 0, "low": 0, "high": 0}


def test_the_truth_lies_in_the_interval() -> None:
    """Three actions worth .1, .3 and .6: the champion earns .333, the challenger .42, at each of two positions."""
    rng = np.random.default_rng(0)
    value, logging = np.array([0.1, 0.3, 0.6]), np.array([0.5, 0.3, 0.2])
    champion, challenger = np.array([1, 1, 1]) / 3, np.array([0.2, 0.3, 0.5])
    truth, inside = 2 * (challenger - champion) @ value, 0
    for _ in range(60):
        action = rng.choice(3, (400, 2), p=logging)
        reward = (rng.random(action.shape) < value[action]).astype(float)
        gain = compared(reward, logging[action], champion[action], challenger[action]).gain
        assert gain is not None
        inside += gain.low <= truth <= gain.high
    assert inside >= 52  # of 57 expected


@pytest.mark.parametrize(("n", "propensity", "challenger", "reason"), [
    (0, 0.5, 0.5, "no slate was drawn"),
    (10, 0.5, 0.5, "champion: 10 rows are worth 10.0 of the judged policy's own, fewer than 30"),
    (100, 0.5, 0.01, "challenger: weights average 0.020"),
    (100, 0.0, 0.5, r"propensity\[0\] must be above 0"),
])
def test_what_the_log_cannot_tell_gets_a_reason_and_no_number(n: int, propensity: float, challenger: float, reason: str) -> None:
    found = compared(np.ones(n), np.full(n, propensity), np.full(n, propensity or 0.5), np.full(n, challenger))
    assert found.gain is None
    assert re.search(reason, found.reason), found.reason
