"""Every objective learns what is better, on a world of which that is known: some items are liked, the others never."""
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from tests.eagerly import eagerly
from tests.models import world
from tests.models.world import LIKED, LOG_P, POSITIONS, SLATES, slates
from tfrec.config import Config, GatewayConfig, RetrainConfig, load_config
from tfrec.data.examples.slate_arrays import SlateArrays
from tfrec.errors import ConfigError, DataError
from tfrec.models.recommender import Recommender
from tfrec.training.loop import Trainer, optimiser
from tfrec.training.slates.batches import Candidates, SlateBatches
from tfrec.training.slates.policy_scorer import PolicyScorer
from tfrec.training.slates.position_bias import fit_position_bias
from tfrec.training.slates.trainer import SlateTrainer

BATCH = 64  # requests: the second batch of an epoch is filled up
SLATE_OBJECTIVES = ("pointwise", "entire_space", "reinforce", "ppo", "q_learning", "sarsa")


def settings(run: Path, objective: Any, **training: Any) -> Config:
    made = world.config(run, training=training, layers=0)  # attention has nothing to say here, and takes time to trace
    return made.model_copy(update={"retrain": RetrainConfig(objective=objective, slate_batch=BATCH),
                                   "gateway": GatewayConfig(temperature=1.0, epsilon=0.1)})


WIDE = ("log_propensity", "reward", "converted", "delay")  # by position


def each_item(shown: SlateArrays, row: int, n: int) -> SlateArrays:
    """`n` copies of a request, each with one of the items 0 to n - 1 in a single position."""
    state = shown.take(np.full(n, row))
    first = {name: getattr(state, name)[:, :1] for name in WIDE} | {"item": np.arange(n, dtype=np.int32)[:, None]}
    return replace(state, **first)


def liked(scorer: PolicyScorer, shown: SlateArrays) -> float:
    """The chance that the exploring policy shows an item that is liked first."""
    return float(np.exp(scorer(each_item(shown, 0, LIKED)).log_pi).sum())


class Lesson(NamedTuple):
    """A training, and the chance that what is liked is shown, before it and after."""

    made: Recommender
    trainer: SlateTrainer
    before: float
    after: float


@eagerly()
def learn(made: Recommender, shown: SlateArrays, *, epochs: int = 2, behaviour: Trainer | None = None) -> Lesson:
    """Four steps by default, which lift the chance of what is liked from 0.42 to 0.7 and more."""
    scorer = PolicyScorer(made, LOG_P)
    before = liked(scorer, shown)
    trainer = SlateTrainer(made, shown, scorer, behaviour=behaviour)
    trainer.run(optimiser(made.config, learning_rate=0.01), epochs=range(epochs))
    return Lesson(made, trainer, before, liked(scorer, shown))


@cache
def learnt(objective: str) -> Lesson:
    """From the slates of this world as they are; to be read only."""
    return learn(world.recommender(settings(Path("unused"), objective)), slates())


@pytest.mark.parametrize("objective", SLATE_OBJECTIVES)
def test_what_is_liked_is_shown_more(objective: str) -> None:
    found = learnt(objective)
    assert found.after > found.before + 0.2


def test_permuted_rewards_teach_nothing_of_the_kind(tmp_path: Path) -> None:
    shown = slates()
    rewards = shown.reward.copy()
    rewards[shown.shown] = np.random.default_rng(3).permutation(rewards[shown.shown])
    fair, permuted = learnt("reinforce"), learn(world.recommender(settings(tmp_path, "reinforce")), slates(reward=rewards))
    assert permuted.after - permuted.before < 0.4 * (fair.after - fair.before)


