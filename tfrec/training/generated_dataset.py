"""Batches that Python makes, as a `tf.data.Dataset`: one piece for all inputs.

Each batch is a function of its number alone. `Dataset.from_generator` is not used: in TensorFlow 2.21 it sets
`M_TRIM_THRESHOLD` of the process to 128 kB, so that every larger tensor is given back to the system and faulted in again; a
training on two CPU cores took 1.2 times as long.
"""
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

PREFETCHED = 2  # batches that are made while one is trained on


def dataset(batch: Callable[[int], Mapping[str, np.ndarray]], signature: Mapping[str, tf.TensorSpec], *,
            steps: int) -> tf.data.Dataset:
    """The batches numbered 0 to `steps` - 1, in order, made beside the training and never two at once.

    Args:
        batch: the arrays of a batch, by its number.
        signature: of each array.
        steps: how many batches there are.
    """
    names = list(signature)

    def arrays(step: np.int64) -> list[np.ndarray]:
        made = batch(int(step))
        return [made[name] for name in names]

    @tf.autograph.experimental.do_not_convert  # nothing below branches on a tensor
    def tensors(step: tf.Tensor) -> dict[str, tf.Tensor]:
        found = dict(zip(names, tf.numpy_function(arrays, [step], [signature[name].dtype for name in names]), strict=True))
        return {name: tf.ensure_shape(tensor, signature[name].shape) for name, tensor in found.items()}

    options = tf.data.Options()
    options.autotune.enabled = False  # nothing is tuned, and an iterator's end would wait for its tuner, up to a minute
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return tf.data.Dataset.range(steps).map(tensors).prefetch(PREFETCHED).with_options(options)
