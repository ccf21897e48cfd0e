"""Laws of learning from slates, for every objective: on a batch of every kind of slate, eagerly, without a step of training."""
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from tests.eagerly import eagerly
from tests.models import world
from tfrec.config import GatewayConfig, RetrainConfig, ServingConfig
from tfrec.data.examples.ragged import Ragged
from tfrec.data.examples.sequences import PAD
from tfrec.data.examples.slate_arrays import SlateArrays
from tfrec.models.recommender import Recommender
from tfrec.training.slates import objectives
from tfrec.training.slates.batches import SlateBatches
from tfrec.training.slates.learner import SlateLearner
from tfrec.training.slates.objectives import OBJECTIVES, ObjectiveSettings
from tfrec.training.slates.policy_gradient import clipped_surrogate, reinforce
from tfrec.training.slates.policy_scorer import PolicyScorer, PolicyScores
from tfrec.training.slates.position_bias import PositionBiasModel
from tfrec.training.slates.slate_scores import SlateScores, slate_scores
from tfrec.training.slates.trainer import SlateTrainer

BY_POSITION = {"item": PAD, "log_propensity": np.nan, "reward": np.inf, "converted": True, "delay": np.nan}
WIDEST = 16
SETTINGS = ObjectiveSettings(temperature=0.7, epsilon=0.1, discount=0.3, clip=0.2, cap=10.0)
Batch = dict[str, tf.Tensor]


@cache
def recommender(negatives: int = 4096, n: int = world.ITEMS, shortlist: int = 200, objective: Any = "softmax") -> Recommender:
    """Of which `uses_whole_catalogue` does not hold when there are few negatives."""
    made = world.config(Path("unused"), training={"negatives": negatives}, layers=0)  # attention has no part in these laws
    return world.recommender(made.model_copy(update={
        "gateway": GatewayConfig(temperature=0.7, epsilon=0.1), "serving": ServingConfig(max_k=min(200, shortlist)),
        "retrain": RetrainConfig(objective=objective)}), n=n)


@cache
def scorer(shortlist: int | None = None) -> PolicyScorer:
    return PolicyScorer(recommender(), world.LOG_P, shortlist=shortlist)


@cache
def learner(objective: Any, negatives: int = 4096, width: int = WIDEST) -> SlateLearner:
    return SlateLearner(recommender(negatives).model, {objective: 1.0}, bias_of(width),
                        settings=replace(SETTINGS, learns_logging_policy=True, mean_delay=900.0))


def bias_of(width: int) -> PositionBiasModel:
    return PositionBiasModel(
        gain=0.3, intercept=0.2, position_weights=np.linspace(1, 0.2, WIDEST).astype(np.float32)[:width],
        mean_reward=np.linspace(0.4, 0.1, WIDEST).astype(np.float32)[:width], mean_score=0.5, noise=0.7)


def padded(slates: SlateArrays, width: int) -> SlateArrays:
    """`slates` of `width` positions, those beyond their own full of what no loss may read."""
    beyond = {name: (len(slates), width - slates.item.shape[1]) for name in BY_POSITION}
    return replace(slates, **{name: np.concatenate([getattr(slates, name), np.full(shape, BY_POSITION[name])], axis=1).astype(
        getattr(slates, name).dtype) for name, shape in beyond.items()})


def batch_of(slates: SlateArrays, scores: PolicyScores, *, rows: int | None = None) -> Batch:
    data = SlateBatches(slates, scores.candidates, rows=rows or len(slates), with_next=True)
    return {name: tf.constant(array) for name, array in data.batch(np.arange(len(slates))).items()}


def loss(objective: str, batch: Batch) -> float:
    """Summed over the batch."""
    return float(OBJECTIVES[objective](learner(objective).slate_step(batch)))


def loss_and_slopes(objective: str, batch: Batch, negatives: int = 4096) -> tuple[float, list[np.ndarray]]:
    """Summed over the batch."""
    one = learner(objective, negatives, batch["item"].shape[1])
    variables = [*one.towers.trainable_variables, *one.auxiliary_variables]
    with tf.GradientTape() as tape:
        total = OBJECTIVES[objective](one.slate_step(batch))
    slopes = tape.gradient(total, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return float(total), [tf.convert_to_tensor(slope).numpy() for slope in slopes]


def same(found: tuple[float, list[np.ndarray]], expected: tuple[float, list[np.ndarray]]) -> None:
    assert np.isfinite(found[0])
    assert found[0] == pytest.approx(expected[0], rel=1e-4, abs=1e-4)
    for ours, theirs in zip(found[1], expected[1], strict=True):
        assert np.isfinite(ours).all()
        assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * max(1.0, np.abs(theirs).max()))


