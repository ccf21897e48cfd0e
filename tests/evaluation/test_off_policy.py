"""The estimators on values worked by hand, where the truth is known, and on logs that cannot be used."""
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from tfrec.errors import DataError
from tfrec.evaluation.intervals import UserBootstrap
from tfrec.evaluation.off_policy import (
    ESTIMATORS,
    Logged,
    diagnose,
    direct,
    doubly_robust,
    estimate,
    ips,
    self_normalised_doubly_robust,
    snips,
)

# weights 2, .5, 0, 1
HAND = Logged(reward=[1.0, 3.0, 5.0, 2.0], propensity=[0.25, 0.5, 0.2, 1.0], target=[0.5, 0.25, 0.0, 1.0],
              expected=[0.5, 2.0, 4.0, 2.0], value=[1.0, 1.5, 2.0, 2.5])


def test_each_estimator_by_hand() -> None:
    found = {name: estimate(terms(HAND)).mean for name, terms in ESTIMATORS.items()}
    assert found == pytest.approx({
        "IPS": (2 * 1 + 0.5 * 3 + 0 + 2) / 4,
        "SNIPS": (2 * 1 + 0.5 * 3 + 0 + 2) / 3.5,
        "DM": (1 + 1.5 + 2 + 2.5) / 4,
        "DR": (1 + 1.5 + 2 + 2.5) / 4 + (2 * 0.5 + 0.5 * 1 + 0 + 0) / 4,
        "SNDR": (1 + 1.5 + 2 + 2.5) / 4 + (2 * 0.5 + 0.5 * 1 + 0 + 0) / 3.5,
    })


def test_they_are_those_of_open_bandit_pipeline() -> None:
    """Whose outputs on a small case are kept with how they were made."""
    case = json.loads((Path(__file__).parent / "reference" / "off_policy.json").read_text())
    found = {name: estimate(terms(Logged(**case["inputs"]))).mean for name, terms in ESTIMATORS.items()}
    assert found == pytest.approx(case["outputs"], rel=1e-12)


def test_slates_weigh_a_position_by_those_before_it() -> None:
    slates = Logged(reward=[[1.0, 2.0], [0.0, 4.0]], propensity=[[0.5, 0.5], [0.5, 0.25]], target=[[1.0, 0.25], [0.25, 0.5]])
    # weights 2 and 2 * .5; .5 and .5 * 2
    assert ips(slates).plain.tolist() == [2 * 1 + 1 * 2, 0 + 1 * 4]
    with pytest.raises(DataError, match=r"SNIPS is for single actions, got slates of shape \(2, 2\)"):
        snips(slates)


def test_the_policy_that_logged_has_the_mean_reward() -> None:
    same = Logged(reward=HAND.reward, propensity=HAND.propensity, target=HAND.propensity, expected=HAND.expected,
                  value=HAND.expected)
    for name in ("IPS", "SNIPS", "DR", "SNDR"):
        assert estimate(ESTIMATORS[name](same)).mean == pytest.approx(HAND.reward.mean())


