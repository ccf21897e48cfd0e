"""Training on slates: the towers of a recommender learn from what it showed and what came of it.

Before the first step the trainer estimates how scores and positions turn into rewards. Each epoch begins with the shortlists that
the weights give by then, where an objective reads them. With `softmax` among the objectives, each step takes a batch of behaviour
beside a batch of slates.
"""
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

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
from tfrec.training.slates.objectives import LOOKS_AHEAD, READS_SHORTLIST, ObjectiveSettings
from tfrec.training.slates.pointwise import mean_delay
from tfrec.training.slates.policy_scorer import PolicyScorer
from tfrec.training.slates.position_bias import fit_position_bias

COLDEST = 0.05  # temperature


class SlateTrainer:
    """One training on slates.

    Args:
        recommender: Whose towers learn; its configuration gives objectives and rates, and its gateway section the policy.
        slates: Items by the recommender's catalogue.
        scorer: Scores such slates.
        behaviour: Gives the batches of behaviour; for `softmax`.

    Attributes:
        learner: The Keras model that is fitted.
        steps: Optimiser steps an epoch.

    Raises:
        NothingToLearn: The slates cannot teach by an objective: there is none, none has a reward, or PPO finds no propensities.
    """

    def __init__(self, recommender: Recommender, slates: SlateArrays, scorer: PolicyScorer, *,
                 behaviour: Trainer | None = None) -> None:
        config = recommender.config
        objectives = config.retrain.objectives
        _check_teachable(slates, objectives)
        self._recommender, self._slates, self._scorer, self._behaviour = recommender, slates, scorer, behaviour
        found = scorer(slates)
        target: TwoTower | None = None
        if "q_learning" in objectives:
            target = towers(config, text_width=recommender.text.shape[1], feature_width=recommender.features.width)
        settings = ObjectiveSettings(
            temperature=temperature_of(config.gateway), epsilon=scorer.epsilon, discount=config.retrain.discount,
            clip=config.retrain.clip, cap=config.retrain.weight_cap, learns_logging_policy=not slates.drawn.all())
        if "entire_space" in objectives:  # the one that reads it
            delays = slates.delay[slates.converted & slates.shown]
            settings = replace(settings, mean_delay=mean_delay(delays, waited=float(slates.elapsed.max())))
        new = SlateLearner(recommender.model, objectives, fit_position_bias(found.scores, slates.reward, slates.shown),
                           target=target, settings=settings)
        new.build_optimizers()
        # one that learnt an earlier window with these towers has its step traced already
        self.learner = recommender.model.traced.keep((tuple(objectives.items()), settings, slates.shown.shape[1]), new)
        if self.learner is not new:
            self.learner.start_as(new)
        self._renews = not scorer.covers_all and bool(READS_SHORTLIST & objectives.keys())
        self._is_fresh = True  # whether the candidates are those of the weights
        # of few slates a power of two, so that windows of other sizes are traced once in a while
        rows = min(config.retrain.slate_batch, 1 << (len(slates) - 1).bit_length())
        self._batches = SlateBatches(slates, found.candidates, rows=rows,
                                     with_next=bool(LOOKS_AHEAD & objectives.keys()))
        self.steps = max(self._batches.steps, behaviour.steps if behaviour else 0)

    def run(self, optimizer: Any, *, epochs: range, advance: Advance | None = None) -> None:
        """Train the epochs numbered in `epochs`, whose numbers decide the order of batches; `advance` is told about each step."""
        optimizer.build(self._recommender.model.trainable_variables)
        self._renew_target()
        fit(self.learner, optimizer, self.epoch, self._recommender.config.training, epochs=epochs, advance=advance,
            after=lambda epoch, loss: self._renew_target())

    def epoch(self, seed: int, epoch: int) -> tf.data.Dataset:
        """The batches of one epoch; from the second call on with shortlists by the weights of now, if an objective reads them."""
        if self._renews and not self._is_fresh:
            self._batches.candidates = self._scorer(self._slates).candidates
        self._is_fresh = False
        slates = self._batches.epoch(seed, epoch, steps=self.steps)
        if self._behaviour is None:
            return slates.map(lambda batch: {"slates": batch})
        behaviour = self._behaviour.batches.epoch(seed, epoch).repeat()
        both = tf.data.Dataset.zip((slates, behaviour)).map(lambda s, b: {"slates": s, "behaviour": b})
        return both.apply(tf.data.experimental.assert_cardinality(self.steps))

    def _renew_target(self) -> bool:
        if self.learner.target is not None:
            self.learner.target.follow(self._recommender.model)
        return True


def temperature_of(gateway: GatewayConfig) -> float:
    """The temperature of the policy that is learnt; a greedy one has no gradient, so it is learnt a little warm."""
    return max(gateway.temperature, COLDEST)


def _check_teachable(slates: SlateArrays, objectives: Mapping[Objective, float]) -> None:
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
