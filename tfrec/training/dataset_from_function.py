"""A `tf.data.Dataset` of batches that a Python function makes; everything that is trained here is fed by it.

Each batch is a function of its number alone. `Dataset.from_generator` is not used: in TensorFlow 2.21 it sets
`M_TRIM_THRESHOLD` of the process to 128 kB, so every larger tensor is given back to the system and faulted in again. A training
on two CPU cores took 1.2 times as long.

`tf.numpy_function` keeps what it is given until the process ends. So it is given the number of a function and never the function
itself, which holds all events of a training.
"""
import itertools
import weakref
from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
import tensorflow as tf

PREFETCH = 2  # batches that are made while one is trained on

_numbers = itertools.count()
_makers: dict[int, Callable[[int], Mapping[str, np.ndarray]]] = {}  # of the datasets that are in use


def dataset_from_function(make_batch: Callable[[int], Mapping[str, np.ndarray]], signature: Mapping[str, tf.TensorSpec], *,
                          steps: int) -> tf.data.Dataset:
    """Return the batches numbered 0 to `steps` - 1, in this order. They are made in the background, one at a time.

    Args:
        make_batch: returns the arrays of a batch, given its number. Arrays that `signature` does not name are dropped.
        signature: shape and type of each array.
        steps: number of batches.
    """
    source = next(_numbers)
    _makers[source] = make_batch
    batch = _reader(tuple(signature.items()))

    @tf.autograph.experimental.do_not_convert  # nothing below branches on a tensor
    def numbered(step: tf.Tensor) -> dict[str, tf.Tensor]:
        return batch(tf.constant(source, tf.int64), step)

    options = tf.data.Options()
    options.autotune.enabled = False  # nothing is tuned, and the end of an iterator would wait up to a minute for the tuner
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    data = tf.data.Dataset.range(steps).map(numbered).prefetch(PREFETCH).with_options(options)
    weakref.finalize(data, _makers.pop, source).atexit = False
    return data


@lru_cache
def _reader(signature: tuple[tuple[str, tf.TensorSpec], ...]) -> Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]:
    """A graph that asks the maker of a number for its batch `step`. It is traced once for all datasets of a signature."""

    def arrays(source: np.int64, step: np.int64) -> list[np.ndarray]:
        batch = _makers[int(source)](int(step))
        return [batch[name] for name, _ in signature]

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.int64)])
    def tensors(source: tf.Tensor, step: tf.Tensor) -> dict[str, tf.Tensor]:
        found = tf.numpy_function(arrays, [source, step], [spec.dtype for _, spec in signature])
        return {name: tf.ensure_shape(tensor, spec.shape) for (name, spec), tensor in zip(signature, found, strict=True)}

    return tensors
