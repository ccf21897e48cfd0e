"""The training loop: `Trainer` prepares the batches of a recommender's behaviour, and `fit` trains on them epoch by epoch.

Training from scratch and retraining differ only in which events are targets, in the number of epochs and in the learning rate.
Each epoch is one Keras `fit`, so strategies, TensorBoard and XLA work as for any Keras model: `fit` calls `TwoTower.train_step`
with each batch, and that computes `TwoTower.compute_loss`, applies the gradients and moves the average of the weights.
"""
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrec.config import Config, TrainingConfig
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.examples.sequences import windows
from tfrec.data.examples.slate_arrays import SlateArrays
from tfrec.errors import NothingToLearn
from tfrec.models.prior_snapshots import snapshots
from tfrec.models.prior_timeline import PriorTimeline
from tfrec.models.recommender import Recommender
from tfrec.training.devices import compiles
from tfrec.training.progress import Advance
from tfrec.training.window_batches import WindowBatches

SNAPSHOTS = 1024  # of log p over the training time, at most
SNAPSHOT_FLOATS = 1 << 26  # of all snapshots, 256 MB: a catalogue of a million items gets 64 snapshots
FEW_BATCHES = 12  # of full length, as a retrain has: to trace a step for shorter ones takes longer than it saves

keras = tf.keras


