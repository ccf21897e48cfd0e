"""The offline scorer against a computation one event and one item at a time."""
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from tests.models import world
from tfrec.data.behaviour.histories import Histories
from tfrec.data.behaviour.interactions import Interactions
from tfrec.models.popularity_prior import PopularityPrior
from tfrec.models.recommender import Recommender
from tfrec.models.scorer import Scorer
from tfrec.models.two_tower import TwoTower

N = 40
INTER = world.interactions(world.catalogue(N))
COUNTED = 60


@pytest.fixture(scope="module")
def made() -> Recommender:
    built = world.recommender(world.config(Path("unused")), n=N)
    built.model.beta.assign(0.7)
    built.prior.update(INTER.item[:COUNTED], INTER.time[:COUNTED])
    return built


def brute_force(made: Recommender, inter: Interactions, event: int, *, prior: PopularityPrior) -> np.ndarray:
    model, v, length = made.model, made.item_vectors(), made.config.model.history
    history = [e for e in range(event) if inter.user[e] == inter.user[event] and inter.time[e] < inter.time[event]][-length:]
    scores = 0.7 * prior.log_p()
    if history:
        times = np.append(inter.time[history], inter.time[event])
        codes = made.action_codes(inter.actions)[inter.action[history]]
        u = model.queries(v[inter.item[history]][None], codes[None], np.diff(times)[None]).numpy()[0, -1]
        scores = scores + np.exp(float(model.log_scale)) * (v @ (u - model.mean_query.numpy()))
    return scores


def test_equals_brute_force_while_the_prior_rolls(made):
    events = np.array([COUNTED, COUNTED + 7, COUNTED + 8, COUNTED + 30, len(INTER) - 1])
    scores = Scorer(made, INTER, counted=COUNTED)(events)
    for row, event in enumerate(events):
        before = np.flatnonzero(INTER.time < INTER.time[event])
        prior = PopularityPrior(N, weights=made.prior.weights)
        prior.update(INTER.item[before], INTER.time[before])
        assert_allclose(scores[row], brute_force(made, INTER, event, prior=prior), atol=1e-4)


def test_a_frozen_prior_stays_as_the_recommender_holds_it(made):
    events = np.array([COUNTED + 30, 0])
    scores = Scorer(made, INTER, counted=COUNTED, rolls=False)(events)
    for row, event in enumerate(events):
        assert_allclose(scores[row], brute_force(made, INTER, event, prior=made.prior), atol=1e-4)


def test_a_user_without_history_gets_popularity(made):
    first = np.flatnonzero(Histories(INTER).count(np.arange(len(INTER))) == 0)[:3]
    scorer = Scorer(made, INTER, counted=COUNTED)
    assert_array_equal(scorer.similarity(first), 0)


def test_the_prior_counts_strictly_before_the_second():
    items = world.catalogue(N).ids.tolist()
    inter = Interactions.from_columns(list("abcabc"), [f"i{n}" for n in range(1, 7)], [10, 20, 30, 40, 40, 50], items=items)
    made = world.recommender(world.config(Path("unused")), n=N)
    made.prior.update(inter.item[:3], inter.time[:3])
    log_p = Scorer(made, inter, counted=3).log_p(np.arange(3, 6))
    untouched = log_p[0, 39]
    assert_allclose(log_p[0], log_p[1])  # neither of the two in one second knows the other
    assert_allclose(log_p[0, [4, 5, 6]], untouched)
    assert (log_p[2, [4, 5]] > log_p[2, 6]).all()


def test_any_order_of_asking_gives_the_same(made):
    events = np.array([COUNTED + 30, COUNTED + 3, COUNTED + 12])
    scorer = Scorer(made, INTER, counted=COUNTED)
    backwards, forwards = scorer(events), scorer(np.sort(events))
    assert_allclose(backwards, forwards[[2, 0, 1]], atol=1e-5)
    assert_allclose(scorer(events[:1]), backwards[:1], atol=1e-5)  # nor does the size of the batch matter


def test_refreshed_it_scores_with_the_weights_of_now_and_traces_nothing_again(monkeypatch):
    traced, scale = [], TwoTower.scale_behaviour
    monkeypatch.setattr(TwoTower, "scale_behaviour", lambda self, hidden: traced.append(hidden) or scale(self, hidden))
    made, events = world.recommender(world.config(Path("unused")), n=N), np.arange(COUNTED, COUNTED + 8)
    scorer = Scorer(made, INTER, counted=COUNTED)
    before = scorer.similarity(events)
    for weight in made.model.trainable_variables:
        weight.assign_add(tf.fill(weight.shape, 0.1))
    scorer.refresh()
    after = scorer.similarity(events)
    assert_allclose(scorer.similarity(events[:3]), after[:3], atol=1e-5)
    assert np.abs(after - before).max() > 1e-2
    assert len(traced) == 1
    assert_allclose(after, Scorer(made, INTER, counted=COUNTED).similarity(events), atol=1e-6)


def test_the_recommender_is_not_changed(made):
    before = made.prior.log_p()
    Scorer(made, INTER, counted=COUNTED)(np.array([len(INTER) - 1]))
    assert_array_equal(made.prior.log_p(), before)


def test_it_begins_with_the_prior_that_it_is_given_and_again_when_asked_about_the_past(made):
    empty = PopularityPrior(N, weights=made.prior.weights)
    scorer = Scorer(made, INTER, counted=0, prior=empty)
    late, early = np.array([COUNTED + 30]), np.array([COUNTED // 2])
    scorer(late)
    for event in (early, late):
        before = np.flatnonzero(INTER.time < INTER.time[event[0]])
        prior = PopularityPrior(N, weights=made.prior.weights)
        prior.update(INTER.item[before], INTER.time[before])
        assert_allclose(scorer(event)[0], brute_force(made, INTER, int(event[0]), prior=prior), atol=1e-4)
    assert empty.untouched.all()