@pytest.mark.parametrize("objective", OBJECTIVES)
@settings(max_examples=4)
@given(n=st.sampled_from([1, 9]), seed=st.integers(0, 99), longest=st.sampled_from([1, 3, 12]), more=st.integers(1, 4))
def test_padding_a_slate_changes_neither_loss_nor_gradient(objective: str, n: int, seed: int, longest: int, more: int) -> None:
    """Positions that are not there, however many and whatever stands in them, and requests that only fill up a batch."""
    slates = world.slates(n, seed=seed, longest=longest)
    narrow, wide, score = padded(slates, longest), padded(slates, longest + more), scorer()
    expected = loss_and_slopes(objective, batch_of(narrow, score(narrow)))
    same(loss_and_slopes(objective, batch_of(wide, score(wide), rows=n + 3)), expected)


@cache
def together_and_alone() -> tuple[Batch, list[Batch]]:
    """Twelve slates as one batch, and as a batch each; the same for all objectives."""
    slates = padded(world.slates(12, seed=3), WIDEST)
    slates = replace(slates, user=np.arange(12, dtype=np.int32))  # nobody asks twice: a next request would be another slate
    score = scorer()
    alone = [slates.take(np.array([row])) for row in range(12)]
    return batch_of(slates, score(slates)), [batch_of(one, score(one)) for one in alone]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_slates_part_does_not_depend_on_the_other_slates_of_its_batch(objective: str) -> None:
    """A slate of one beside one of twelve: the correction for slates of K takes each one's own K."""
    together, alone = together_and_alone()
    assert loss(objective, together) == pytest.approx(sum(loss(objective, one) for one in alone), rel=1e-3)


KINDS: dict[str, dict[str, Any]] = {
    "no propensities": {"log_propensity": np.full((12, WIDEST), np.nan, np.float32)},
    "certain": {"log_propensity": np.zeros((12, WIDEST), np.float32)},
    "as good as impossible": {"log_propensity": np.full((12, WIDEST), -700, np.float32)},
    "no reward": {"reward": np.zeros((12, WIDEST), np.float32)},
    "only dismissals": {"reward": np.full((12, WIDEST), -5, np.float32)},
    "nothing shown": {"item": np.full((12, WIDEST), PAD, np.int32)},
    "all excluded": {"excluded": Ragged.of([np.arange(world.ITEMS)] * 12)},
    "nothing excluded": {"excluded": Ragged.of([[]] * 12)},
    "just shown": {"elapsed": np.full(12, 1e-3, np.float32)},
}


@cache
def batch_of_kind(kind: str) -> Batch:
    slates = replace(padded(world.slates(12), WIDEST), **KINDS[kind])
    return batch_of(slates, scorer(5)(slates))


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_slate_has_a_finite_loss_and_gradient(objective: str, kind: str) -> None:
    found, slopes = loss_and_slopes(objective, batch_of_kind(kind))
    assert np.isfinite(found)
    assert all(np.isfinite(slope).all() for slope in slopes)
    if kind == "nothing shown":
        assert found == 0
        assert not any(slope.any() for slope in slopes)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_catalogue_beyond_the_negatives_is_learnt_as_one_within(objective: str) -> None:
    """Items are looked up one by one where there are many; nothing else may differ."""
    slates = padded(world.slates(4, seed=1), WIDEST)
    batch = batch_of(slates, scorer(3)(slates))
    assert (recommender(4096).model.uses_whole_catalogue, recommender(2).model.uses_whole_catalogue) == (True, False)
    same(loss_and_slopes(objective, batch, negatives=2), loss_and_slopes(objective, batch))


def test_both_networks_of_double_q_learning_see_the_same_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """V above 4 x negatives: with equal weights the value that follows is that of the best item there is, by all items."""
    slates = padded(world.slates(40, seed=2), WIDEST)
    one = SlateLearner(recommender(2).model, {"q_learning": 1.0}, bias_of(WIDEST), settings=SETTINGS,
                       target=recommender(4096).model)
    step = one.slate_step(batch_of(slates, scorer(3)(slates)))
    asked: list[np.ndarray] = []

    def listened(towers: Any, batch: Batch) -> SlateScores:
        found = slate_scores(towers, batch)
        asked.extend([batch["shortlist"].numpy(), found.listed.numpy()])
        return found

    monkeypatch.setattr(objectives, "slate_scores", listened)
    OBJECTIVES["q_learning"](step)
    online_items, online, target_items, target = asked
    assert_array_equal(online_items, target_items)
    assert_allclose(online, target, atol=1e-4)
    following = np.maximum(slates.following, 0)
    every = scorer()(slates)
    best = np.where(every.candidates.shortlist >= 0, scores_of(slates, every), -np.inf).max(1)[following]
    assert_allclose(online.max(1), best, atol=1e-4)


def scores_of(slates: SlateArrays, scores: PolicyScores) -> np.ndarray:
    shown = {"item": scores.candidates.shortlist, "log_p": scores.candidates.shortlist_log_p}
    return slate_scores(recommender().model, batch_of(slates, scores) | shown).own.numpy()


