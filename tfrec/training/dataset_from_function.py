"""A `tf.data.Dataset` of batches that a Python function makes; everything that is trained here is fed by it.

Each batch is a function of its number alone. `Dataset.from_generator` is not used: in TensorFlow 2.21 it sets
`M_TRIM_THRESHOLD` of the process to 128 kB, so every larger tensor is given back to the system and faulted in again. A training
on two CPU cores took 1.2 times as long.
"""
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

PREFETCH = 2  # batches that are made while one is trained on


def dataset_from_function(make_batch: Callable[[int], Mapping[str, np.ndarray]], signature: Mapping[str, tf.TensorSpec], *,
                          steps: int) -> tf.data.Dataset:
    """Return the batches numbered 0 to `steps` - 1, in this order. They are made in the background, one at a time.

    Args:
        make_batch: returns the arrays of a batch, given its number. Arrays that `signature` does not name are dropped.
        signature: shape and type of each array.
        steps: number of batches.
    """
    names = list(signature)

    def arrays(step: np.int64) -> list[np.ndarray]:
        batch = make_batch(int(step))
        return [batch[name] for name in names]

    @tf.autograph.experimental.do_not_convert  # nothing below branches on a tensor
    def tensors(step: tf.Tensor) -> dict[str, tf.Tensor]:
        batch = dict(zip(names, tf.numpy_function(arrays, [step], [signature[name].dtype for name in names]), strict=True))
        return {name: tf.ensure_shape(tensor, signature[name].shape) for name, tensor in batch.items()}

    options = tf.data.Options()
    options.autotune.enabled = False  # nothing is tuned, and the end of an iterator would wait up to a minute for the tuner
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return tf.data.Dataset.range(steps).map(tensors).prefetch(PREFETCH).with_options(options)
