"""A course on slates: a recommender, what it showed and what came of it in, the same recommender with other weights out.

Before it learns it reads off the slates how scores and places turn into rewards. At the beginning of each epoch the shortlists
are those of the weights as they are then. Behaviour is learnt beside the slates when `softmax` is among the objectives: each step
then takes a batch of both.
"""
from collections.abc import Mapping

import tensorflow as tf

from tfrec.config import GatewayConfig, Objective
from tfrec.data.examples.slate_arrays import SlateArrays
from tfrec.errors import NothingToLearn
from tfrec.models.recommender import Recommender, towers
from tfrec.models.two_tower import TwoTower
from tfrec.training.loop import Trainer, fit
from tfrec.training.progress import Advance
from tfrec.training.slates.batches import SlateBatches
from tfrec.training.slates.learner import SlateLearner
from tfrec.training.slates.pointwise import mean_delay
from tfrec.training.slates.policy_scorer import PolicyScorer
from tfrec.training.slates.position_bias import fit_position_bias

_LOOKS_AHEAD = frozenset({"q_learning", "sarsa"})
COLDEST = 0.05  # temperature

keras = tf.keras


class SlateTrainer:
    """What one training on slates reads.

    Args:
        recommender: whose towers learn; its configuration says objectives and rates, its gateway section the policy.
        slates: by the recommender's catalogue.
        view: of such slates.
        behaviour: for `softmax`.

    Raises:
        NothingToLearn: the slates cannot teach by an objective: there is none, none has a reward, or PPO finds no propensities.
    """

    def __init__(self, recommender: Recommender, slates: SlateArrays, view: PolicyScorer, *,
                 behaviour: Trainer | None = None) -> None:
        config, model = recommender.config, recommender.model
        self._recommender, self._behaviour = recommender, behaviour
        objectives = config.retrain.objectives
        _refuse_the_unteachable(slates, objectives)
        self._slates, self._view = slates, view
        found = view(slates)
        reading = fit_position_bias(found.scores, slates.reward, slates.shown)
        self._target: TwoTower | None = None
        if "q_learning" in objectives:
            self._target = towers(config, text_width=recommender.text.shape[1], feature_width=recommender.features.width)
        delay = mean_delay(slates.delay[slates.converted & slates.shown], waited=float(slates.elapsed.max()))
        self._learner = SlateLearner(
            model, objectives, reading, temperature=temperature_of(config.gateway), epsilon=view.epsilon,
            discount=config.retrain.discount, clip=config.retrain.clip, cap=config.retrain.weight_cap,
            unknown=not slates.drawn.all(), mean_delay=delay, target=self._target,
        )
        self._learner.build_optimizers()
        self._is_fresh = True  # whether the candidates are those of the weights
        self._input = SlateBatches(slates, found.candidates, rows=min(config.retrain.slate_batch, len(slates)),
                                 with_next=bool(_LOOKS_AHEAD & objectives.keys()))
        self.steps = max(self._input.steps, behaviour.steps if behaviour else 0)  # optimiser steps an epoch

    def run(self, optimizer: keras.optimizers.Optimizer, *, epochs: range, advance: Advance | None = None) -> None:
        """Train the epochs numbered in `epochs`, whose numbers decide the order of batches; `advance` is told about each step."""
        model = self._recommender.model
        optimizer.build(model.trainable_variables)
        self._renew_target()
        fit(self._learner, optimizer, self._epoch, self._recommender.config.training, epochs=epochs, advance=advance,
            after=lambda epoch, loss: self._renew_target())

    def _renew_target(self) -> bool:
        if self._target is not None:
            self._target.follow(self._recommender.model)
        return True

    def _epoch(self, seed: int, epoch: int) -> tf.data.Dataset:
        if not (self._is_fresh or self._view.covers_all):
            self._input.candidates = self._view(self._slates).candidates
        self._is_fresh = False
        slates = self._input.epoch(seed, epoch, steps=self.steps)
        if self._behaviour is None:
            return slates.map(lambda batch: {"slates": batch})
        behaviour = self._behaviour.epoch(seed, epoch).repeat()
        both = tf.data.Dataset.zip((slates, behaviour)).map(lambda s, b: {"slates": s, "behaviour": b})
        return both.apply(tf.data.experimental.assert_cardinality(self.steps))


def temperature_of(gateway: GatewayConfig) -> float:
    """The temperature of the policy that is learnt; a greedy one has no gradient, so it is learnt a little warm."""
    return max(gateway.temperature, COLDEST)


def _refuse_the_unteachable(slates: SlateArrays, objectives: Mapping[Objective, float]) -> None:
    reward, wait = slates.reward[slates.shown], "wait for more, or check what is logged."
    if not len(reward):
        raise NothingToLearn("slates: the window has none whose labels closed before the newest events, which judge. Expected "
                             "answers of the gateway that were data.attribution_hours old by then; objective "
                             f"{', '.join(objectives)} learns from them. With behaviour alone: retrain.objective=softmax.")
    if not reward.any():
        raise NothingToLearn(f"slates: none of {len(slates)} has a positive reward, nor a negative one, so nothing says what is "
                             f"better. Expected clicks or other outcomes that have a weight in reward.weights; {wait}")
    if "entire_space" in objectives and not (reward > 0).any():
        raise NothingToLearn(f"slates: none of {len(slates)} has a positive reward, and entire_space learns from clicks and "
                             f"conversions. Expected outcomes with a weight above 0 in reward.weights; {wait}")
    if "ppo" in objectives and not slates.drawn.any():
        raise NothingToLearn(f"slates: ppo needs log propensities, and none of {len(slates)} slates was drawn with them. Let the "
                             "gateway explore (gateway.explore=true, gateway.policy=plackett_luce), or take reinforce: it "
                             "learns one.")
