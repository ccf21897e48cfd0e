"""Batches of training examples and of held-out ones, all of one shape, in an order that is a function of (seed, epoch)."""
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrec.models.pretrained.prompts import Role
from tfrec.models.text_encoder import STEP, TextEncoder
from tfrec.training.dataset_from_function import dataset_from_function

Ints = npt.NDArray[np.int64]


class ExampleBatches:
    """Splits examples into batches; the last batch of an epoch is filled up with examples of weight 0.

    Args:
        arrays: returns the arrays of some rows, among them `weight`; the generator is for what is drawn beside them.
        training: rows of the training examples.
        held_out: rows of the examples that validate.
        batch_size: examples in a batch, over all replicas.
        seed: of the order.
        first_epoch: the lowest number of an epoch.
    """

    def __init__(self, arrays: Callable[[Ints, np.random.Generator], dict[str, np.ndarray]], *, training: Ints, held_out: Ints,
                 batch_size: int, seed: int, first_epoch: int = 0) -> None:
        self._arrays, self._training, self._held_out = arrays, training, held_out
        self._batch_size, self._seed, self._first_epoch = batch_size, seed, first_epoch
        self.steps = -(-len(training) // batch_size)  # batches in an epoch

    def epoch(self, number: int) -> tf.data.Dataset:
        """Return the training batches of one epoch."""
        return self._batches(self._training, (self._seed, number - self._first_epoch))

    def validation(self) -> tf.data.Dataset:
        """Return the held-out batches, always in the same order. It is shuffled: neighbours in a file are often alike."""
        return self._batches(self._held_out, (0,))

    def _batches(self, rows: Ints, seed: tuple[int, ...]) -> tf.data.Dataset:
        order, size = np.random.default_rng(list(seed)).permutation(rows), self._batch_size

        def make_batch(step: int) -> dict[str, np.ndarray]:
            part = order[step * size : (step + 1) * size]
            arrays = self._arrays(np.resize(part, size), np.random.default_rng([*seed, step]))
            return arrays | {"weight": np.where(np.arange(size) < len(part), arrays["weight"], 0).astype(np.float32)}

        signature = {name: tf.TensorSpec(array.shape, array.dtype)
                     for name, array in self._arrays(np.resize(rows, size), np.random.default_rng(0)).items()}
        return dataset_from_function(make_batch, signature, steps=-(-len(rows) // size))


def multiple_of_replicas(size: int) -> int:
    """Return `size` rounded down to a multiple of the number of replicas, and at least one for each."""
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    return int(max(1, size // replicas) * replicas)


def token_ids(encoder: TextEncoder, texts: Sequence[str], *, role: Role) -> npt.NDArray[np.int32]:
    """Return token ids `[len(texts), tokens]`, as wide as the longest text, rounded up so that shapes are few."""
    ids: npt.NDArray[np.int32] = encoder.token_ids(texts, role=role)
    longest = int((ids != encoder.tokenizer.pad).sum(1).max(initial=2))
    return ids[:, : min(-(-longest // STEP) * STEP, ids.shape[1])]