@given(st.floats(-5, 5), st.integers(0, 50))
def test_a_reward_that_is_shifted_shifts_the_self_normalised_value(shift: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    reward, target = rng.normal(size=20), rng.uniform(0.1, 1, 20)
    plain, moved = (estimate(snips(Logged(reward=r, propensity=np.full(20, 0.5), target=target))).mean
                    for r in (reward, reward + shift))
    assert moved == pytest.approx(plain + shift, abs=1e-9)


class World:
    """Five actions, three kinds of context, rewards of 0 or 1: everything about it is known."""

    def __init__(self) -> None:
        rng = np.random.default_rng(8)
        self.chance = rng.uniform(0.05, 0.95, (3, 5))
        self.logging, self.judged = (rng.dirichlet(np.ones(5) * 2, 3) * 0.9 + 0.02 for _ in range(2))
        self.truth = float((self.judged * self.chance).sum(axis=1).mean())
        self.guess = np.clip(self.chance + rng.normal(0, 0.2, (3, 5)), 0, 1)  # of a model of rewards that errs

    def log(self, n: int, rng: np.random.Generator) -> Logged:
        context = rng.integers(3, size=n)
        action = (rng.random(n)[:, None] > self.logging[context].cumsum(axis=1)).sum(axis=1)
        return Logged(
            reward=rng.random(n) < self.chance[context, action], propensity=self.logging[context, action],
            target=self.judged[context, action], expected=self.guess[context, action],
            value=(self.judged * self.guess).sum(axis=1)[context],
        )


WORLD = World()


def test_all_but_the_wrong_model_find_the_truth() -> None:
    logged = WORLD.log(200_000, np.random.default_rng(1))
    found = {name: estimate(terms(logged), redraws=2).mean for name, terms in ESTIMATORS.items()}
    assert_allclose([found[name] for name in ("IPS", "SNIPS", "DR", "SNDR")], WORLD.truth, atol=0.008)
    assert abs(found["DM"] - WORLD.truth) > 0.02


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    simulations, n = 1000, 400
    rng, redraws = np.random.default_rng(2), UserBootstrap(np.arange(n))
    inside = {"SNIPS": 0, "DR": 0}
    for _ in range(simulations):
        logged = WORLD.log(n, rng)
        found = {"SNIPS": redraws.ratio(*snips(logged)), "DR": redraws.ratio(*doubly_robust(logged))}
        for name, interval in found.items():
            inside[name] += interval.low <= WORLD.truth <= interval.high
    assert 930 <= inside["SNIPS"] <= 970
    assert 930 <= inside["DR"] <= 970


def test_people_are_redrawn_and_not_rows() -> None:
    rng = np.random.default_rng(3)
    taste = np.repeat(rng.random(40), 25)
    logged = Logged(reward=taste, propensity=np.ones(1000), target=np.ones(1000))
    rows, people = (estimate(ips(logged), users=users) for users in (None, np.repeat(np.arange(40), 25)))
    assert people.high - people.low > 3 * (rows.high - rows.low)


def test_the_effective_sample_by_hand() -> None:
    found = diagnose(HAND)
    assert (found.rows, found.mean_weight, found.largest_weight) == (4, 3.5 / 4, 2.0)
    assert found.effective == pytest.approx(3.5**2 / (4 + 0.25 + 1))
    assert found.refusal is not None
    assert "4 rows are worth 2.3 of the judged policy's own, fewer than 30" in found.refusal


def test_a_policy_that_goes_where_the_log_never_went_gets_no_number() -> None:
    n = 4000
    half = Logged(reward=np.ones(n), propensity=np.ones(n), target=np.full(n, 0.5))  # logged greedily, judged half elsewhere
    assert "it goes where the logging policy never or hardly ever went" in str(diagnose(half).refusal)
    wrong = Logged(reward=np.ones(n), propensity=np.full(n, 0.25), target=np.full(n, 0.5))
    assert "the logged propensities are too small" in str(diagnose(wrong).refusal)
    assert diagnose(WORLD.log(n, np.random.default_rng(4))).refusal is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"propensity": [0.5, 0.0]}, r"propensity\[1\] must be above 0 and at most 1, got 0 \(1 of 2 are not\)"),
        ({"propensity": [1.5, 0.2]}, r"propensity\[0\] must be above 0 and at most 1, got 1.5"),
        ({"propensity": [float("nan"), None]}, r"propensity\[0\] .* got nan \(2 of 2 are not\)\. Rows without one cannot be"),
        ({"target": [0.5, -0.1]}, r"target\[1\] must be from 0 to 1, got -0.1"),
        ({"reward": [float("inf"), 1.0]}, r"reward\[0\] must be a finite number, got inf"),
        ({"value": [0.0]}, r"expected rows, and arrays of one shape, got reward \(2,\) and \{'value': \(1,\)\}"),
        ({"reward": [], "propensity": [], "target": []}, "expected rows"),
    ],
)
def test_what_cannot_be_used_is_named(change: dict[str, list[float]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Logged(**{"reward": [1.0, 0.0], "propensity": [0.5, 0.5], "target": [0.5, 0.5]} | change)


def test_a_model_of_rewards_must_be_there() -> None:
    bare = Logged(reward=[1.0], propensity=[0.5], target=[0.5])
    for terms in (direct, doubly_robust, self_normalised_doubly_robust):
        with pytest.raises(DataError, match="needs a model of rewards"):
            terms(bare)
