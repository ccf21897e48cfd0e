"""The loop that learns: a recommender and the events it may learn from in, the same recommender with other weights out.

Training from nothing and a retrain differ only in which events are targets, for how many epochs and at which rate. Each epoch
is one Keras `fit`, so strategies, TensorBoard and XLA work as they do for any Keras model.
"""
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrec.config import Config, TrainingConfig
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.examples.sequences import windows
from tfrec.errors import NothingToLearn
from tfrec.models.prior_snapshots import snapshots
from tfrec.models.recommender import Recommender
from tfrec.training.batches import WindowBatches
from tfrec.training.devices import compiles
from tfrec.training.progress import Advance

SNAPSHOTS = 1024  # of log p over the training time, at most
FEW = 12  # batches of full width, as a retrain has: to trace a step for narrower ones takes longer than it saves
SNAPSHOT_FLOATS = 1 << 26  # 256 MB: a catalogue of a million items is given 64 snapshots

keras = tf.keras


def optimiser(config: Config, *, learning_rate: float) -> keras.optimizers.Optimizer:
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101). Call inside the scope of the strategy."""
    return keras.optimizers.AdamW(learning_rate, weight_decay=config.training.weight_decay)


class Trainer:
    """What one training reads: windows, snapshots of the prior, and the residual slots given out.

    Args:
        recommender: gets slots for the items of the events before `end`.
        inter: events in protocol order, by the recommender's catalogue.
        targets: `[len(inter)]`, which events are learnt.
        prior_weights: of the popularity mixture.
        snapshots_at_most: of log p over the time of the targets.
        one_shape: whether all batches have the full length; by default where tracing costs more than padding.

    Raises:
        NothingToLearn: no target has an earlier event of its user.
    """

    def __init__(self, recommender: Recommender, inter: Interactions, targets: npt.NDArray[np.bool_], *,
                 prior_weights: npt.NDArray[np.float64], snapshots_at_most: int = SNAPSHOTS, one_shape: bool = False) -> None:
        config = recommender.config
        self.recommender = recommender
        found = windows(inter, length=config.model.history, learn=targets)
        if not len(found):
            raise NothingToLearn(f"nothing to learn: of {int(targets.sum())} events none has an earlier event of the same user. "
                                 "Expected users with at least two events in different seconds.")
        learnt = np.flatnonzero(targets)
        give_slots(recommender, inter.slice(0, int(learnt[-1]) + 1))
        count = min(snapshots_at_most, max(1, SNAPSHOT_FLOATS // len(inter.items)), len(learnt))
        edges = learnt[np.linspace(0, len(learnt), count, endpoint=False).astype(np.int64)]
        log_p, first_touch = snapshots(inter, weights=prior_weights, edges=edges)
        recommender.model.store.set_prior(log_p, first_touch)
        snapshot = np.maximum(np.searchsorted(edges, np.arange(len(inter)), side="right") - 1, 0).astype(np.int32)
        strategy = tf.distribute.get_strategy()
        one_shape = one_shape or isinstance(strategy, tf.distribute.TPUStrategy)
        self._input = WindowBatches(
            found, recommender.action_codes(inter.actions), snapshot, log_p[snapshot, inter.item],
            batch_size=config.training.batch_size, replicas=strategy.num_replicas_in_sync,
            one_shape=one_shape or len(found) <= FEW * config.training.batch_size,
        )
        self.steps = self._input.steps  # optimiser steps an epoch

    def run(self, optimizer: keras.optimizers.Optimizer, *, epochs: range, advance: Advance | None = None,
            log_dir: Path | None = None, after: Callable[[int, float], bool] | None = None) -> None:
        """Train the epochs numbered in `epochs`.

        Args:
            optimizer: its state goes on from where it is.
            epochs: numbers decide the order of batches.
            advance: told about each step.
            log_dir: of TensorBoard, when wanted.
            after: called after each epoch with its number and loss; False ends the training.
        """
        optimizer.build(self.recommender.model.trainable_variables)  # left to the first step, that would be traced twice
        fit(self.recommender.model, optimizer, self.epoch, self.recommender.config.training, epochs=epochs, advance=advance,
            log_dir=log_dir, after=after)

    def epoch(self, seed: int, epoch: int) -> tf.data.Dataset:
        """The batches of one epoch."""
        return self._input.epoch(seed, epoch)


def give_slots(recommender: Recommender, inter: Interactions) -> None:
    """Give the items of `inter` residual slots."""
    last_seen = np.zeros(len(inter.items), np.int64)
    np.maximum.at(last_seen, inter.item, inter.time)
    recommender.give_slots(inter.item, last_seen)


def fit(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, batches: Callable[[int, int], tf.data.Dataset],
    training: TrainingConfig, *, epochs: range, advance: Advance | None = None, log_dir: Path | None = None,
    after: Callable[[int, float], bool] | None = None,
) -> None:
    """Train `model` on the `batches` of (seed, epoch); the rest as in `Trainer.run`."""
    model.compile(optimizer=optimizer, jit_compile=compiles(training.jit_compile, on_gpu=False))
    callbacks: list[keras.callbacks.Callback] = [Ticks(advance)] if advance else []
    if log_dir is not None:
        callbacks.append(keras.callbacks.TensorBoard(str(log_dir), write_graph=False, profile_batch=0))
    for epoch in epochs:
        history = model.fit(batches(training.seed, epoch), epochs=epoch + 1, initial_epoch=epoch, verbose=0, callbacks=callbacks)
        if after is not None and not after(epoch, float(history.history["loss"][-1])):
            return


class Ticks(keras.callbacks.Callback):
    """Tells a progress bar about each step."""

    def __init__(self, advance: Advance) -> None:
        super().__init__()
        self._advance = advance

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._advance(1)


def log_likelihood(scores: npt.NDArray[np.floating], items: npt.NDArray[np.integer]) -> float:
    """Sum over rows of log softmax(scores)[item]; -inf takes an item out."""
    own, top = scores[np.arange(len(items)), items], scores.max(1)
    return float(np.sum(own - top - np.log(np.exp(scores - top[:, None]).sum(1))))