def test_one_word_mixes_them_with_behaviour(tmp_path: Path) -> None:
    mixed = {"softmax": 1.0, "reinforce": 0.5}
    made, shown = world.recommender(settings(tmp_path, mixed)), slates()
    inter = world.interactions(made.catalogue)
    behaviour = Trainer(made, inter, np.ones(len(inter), bool), prior_weights=made.prior.weights)
    found = learn(made, shown, epochs=1, behaviour=behaviour)
    assert found.trainer.steps == max(behaviour.steps, -(-SLATES // BATCH))
    assert found.after > found.before


def test_the_same_run_gives_the_same_weights(tmp_path: Path) -> None:
    again = learn(world.recommender(settings(tmp_path, "reinforce")), slates())
    for one, other in zip(learnt("reinforce").made.model.trainable_variables, again.made.model.trainable_variables, strict=True):
        assert_array_equal(one, other)


def test_a_compiled_step_is_the_plain_one(tmp_path: Path) -> None:
    """Loss and gradients of all objectives at once. The optimisers' part is Keras', and as large again to compile."""
    made = world.recommender(settings(tmp_path, dict.fromkeys(SLATE_OBJECTIVES, 1.0)))
    with eagerly():
        trainer = SlateTrainer(made, slates(32), PolicyScorer(made, LOG_P))
    learner = trainer.learner
    learner.target.follow(made.model)  # of Q-learning, as a training does first
    variables, batch = [*made.model.trainable_variables, *learner.auxiliary_variables], next(iter(trainer.epoch(0, 0)))

    def step(batch: Any) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = learner.compute_losses(batch)
        slopes = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return [tf.convert_to_tensor(part) for part in (loss, *slopes)]

    compiled = tf.function(step, jit_compile=True, autograph=False)
    for one, other in zip(compiled(batch), step(batch), strict=True):
        assert_allclose(one, other, rtol=1e-3, atol=1e-4 * max(1.0, np.abs(other).max()))


def test_slates_without_propensities_are_learnt_by_a_model_of_the_policy_that_logged(tmp_path: Path) -> None:
    unknown = slates(log_propensity=np.full((SLATES, POSITIONS), np.nan, np.float32))
    found = learn(world.recommender(settings(tmp_path, "reinforce")), unknown)
    assert found.after > found.before + 0.05


@eagerly()
def test_likelihoods_start_from_what_scores_say(tmp_path: Path) -> None:
    """The steps begin near the best level and slope: the first one moves the towers, not what translates them."""
    made, shown = world.recommender(settings(tmp_path, "pointwise")), slates()
    scorer = PolicyScorer(made, LOG_P)
    learner = SlateTrainer(made, shown, scorer).learner
    bias = fit_position_bias(scorer(shown).scores, shown.reward, shown.shown)
    assert_allclose([tf.nn.softplus(learner.heads.slope), learner.heads.level], [bias.click_slope, bias.click_level], rtol=1e-5)
    other = replace(bias, click_slope=3.0, click_level=-1.0)
    learner.heads.start_from(other)
    assert_allclose([tf.nn.softplus(learner.heads.slope), learner.heads.level], [3, -1], rtol=1e-5)


@eagerly()
def test_features_and_scores_agree(tmp_path: Path) -> None:
    made, shown = world.recommender(settings(tmp_path, "ppo")), slates(9)
    scorer = PolicyScorer(made, LOG_P)
    for part, found in scorer.shown(shown):
        assert_allclose(found.features.sum(2)[part.shown], found.scores[part.shown], atol=1e-4)
    assert_allclose(np.concatenate([found.scores for _, found in scorer.shown(shown)]), scorer(shown).scores, atol=1e-4)


def test_what_is_dismissed_is_shown_less(tmp_path: Path) -> None:
    """The others, 10 to 21, are dismissed when they are shown; nothing tells them apart from a skip but the reward."""
    made, shown = world.recommender(settings(tmp_path, "pointwise")), slates()
    dismissed = replace(shown, reward=np.where(shown.reward > 0, 0.2, -3).astype(np.float32))
    found = learn(made, dismissed)
    assert found.after > found.before + 0.05


@eagerly()
@pytest.mark.parametrize(("objective", "changed", "message"), [
    ("reinforce", {"reward": np.zeros((SLATES, POSITIONS), np.float32)}, "none of 120 has a positive reward"),
    ("ppo", {"log_propensity": np.full((SLATES, POSITIONS), np.nan, np.float32)}, "ppo needs log propensities, and none of 120"),
    ("ppo", {"log_propensity": np.zeros((SLATES, POSITIONS), np.float32)}, "ppo needs log propensities"),  # greedy
])
def test_slates_that_cannot_teach_are_refused(tmp_path: Path, objective: str, changed: dict[str, Any], message: str) -> None:
    made = world.recommender(settings(tmp_path, objective))
    with pytest.raises(DataError, match=message):
        SlateTrainer(made, slates(**changed), PolicyScorer(made, LOG_P))
    with pytest.raises(DataError, match="the window has none"):
        SlateTrainer(made, slates().take(np.zeros(0, np.int64)), PolicyScorer(made, LOG_P))


@pytest.mark.parametrize(("changed", "message"), [
    ({"reward": np.full((SLATES, POSITIONS), np.nan, np.float32)}, r"reward\[0, 0\] must be a finite number, got nan"),
    ({"log_propensity": np.full((SLATES, POSITIONS), 0.5, np.float32)}, r"log_propensity\[0, 0\] must be at most 0"),
    ({"time": np.zeros(3, np.int64)}, "arrays of one length"),
])
def test_bad_arrays_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        slates(**changed)


def test_an_objective_is_known_by_name() -> None:
    assert load_config(None, ["retrain.objective=ppo"]).retrain.objectives == {"ppo": 1.0}
    assert load_config(None, ["retrain.objective={softmax=1, sarsa=0.5}"]).retrain.objectives == {"softmax": 1.0, "sarsa": 0.5}
    with pytest.raises(ConfigError, match="retrain.objective"):
        load_config(None, ["retrain.objective=magic"])
    with pytest.raises(ConfigError, match="retrain.objective"):
        load_config(None, ["retrain.objective={}"])


def candidates(shown: SlateArrays) -> Candidates:
    n, k = shown.item.shape
    flat = np.zeros((n, k), np.float32)
    return Candidates(flat, flat, flat[:, 0], np.zeros((n, 3), np.int32), np.zeros((n, 3), np.float32), flat,
                      np.zeros((n, 3), np.float32))


def test_the_input_gives_each_request_once_and_its_successor() -> None:
    n = np.arange(50)
    shown = slates(50, longest=2, item=np.stack([n % 22, n // 22], axis=1).astype(np.int32),
                   reward=np.zeros((50, 2), np.float32), log_propensity=np.zeros((50, 2), np.float32))
    data = SlateBatches(shown, candidates(shown), rows=16, with_next=True)
    assert data.steps == 4
    rows = list(data.epoch(1, 2, steps=4))
    kept = np.concatenate([batch["weight"].numpy() for batch in rows]) > 0
    items = np.concatenate([batch["item"].numpy() for batch in rows])[kept]
    assert sorted(map(tuple, items)) == sorted(map(tuple, shown.item))
    where = {tuple(row): n for n, row in enumerate(shown.item)}
    following, has_next = (np.concatenate([batch[name].numpy() for batch in rows])[kept] for name in ("next_item", "has_next"))
    for item, then, there in zip(items, following, has_next, strict=True):
        successor = where[tuple(item)] + 20  # the same user's next request
        assert there == (successor < 50)
        if there:
            assert_array_equal(then, shown.item[successor])


def test_more_steps_than_batches_begin_again() -> None:
    data = SlateBatches(slates(20), candidates(slates(20)), rows=16, with_next=False)
    assert [float(tf.reduce_sum(batch["weight"])) for batch in data.epoch(0, 0, steps=5)] == [16, 4, 16, 4, 16]
