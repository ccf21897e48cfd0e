"""A course on slates: a recommender, what it showed and what came of it in, the same recommender with other weights out.

Before it learns it reads off the slates how scores and places turn into rewards. Behaviour is learnt beside them when `softmax`
is among the objectives: each step then takes a batch of both.
"""
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrec.config import Objective
from tfrec.data.slate_arrays import SlateArrays
from tfrec.errors import DataError
from tfrec.models.recommender import Recommender, towers
from tfrec.models.two_tower import TwoTower
from tfrec.training.loop import Course, fit
from tfrec.training.progress import Advance
from tfrec.training.slate_input import SlateInput
from tfrec.training.slate_learner import SlateLearner
from tfrec.training.slate_reading import SlateReading, read_slate_scores

_LOOKS_AHEAD = frozenset({"q_learning", "sarsa"})
_AT_ONCE = 1024  # requests scored in one call

keras = tf.keras


class SlateCourse:
    """What one training on slates reads.

    Args:
        recommender: whose towers learn; its configuration says objectives and rates, its gateway section the policy.
        slates: by the recommender's catalogue.
        log_p: `[S, n_items]` popularity, of which each slate knows its snapshot.
        behaviour: for `softmax`.
        top_k: whether REINFORCE corrects for slates.

    Raises:
        DataError: the slates cannot teach by an objective: none has a positive reward, or PPO finds no propensities.
    """

    def __init__(self, recommender: Recommender, slates: SlateArrays, *, log_p: npt.NDArray[np.float32],
                 behaviour: Course | None = None, top_k: bool = True) -> None:
        config, model = recommender.config, recommender.model
        self._recommender, self._slates, self._behaviour = recommender, slates, behaviour
        objectives = config.retrain.objectives
        _refuse_the_unteachable(slates, objectives)
        model.set_slate_prior(log_p)
        if behaviour is None:  # else the course on behaviour has set it
            model.set_prior(log_p, np.zeros(len(recommender.catalogue), np.int64))
        self.reading = slate_reading(model, slates)
        self._target: TwoTower | None = None
        if "q_learning" in objectives:
            self._target = towers(config, text_width=recommender.text.shape[1], feature_width=recommender.features.width)
        conversion = slates.converted & slates.shown
        self._learner = SlateLearner(
            model, objectives, self.reading, temperature=max(config.gateway.temperature, 0.05), epsilon=config.gateway.epsilon,
            discount=config.retrain.discount, clip=config.retrain.clip, cap=config.retrain.weight_cap, top_k=top_k,
            unknown=not slates.drawn.all(), mean_delay=_mean_delay(slates, conversion), target=self._target,
        )
        self._learner.build_optimizers()
        self._input = SlateInput(slates, rows=min(config.retrain.slate_batch, len(slates)),
                                 with_next=bool(_LOOKS_AHEAD & objectives.keys()))
        self.steps = max(self._input.steps, behaviour.steps if behaviour else 0)  # optimiser steps an epoch

    def run(self, optimizer: keras.optimizers.Optimizer, *, epochs: range, advance: Advance | None = None) -> None:
        """Train the epochs numbered in `epochs`, whose numbers decide the order of batches; `advance` is told about each step."""
        model = self._recommender.model
        optimizer.build(model.trainable_variables)
        for epoch in epochs:
            if self._target is not None:
                self._target.follow(model)
            fit(self._learner, optimizer, self._epoch, self._recommender.config.training, epochs=range(epoch, epoch + 1),
                advance=advance)

    def _epoch(self, seed: int, epoch: int) -> tf.data.Dataset:
        slates = self._input.epoch(seed, epoch, steps=self.steps)
        if self._behaviour is None:
            return slates.map(lambda batch: {"slates": batch})
        behaviour = self._behaviour.epoch(seed, epoch).repeat()
        both = tf.data.Dataset.zip((slates, behaviour)).map(lambda s, b: {"slates": s, "behaviour": b})
        return both.apply(tf.data.experimental.assert_cardinality(self.steps))


def slate_scores(model: TwoTower, slates: SlateArrays) -> npt.NDArray[np.float32]:
    """`[n, K]`: the scores of what was shown by the towers as they are; what is not there is HIDDEN."""
    names = ("history", "action", "gap", "query", "hidden", "item", "snapshot")
    score = tf.function(lambda batch: model.slate_scores(batch).own, reduce_retracing=True, autograph=False)
    parts = [slates.take(np.arange(start, min(start + _AT_ONCE, len(slates)))) for start in range(0, len(slates), _AT_ONCE)]
    return np.concatenate([score({name: tf.constant(getattr(part, name)) for name in names}).numpy() for part in parts])


def slate_reading(model: TwoTower, slates: SlateArrays) -> SlateReading:
    """How the towers' scores turn into the rewards of `slates`; needs `set_slate_prior`."""
    return read_slate_scores(slate_scores(model, slates), slates.reward, slates.shown)


def _mean_delay(slates: SlateArrays, conversion: npt.NDArray[np.bool_]) -> float:
    """Seconds from a request to its conversion, on average; 0 when there was none, or none that is late."""
    return float(slates.delay[conversion].mean()) if conversion.any() else 0.0


def _refuse_the_unteachable(slates: SlateArrays, objectives: Mapping[Objective, float]) -> None:
    if not len(slates):
        raise DataError("slates: the window has none. Expected answers of the gateway with matured labels; objective "
                        f"{', '.join(objectives)} learns from them. With behaviour alone: retrain.objective=softmax.")
    if not (slates.reward[slates.shown] > 0).any():
        raise DataError(f"slates: none of {len(slates)} has a positive reward, so nothing says what is better. Expected clicks "
                        "or other outcomes with a weight above 0 in reward.weights; wait for more, or check what is logged.")
    if "ppo" in objectives and not slates.drawn.any():
        raise DataError(f"slates: ppo needs log propensities, and none of {len(slates)} slates was drawn with them. Let the "
                        "gateway explore (gateway.explore=true, gateway.policy=plackett_luce), or take reinforce: it learns one.")
