"""Which positions of a slate exist. Every loss on slates asserts its shapes here, and keeps out what does not exist.

Slates differ in length, so the arrays of a batch have positions that do not exist, and what those hold is arbitrary: a NaN
propensity, the logarithm of 0. A factor of 0 does not take that out of a sum (0 * inf is NaN), nor out of a gradient. Each loss
therefore replaces it before its formula, and takes the formula's value out after it: the "double where".
"""
import tensorflow as tf


def masked(mask: tf.Tensor, **arrays: tf.Tensor) -> list[tf.Tensor]:
    """The `arrays` with 0 where the mask does not hold.

    Args:
        mask: Bool, `[batch, K]`.
        **arrays: Floats of the mask's shape.

    Raises:
        ValueError: A shape or type is another one; the message names the array, what was expected and what came.
    """
    if mask.dtype != tf.bool or mask.shape.rank != 2:
        raise ValueError(f"mask: expected bool [batch, K], got {mask.dtype.name} {mask.shape}.")
    for name, array in arrays.items():
        array_shape = tf.convert_to_tensor(array).shape
        if array_shape.rank != 2 or not array_shape.is_compatible_with(mask.shape):
            raise ValueError(f"{name}: expected the mask's shape {mask.shape}, [batch, K], got {array_shape}.")
    return [tf.where(mask, array, tf.zeros([], array.dtype)) for array in map(tf.convert_to_tensor, arrays.values())]


def masked_sum(mask: tf.Tensor, terms: tf.Tensor) -> tf.Tensor:
    """The sum of the `terms` `[batch, K]` where the mask holds."""
    return tf.reduce_sum(tf.where(mask, terms, 0.0))


def slate_length(mask: tf.Tensor) -> tf.Tensor:
    """K of each slate, float `[batch, 1]`; 1 for one without any position."""
    return tf.maximum(tf.reduce_sum(tf.cast(mask, tf.float32), axis=1, keepdims=True), 1.0)
