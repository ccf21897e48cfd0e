"""A course on slates: a recommender, what it showed and what came of it in, the same recommender with other weights out.

Before it learns it reads off the slates how scores and places turn into rewards. Behaviour is learnt beside them when `softmax`
is among the objectives: each step then takes a batch of both.
"""
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrec.config import GatewayConfig, Objective
from tfrec.data.slate_arrays import SlateArrays
from tfrec.errors import NothingToLearn
from tfrec.models.bayesian_head import features
from tfrec.models.recommender import Recommender, towers
from tfrec.models.two_tower import TwoTower
from tfrec.training.loop import Course, fit
from tfrec.training.pointwise import mean_delay
from tfrec.training.policy_gradient import policy
from tfrec.training.progress import Advance
from tfrec.training.slate_input import STATE, SlateInput
from tfrec.training.slate_learner import SlateLearner
from tfrec.training.slate_reading import read_slate_scores

_LOOKS_AHEAD = frozenset({"q_learning", "sarsa"})
COLDEST = 0.05  # temperature
_AT_ONCE, _FLOATS = 1024, 1 << 26  # requests scored in one call, of a large catalogue fewer: 256 MB

keras = tf.keras


class SlateView(NamedTuple):
    """What a model says of slates."""

    scores: npt.NDArray[np.float32]  # [n, K]; HIDDEN where a slate is shorter
    phi: npt.NDArray[np.float32]  # [n, K, dim + 1], the features of the bandits' head
    log_pi: npt.NDArray[np.float32]  # [n, K]: of the exploring policy, given the earlier places


class SlateViewer:
    """Asks towers, as they are at the moment, for what was shown.

    Args:
        recommender: whose towers, and whose configuration's exploring policy.
        log_p: `[S, n_items]` popularity, of which each slate knows its snapshot.
        epsilon: of that policy; the one that the configuration begins with by default.
    """

    def __init__(self, recommender: Recommender, log_p: npt.NDArray[np.float32], *, epsilon: float | None = None) -> None:
        self._recommender, self.log_p = recommender, log_p
        self.epsilon = recommender.config.gateway.epsilon if epsilon is None else epsilon
        length, width = recommender.config.model.history, recommender.text.shape[1]
        shapes = {"history": [None, length], "action": [None, length], "gap": [None, length], "query": [None, width],
                  "hidden": [None, None], "snapshot": [None], "item": [None, None]}
        kinds = {"gap": tf.int64, "query": tf.float32}
        signature = {name: tf.TensorSpec(shape, kinds.get(name, tf.int32), name) for name, shape in shapes.items()}
        self._asked = tf.function(self._view, input_signature=[signature], autograph=False)  # of any size in one trace

    def __call__(self, slates: SlateArrays) -> SlateView:
        model = self._recommender.model
        model.set_slate_prior(self.log_p, self._recommender.explored_mass())
        rows = max(1, min(_AT_ONCE, _FLOATS // model.n_items))
        parts = [slates.take(np.arange(start, min(start + rows, len(slates)))) for start in range(0, len(slates), rows)]
        found = [self._asked({name: tf.constant(getattr(part, name)) for name in (*STATE, "item")}) for part in parts]
        return SlateView(*(np.concatenate([array.numpy() for array in arrays]) for arrays in zip(*found, strict=True)))

    def _view(self, batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        model, gateway = self._recommender.model, self._recommender.config.gateway
        found, heat = model.slate_scores(batch, exact=True), heat_of(gateway)
        mass = model.explored_mass(batch)
        log_pi, _ = policy(found.own / heat, found.others / heat, found.log_q, epsilon=self.epsilon, mass=mass)
        return found.own, features(found.u[:, None], found.v, found.popularity), log_pi


def heat_of(gateway: GatewayConfig) -> float:
    """The temperature of the policy that is learnt; a greedy one has no gradient, so it is learnt a little warm."""
    return max(gateway.temperature, COLDEST)


class SlateCourse:
    """What one training on slates reads.

    Args:
        recommender: whose towers learn; its configuration says objectives and rates, its gateway section the policy.
        slates: by the recommender's catalogue.
        view: of such slates.
        behaviour: for `softmax`.

    Raises:
        NothingToLearn: the slates cannot teach by an objective: there is none, none has a reward, or PPO finds no propensities.
    """

    def __init__(self, recommender: Recommender, slates: SlateArrays, view: SlateViewer, *,
                 behaviour: Course | None = None) -> None:
        config, model = recommender.config, recommender.model
        self._recommender, self._behaviour = recommender, behaviour
        objectives = config.retrain.objectives
        _refuse_the_unteachable(slates, objectives)
        if behaviour is None:  # else the course on behaviour has set it
            model.set_prior(view.log_p, np.zeros(len(recommender.catalogue), np.int64))
        reading = read_slate_scores(view(slates).scores, slates.reward, slates.shown)
        self._target: TwoTower | None = None
        if "q_learning" in objectives:
            self._target = towers(config, text_width=recommender.text.shape[1], feature_width=recommender.features.width)
        delay = mean_delay(slates.delay[slates.converted], waited=float(slates.elapsed.max()))
        self._learner = SlateLearner(
            model, objectives, reading, temperature=heat_of(config.gateway), epsilon=view.epsilon,
            discount=config.retrain.discount, clip=config.retrain.clip, cap=config.retrain.weight_cap,
            unknown=not slates.drawn.all(), mean_delay=delay, target=self._target,
        )
        self._learner.build_optimizers()
        self._input = SlateInput(slates, rows=min(config.retrain.slate_batch, len(slates)),
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
        slates = self._input.epoch(seed, epoch, steps=self.steps)
        if self._behaviour is None:
            return slates.map(lambda batch: {"slates": batch})
        behaviour = self._behaviour.epoch(seed, epoch).repeat()
        both = tf.data.Dataset.zip((slates, behaviour)).map(lambda s, b: {"slates": s, "behaviour": b})
        return both.apply(tf.data.experimental.assert_cardinality(self.steps))


def _refuse_the_unteachable(slates: SlateArrays, objectives: Mapping[Objective, float]) -> None:
    reward, wait = slates.reward[slates.shown], "wait for more, or check what is logged."
    if not len(reward):
        raise NothingToLearn("slates: the window has none. Expected answers of the gateway with matured labels; objective "
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
