"""What a retrain learns, from the parent's weights: behaviour, what was shown and what came of it, or both.

`retrain.objective` says which. `softmax` learns behaviour; all other objectives learn from slates. Where both are wanted and one
finds nothing to learn in the window, the other is learnt alone.
"""
import logging
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.config import Config
from tfrec.data.behaviour.interactions import Interactions
from tfrec.errors import NothingToLearn
from tfrec.models.prior_timeline import PriorTimeline
from tfrec.models.recommender import Recommender
from tfrec.training.loop import Trainer, give_slots
from tfrec.training.progress import bar
from tfrec.training.slates.trainer import SlateTrainer
from tfrec.training.slates.window import SlateWindow

log = logging.getLogger(__name__)


def learn(config: Config, challenger: Recommender, optimizer: Any, inter: Interactions, targets: np.ndarray,
          shown: SlateWindow, timeline: PriorTimeline, *, seed: int) -> None:
    """Train the challenger, which holds its parent's weights, by the objectives of the configuration.

    Args:
        config: its `retrain` section.
        challenger: is changed.
        optimizer: goes on with the parent's moments.
        inter: the events before those that judge.
        targets: `[len(inter)]`, which of them are learnt.
        shown: the slates of the window.
        timeline: popularity over the time of the events.
        seed: of the order of batches.

    Raises:
        NothingToLearn: no objective finds anything in the window.
    """
    model = challenger.model
    tf.keras.utils.set_random_seed(config.training.seed)  # of the auxiliary heads, whatever this process did before
    model.average.restart()
    trainer = _trainer(challenger, inter, targets, shown, timeline)
    model.anchor.hold(config.retrain.l2_sp)  # to the parent
    with bar("retraining", total=trainer.steps * config.retrain.epochs) as advance:
        trainer.run(optimizer, epochs=range(seed, seed + config.retrain.epochs), advance=advance)
    model.average.swap()
    model.anchor.hold(0.0)


def _trainer(challenger: Recommender, inter: Interactions, targets: np.ndarray, shown: SlateWindow,
             timeline: PriorTimeline) -> Trainer | SlateTrainer:
    """What trains by the objectives of the configuration, or by those of them that can learn from the window."""
    objectives, unlearnt = challenger.config.retrain.objectives, []
    behaviour: Trainer | None = None
    slates: SlateTrainer | None = None
    if "softmax" in objectives:
        try:
            behaviour = Trainer(challenger, inter, targets, prior_weights=challenger.prior.weights, timeline=timeline)
        except NothingToLearn as e:
            unlearnt.append(e)
    if set(objectives) - {"softmax"}:
        give_slots(challenger, inter, timeline, slates=shown.learnt)
        try:
            slates = SlateTrainer(challenger, shown.learnt, shown.scorer, behaviour=behaviour)
        except NothingToLearn as e:
            unlearnt.append(e)
    trainer = behaviour if slates is None else slates
    if trainer is None:
        raise unlearnt[-1]
    for error in unlearnt:
        log.info("learnt by the other objectives alone: %s", error)
    return trainer


def not_finite(challenger: Recommender, optimizer: Any) -> str:
    """Which learnt variable holds NaN or an infinity, in words; "" when all are finite."""
    ranker = [] if challenger.ranker is None else challenger.ranker.variables
    learnt = [*challenger.model.variables, *challenger.head.variables, *ranker, *optimizer.variables]
    broken = [v.name for v in learnt if v.dtype.is_floating and not bool(tf.reduce_all(tf.math.is_finite(v)))]
    if not broken:
        return ""
    return (f"the challenger is not finite after training: {len(broken)} of {len(learnt)} variables hold NaN or an infinity, "
            f"such as {broken[0]}. Lower retrain.learning_rate, or look in the log for rewards and values of an unusual size")
