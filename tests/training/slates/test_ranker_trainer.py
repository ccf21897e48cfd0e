"""Training of the second stage: it learns which items bring which action, and neither reads ahead nor learns a slate twice."""
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from tests.eagerly import eagerly
from tests.models.world import ITEMS, LIKED, LOG_P, config, recommender, slates
from tfrec.config import RankerConfig
from tfrec.data.examples.slate_arrays import SlateArrays
from tfrec.models.ranking.item_rates import ItemRates
from tfrec.models.recommender import Recommender
from tfrec.training.slates.policy_scorer import PolicyScorer
from tfrec.training.slates.ranker_trainer import rates_before, teach_ranker

HEADS = RankerConfig(heads={"click": 1.0, "buy": 2.0}, after={"buy": "click"}, min_slates=50, epochs=3, learning_rate=0.01)
EVEN = np.ones(12, np.float32)


def model(tmp_path: Path, **changed: Any) -> Recommender:
    """Untrained towers, so that only the second stage can tell items apart."""
    return recommender(config(tmp_path).model_copy(update={"ranker": HEADS.model_copy(update=changed)}), n=ITEMS)


def acting(n: int = 120, **changed: Any) -> SlateArrays:
    """Whatever is liked is clicked, and items 0 and 1 are bought."""
    found = slates(n, **changed)
    return replace(found, time=found.time + 60, head_weights=np.full((n, 2), np.nan, np.float32),
                   acted=np.stack([(found.item < LIKED) & found.shown, (found.item < 2) & found.shown], axis=-1))


@eagerly()
def test_it_learns_which_items_bring_which_action(tmp_path: Path) -> None:
    made, shown = model(tmp_path, epochs=12), acting(240)
    scorer = PolicyScorer(made, LOG_P)
    before = scorer(shown, as_served=True)
    assert_array_equal(before.served, before.scores)  # it has learnt nothing yet
    assert teach_ranker(made, shown, scorer, seed=0) == 240
    found = scorer(shown, as_served=True)
    value = np.exp(found.served)
    for items, expected in (((shown.item >= LIKED), 0.0), ((shown.item < LIKED) & (shown.item > 1), 1.0), (shown.item < 2, 3.0)):
        assert value[items & shown.shown].mean() == pytest.approx(expected, abs=0.35)
    assert_array_equal(found.scores, before.scores)  # the towers stood still
    # as the requests named them
    buys = scorer(replace(shown, head_weights=np.full((240, 2), [0, 5], np.float32)), as_served=True)
    assert np.exp(buys.served[(shown.item < 2) & shown.shown]).mean() == pytest.approx(5, abs=0.5)
    first = scorer(replace(shown, head_weights=np.zeros((240, 2), np.float32)), as_served=True)
    assert_array_equal(first.served, found.scores)
    # the exploring policy draws what brings more
    liked = (shown.item < LIKED) & shown.shown
    assert np.exp(found.log_pi[liked]).mean() > 1.5 * np.exp(before.log_pi[liked]).mean()


@eagerly()
def test_no_slate_is_learnt_twice_and_a_run_is_a_function_of_its_inputs(tmp_path: Path) -> None:
    shown, results = acting(), []
    for _ in range(2):
        made = model(tmp_path)
        scorer = PolicyScorer(made, LOG_P)
        assert teach_ranker(made, shown.take(np.arange(60)), scorer, seed=1) == 60
        assert teach_ranker(made, shown, scorer, seed=2) == 60  # the other half
        assert teach_ranker(made, shown, scorer, seed=3) == 0
        assert made.ranker is not None
        assert (float(made.ranker.learnt.numpy()), made.rates.slates) == (120, 120)
        results.append(scorer(shown, as_served=True).served)
    assert_allclose(results[0], results[1], rtol=1e-4, atol=1e-5)


@settings(max_examples=25)
@given(st.integers(1, 150), st.integers(0, 149), st.integers(0, 500))
def test_a_slate_is_told_nothing_of_what_came_after_it(n: int, at: int, counted: int) -> None:
    def before(shown: SlateArrays) -> np.ndarray:
        rates = ItemRates(ITEMS, ["click", "buy"])
        rates.update([3], [1], np.ones((1, 2), bool), looked_at=[1.0], slates=counted)
        return rates_before(rates, shown, EVEN)

    shown, at = acting(n), at % n
    other = replace(shown, acted=np.where(np.arange(n)[:, None, None] < at, shown.acted, ~shown.acted))
    one, two = before(shown), before(other)
    assert_array_equal(one[: at + 1], two[: at + 1])
    assert (one[~shown.shown] == 0).all()


def test_many_slates_are_told_of_most_that_came_before(tmp_path: Path) -> None:
    shown, rates = acting(400), ItemRates(ITEMS, ["click", "buy"])
    found = rates_before(rates, shown, EVEN)
    assert rates.slates == 400
    late = np.arange(400)[:, None] >= 200
    liked, others = (found[shown.shown & late & which, 1] for which in (shown.item < LIKED, shown.item >= LIKED))
    assert liked.min() > 0 > others.max()


@eagerly()
@pytest.mark.parametrize("changed", [
    {"item": np.full((4, 12), -1, np.int32)},  # nothing was shown
    {"reward": np.zeros((4, 12), np.float32)},
])
def test_slates_without_items_or_without_any_outcome(tmp_path: Path, changed: dict[str, Any]) -> None:
    made = model(tmp_path)
    shown = slates(4, **changed)
    shown = replace(shown, time=shown.time + 60, acted=np.zeros((4, 12, 2), bool),
                    head_weights=np.full((4, 2), np.nan, np.float32))
    taught = teach_ranker(made, shown, PolicyScorer(made, LOG_P), seed=0)
    assert taught == (4 if shown.shown.any() else 0)
    assert made.ranker is not None
    assert all(np.isfinite(weight.numpy()).all() for weight in made.ranker.variables)


@eagerly()
def test_an_action_that_nobody_logs_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made, shown = model(tmp_path), acting(30)
    shown.acted[..., 1] = False
    with caplog.at_level(logging.WARNING):
        teach_ranker(made, shown, PolicyScorer(made, LOG_P), seed=0)
    assert "ranker.heads: no 'buy' came of 30 slates" in caplog.text
    assert "'click'" not in caplog.text