@eagerly()  # a policy of its own for each example
@settings(max_examples=10)
@given(seed=st.integers(0, 99), shortlist=st.sampled_from([1, 3, 21, 39]), temperature=st.sampled_from([0.0, 0.3, 2.0]),
       epsilon=st.sampled_from([0.0, 0.2, 1.0]))
def test_the_policy_is_that_of_the_slates(seed: int, shortlist: int, temperature: float, epsilon: float) -> None:
    """ln pi by hand from the scores of all items, position by position, of the best and of all that may come."""
    slates = world.slates(8, seed=seed)
    made = recommender()
    kept = made.config
    made.config = kept.model_copy(update={"gateway": GatewayConfig(temperature=temperature, epsilon=epsilon)})
    try:
        found = PolicyScorer(made, world.LOG_P, shortlist=shortlist)(slates)
    finally:
        made.config = kept
    whole = scorer()(slates)
    scores, may = scores_of(slates, whole), slates.may_come(world.ITEMS)
    for row in range(8):
        score = np.full(world.ITEMS, -np.inf)
        listed = whole.candidates.shortlist[row]
        score[listed[listed >= 0]] = scores[row][listed >= 0]
        best = np.argsort(-score, kind="stable")[:shortlist]
        left, apart = may[row].copy(), -1e5 * np.argsort(np.argsort(-score))
        for position, item in enumerate(slates.item[row]):
            if item == PAD:
                assert found.log_pi[row, position] == 0
                continue
            choices = [i for i in best if left[i]]
            logits = (score / temperature if temperature else apart)[choices]
            chosen = np.exp(logits - np.logaddexp.reduce(logits))[choices.index(item)] if item in choices else 0.0
            expected = (1 - epsilon) * chosen + epsilon / left.sum()
            assert_allclose(np.exp(found.log_pi[row, position]), expected, rtol=2e-3, atol=1e-6)
            left[item] = False


def test_live_popularity_replaces_the_counted_one() -> None:
    slates = world.slates(8)
    plain = replace(slates, live_item=Ragged.of([[]] * 8), live_log_p=Ragged.of([[]] * 8, np.float32))
    with_live, without = (scorer()(one).candidates.log_p for one in (slates, plain))
    sent = slates.shown & (slates.item < 3) & (np.arange(8) % 4 == 1)[:, None]
    assert sent.any()
    expected = np.where(sent, -3 - 0.1 * slates.item, without)
    assert_allclose(with_live[slates.shown], expected[slates.shown], rtol=1e-6)


class TurnedScorer(PolicyScorer):
    """Gives the shortlists back to front, from the second call on."""

    calls = 0

    def __call__(self, slates: SlateArrays) -> PolicyScores:
        self.calls += 1
        found = super().__call__(slates)
        turned = found.candidates._replace(shortlist=found.candidates.shortlist[:, ::-1])
        return found if self.calls == 1 else found._replace(candidates=turned)


@eagerly()
@pytest.mark.parametrize(("objective", "shortlist", "is_anew"), [
    ("reinforce", 3, True), ("q_learning", 3, True), ("reinforce", world.ITEMS, False), ("pointwise", 3, False),
    ("sarsa", 3, False)])
def test_a_shortlist_that_is_read_and_can_change_is_new_in_each_epoch(objective: str, shortlist: int, is_anew: bool) -> None:
    made, slates = recommender(objective=objective), padded(world.slates(8), WIDEST)
    trainer = SlateTrainer(made, slates, TurnedScorer(made, world.LOG_P, shortlist=shortlist))
    first, second = (sorted(map(tuple, batch["slates"]["shortlist"].numpy()))
                     for epoch in range(2) for batch in trainer.epoch(0, epoch))
    assert len(first) == 8
    assert second == (sorted(row[::-1] for row in first) if is_anew else first)


@pytest.mark.parametrize("bad", [tf.zeros([2]), tf.zeros([2, 4]), tf.zeros([2, 3, 1])])
def test_a_loss_names_the_array_whose_shape_is_wrong(bad: tf.Tensor) -> None:
    good, mask = tf.zeros([2, 3]), tf.ones([2, 3], tf.bool)
    with pytest.raises(ValueError, match=r"reward: expected the mask's shape \(2, 3\), \[batch, K\], got"):
        reinforce(good, good, good, bad, mask, k=1.0, cap=2.0)
    with pytest.raises(ValueError, match=r"mask: expected bool \[batch, K\], got float32 \(2, 3\)"):
        clipped_surrogate(good, good, good, good, clip=0.2)


def test_ragged_rows_are_taken_in_any_order() -> None:
    rows = [[1, 2], [], [3], [4, 5, 6]]
    taken = Ragged.of(rows)[np.array([3, 1, 0, 3])]
    found = [taken.values[a:b].tolist() for a, b in zip(taken.begin, taken.begin[1:], strict=False)]
    assert found == [[4, 5, 6], [], [1, 2], [4, 5, 6]]
    assert {f.name for f in fields(Ragged)} == {"values", "begin"}
    assert len(Ragged.of([])) == 0