def optimiser(config: Config, *, learning_rate: float) -> keras.optimizers.Optimizer:
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101). Call it inside the scope of the strategy."""
    return keras.optimizers.AdamW(learning_rate, weight_decay=config.training.weight_decay)


class Trainer:
    """Trains a recommender on behaviour. Making one gives out residual slots and hands the prior's snapshots to the model.

    Args:
        recommender: is trained in place; items of the events up to the last target get residual slots.
        inter: events in protocol order, coded by the recommender's catalogue.
        targets: `[len(inter)]`, whether each event is a training target.
        prior_weights: of the popularity mixture, by which popularity is counted over all of `inter`.
        timeline: popularity at and before the time of the targets, where it is known; nothing is counted then.
        snapshots_at_most: number of moments over the time of the targets at which popularity is counted.
        one_shape: whether all batches have the full length; this is the default where tracing costs more than padding.

    Raises:
        NothingToLearn: no target has an earlier event of the same user.
    """

    def __init__(self, recommender: Recommender, inter: Interactions, targets: npt.NDArray[np.bool_], *,
                 prior_weights: npt.NDArray[np.float64], timeline: PriorTimeline | None = None,
                 snapshots_at_most: int = SNAPSHOTS, one_shape: bool = False) -> None:
        config = recommender.config
        self.recommender = recommender
        found = windows(inter, length=config.model.history, learn=targets)
        if not len(found):
            raise NothingToLearn(f"nothing to learn: of {int(targets.sum())} events none has an earlier event of the same user. "
                                 "Expected users with at least two events in different seconds.")
        target_events = np.flatnonzero(targets)
        give_slots(recommender, inter.slice(0, int(target_events[-1]) + 1), timeline)
        if timeline is None:
            count = min(snapshots_at_most, max(1, SNAPSHOT_FLOATS // len(inter.items)), len(target_events))
            # spread evenly over the targets; each event reads the newest snapshot before it
            edges = target_events[np.linspace(0, len(target_events), count, endpoint=False).astype(np.int64)]
            log_p, first_touch = snapshots(inter, weights=prior_weights, edges=edges)
            snapshot = np.maximum(np.searchsorted(edges, np.arange(len(inter)), side="right") - 1, 0).astype(np.int32)
        else:
            known = timeline.since(int(inter.time[target_events[0]]))
            log_p, first_touch, snapshot = known.log_p, known.first_touch, known.at(inter.time)
        recommender.model.store.set_prior(log_p, first_touch)
        strategy, batch_size = tf.distribute.get_strategy(), config.training.batch_size
        one_shape = (one_shape or isinstance(strategy, tf.distribute.TPUStrategy) or len(found) <= FEW_BATCHES * batch_size)
        self.batches = WindowBatches(
            found, recommender.action_codes(inter.actions), snapshot, log_p[snapshot, inter.item], batch_size=batch_size,
            context=recommender.event_context(inter), replicas=strategy.num_replicas_in_sync, one_shape=one_shape)
        self.steps = self.batches.steps  # optimiser steps in an epoch
        self.model: keras.Model = recommender.model  # what `fit` trains

    def run(self, optimizer: keras.optimizers.Optimizer, *, epochs: range, advance: Advance | None = None,
            log_dir: Path | None = None, after: Callable[[int, float], bool] | None = None,
            callbacks: Sequence[keras.callbacks.Callback] = ()) -> None:
        """Train; the arguments are those of `fit`. The state of the optimiser goes on from where it is."""
        optimizer.build(self.recommender.model.trainable_variables)  # left to the first step, it would be traced twice
        fit(self.model, optimizer, self._epoch, self.recommender.config.training, epochs=epochs,
            advance=advance, log_dir=log_dir, after=after, callbacks=callbacks)

    def _epoch(self, seed: int, epoch: int) -> tf.data.Dataset:
        self.refresh()
        return self.batches.epoch(seed, epoch)

    def refresh(self) -> None:
        """Bring what the towers read up to what has been learnt. Texts are frozen here: there is nothing to do."""

    def resumable(self, optimizer: keras.optimizers.Optimizer) -> Any:
        """What of the training is saved beside the recommender: the optimiser of the towers."""
        return optimizer

    def finish(self) -> None:
        """Leave the weights at their moving average: the training is done."""
        self.recommender.model.average.swap()


def give_slots(recommender: Recommender, inter: Interactions, timeline: PriorTimeline | None = None, *,
               slates: SlateArrays | None = None) -> None:
    """Give residual slots to items with feedback; to be shown and skipped is feedback as well.

    Args:
        recommender: has the slots.
        inter: what people did.
        timeline: knows of events of other items.
        slates: what they were shown.
    """
    last_seen = np.zeros(len(inter.items), np.int64) if timeline is None else timeline.touched[1].copy()
    item, time = inter.item, inter.time
    if slates is not None:
        row, position = np.nonzero(slates.shown)
        item, time = np.append(item, slates.item[row, position]), np.append(time, slates.time[row])
    np.maximum.at(last_seen, item, time)
    recommender.give_slots(item, last_seen)


def fit(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, batches: Callable[[int, int], tf.data.Dataset],
    training: TrainingConfig, *, epochs: range, advance: Advance | None = None, log_dir: Path | None = None,
    after: Callable[[int, float], bool] | None = None, callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Train `model` for the epochs numbered in `epochs`.

    Args:
        model: says by its `constants` what a traced step cannot read anew; it is compiled where these or the optimiser changed.
        optimizer: built already.
        batches: returns the batches of (seed, epoch).
        training: the seed, and whether XLA compiles the step.
        epochs: the numbers decide the order of batches.
        advance: called after each step.
        log_dir: where TensorBoard's logs go; None writes none.
        after: called after each epoch with its number and mean loss; False ends the training.
        callbacks: of Keras, beside those of the progress and of TensorBoard.
    """
    jit = compiles(training.jit_compile, on_gpu=False)
    traced_for = f"{jit} {model.constants}"
    if getattr(model, "optimizer", None) is not optimizer or getattr(model, "traced_for", "") != traced_for:
        model.compile(optimizer=optimizer, jit_compile=jit)  # which throws a traced step away
        model.traced_for = traced_for
    called = [*callbacks, *([StepProgress(advance)] if advance else [])]
    if log_dir is not None:
        called.append(keras.callbacks.TensorBoard(str(log_dir), write_graph=False, profile_batch=0))
    for epoch in epochs:
        history = model.fit(batches(training.seed, epoch), epochs=epoch + 1, initial_epoch=epoch, verbose=0, callbacks=called)
        if after is not None and not after(epoch, float(history.history["loss"][-1])):
            return


class StepProgress(keras.callbacks.Callback):
    """Moves a progress bar on after each step."""

    def __init__(self, advance: Advance) -> None:
        super().__init__()
        self._advance = advance

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Count one step."""
        self._advance(1)
