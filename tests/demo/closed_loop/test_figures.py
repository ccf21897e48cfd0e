"""Reward per request by round, and what retraining gained after the drift."""
import numpy as np
import pytest

from tfrec.demo.closed_loop.figures import loop_figures, over_seeds
from tfrec.demo.closed_loop.visits import Seen


def shown(value: float, best: float, people: int = 4) -> Seen:
    """One request of each person."""
    person = np.arange(people)
    nothing = np.zeros((people, 2), bool)
    return Seen(person, np.zeros((people, 2), int), nothing, np.full(people, value), np.full(people, best),
                    np.ones(people, int))


ROUNDS = {
    "static": [shown(1.0, 2.0), shown(0.5, 2.5), shown(0.4, 2.4), shown(0.2, 2.2)],
    "exploring": [shown(0.9, 2.0), shown(0.6, 2.5), shown(0.8, 2.3), shown(1.0, 2.1)],
}


def test_gain_is_a_share_of_what_the_best_slates_are_above_static() -> None:
    found = loop_figures(ROUNDS, drift=1)  # of rounds 3 and 4: no retrain that is live in round 2 knows of the drift
    assert found["gain"] == {"exploring": [pytest.approx((0.4 + 0.8) / (2.0 + 2.0))] * 3}
    assert [mean for mean, _, _ in found["reward"]["best"]] == [2.0, 2.5, 2.4, 2.2]
    assert [mean for mean, _, _ in found["reward"]["exploring"]] == [0.9, 0.6, 0.8, 1.0]
    assert (found["drift"], found["requests"]) == (1, 4)


def test_the_control_is_compared_with_its_own_static_arm() -> None:
    controls = {"control_static": [shown(0.6, 2.6)] * 4, "control": [shown(0.5, 2.6)] * 4}
    gain = loop_figures(ROUNDS | controls, drift=1)["gain"]
    assert gain["control"][0] == pytest.approx(-0.05)
    assert set(gain) == {"exploring", "control"}


def test_a_loop_that_ends_with_the_drift_gained_nothing_that_can_be_said() -> None:
    assert loop_figures({arm: rounds[:2] for arm, rounds in ROUNDS.items()}, drift=1)["gain"] == {}


def test_over_seeds_the_interval_is_that_of_the_seeds() -> None:
    other = {arm: [shown(one.value[0] + 0.2, one.best[0]) for one in rounds] for arm, rounds in ROUNDS.items()}
    found = over_seeds([loop_figures(rounds, drift=1) for rounds in (ROUNDS, other)])
    assert found["seeds"] == 2
    # 1.0 and 1.2: standard deviation .1414, standard error .1
    assert found["reward"]["static"][0] == [pytest.approx(1.1), pytest.approx(1.1 - 0.196), pytest.approx(1.1 + 0.196)]
