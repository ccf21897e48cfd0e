"""The paired gain of one policy over another, by hand and against the truth."""
import numpy as np
import pytest

from tfrec.evaluation.policy_value import compare_policies


def test_by_hand() -> None:
    # weights: champion 1 everywhere, challenger 1.5 and .5 in turn; rewards come with the first of each pair
    n = 80
    reward, challenger = np.tile([1.0, 0.0], n), np.tile([0.75, 0.25], n)
    found = compare_policies(reward, np.full(2 * n, 0.5), champion=np.full(2 * n, 0.5), challenger=challenger,
                             users=np.arange(2 * n))
    assert (found.slates, found.logged) == (160, 0.5)
    assert found.gain is not None
    assert found.gain.mean == pytest.approx(0.25)  # (1.5 - 1) / 2
    assert found.gain.low > 0.2


def test_a_challenger_that_is_the_champion_gains_nothing_for_certain() -> None:
    same = np.full(100, 0.3)
    found = compare_policies(np.arange(100) % 2, np.full(100, 0.3), champion=same, challenger=same, users=np.arange(100))
    assert found.to_dict()["gain"] == {"mean": 0, "low": 0, "high": 0}


def test_the_truth_lies_in_the_interval() -> None:
    """Three actions worth .1, .3 and .6: the champion earns .333, the challenger .42."""
    rng = np.random.default_rng(0)
    value, logging = np.array([0.1, 0.3, 0.6]), np.array([0.5, 0.3, 0.2])
    champion, challenger = np.array([1, 1, 1]) / 3, np.array([0.2, 0.3, 0.5])
    truth, inside = (challenger - champion) @ value, 0
    for _ in range(60):
        action = rng.choice(3, 800, p=logging)
        reward = (rng.random(800) < value[action]).astype(float)
        gain = compare_policies(reward, logging[action], champion=champion[action], challenger=challenger[action],
                                users=np.arange(800)).gain
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
    import re
    found = compare_policies(np.ones(n), np.full(n, propensity), champion=np.full(n, propensity or 0.5),
                             challenger=np.full(n, challenger), users=np.arange(n))
    assert found.gain is None
    assert re.search(reason, found.reason), found.reason
