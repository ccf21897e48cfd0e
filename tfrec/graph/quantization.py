"""Item vectors as the index stores them: in float32, or rounded to bfloat16 or int8, in a half or a quarter of the memory.

Rounded vectors are cast to float32 when they are read, so the query keeps its precision. That saves memory and not time: the cast
costs about what reading fewer bytes saves. int8 has a scale for each item, its largest coordinate divided by 127.
"""
from collections.abc import Callable
from typing import Literal

import numpy as np
import tensorflow as tf

Storage = Literal["float32", "bfloat16", "int8"]
Keep = Callable[[str, np.ndarray], tf.Variable]


class Vectors:
    """`[n, dim]` vectors in the graph.

    Args:
        vectors: float32.
        storage: how they are kept.
        keep: makes a variable of a name and a value.
    """

    def __init__(self, vectors: np.ndarray, storage: Storage, *, keep: Keep) -> None:
        self._dim = vectors.shape[1]
        self._scale: tf.Variable | None = None
        if storage == "int8":
            scale = np.maximum(np.abs(vectors).max(axis=1), 1e-30) / 127
            vectors = np.round(vectors / scale[:, None]).astype(np.int8)
            self._scale = keep("vector_scale", scale.astype(np.float32))
        else:
            vectors = vectors.astype(tf.dtypes.as_dtype(storage).as_numpy_dtype)
        self._stored = keep("vectors", vectors)

    def at(self, positions: tf.Tensor) -> tf.Tensor:
        """Vectors `[..., dim]` at `positions` `[...]`."""
        found = tf.cast(tf.gather(self._stored.value(), positions), tf.float32)
        return found if self._scale is None else found * tf.gather(self._scale.value(), positions)[..., None]

    def products(self, u: tf.Tensor, first: int | tf.Tensor = 0, last: int | tf.Tensor | None = None) -> tf.Tensor:
        """`<u, v>` `[batch, last - first]` of the vectors from `first` to `last`, all by default."""
        found = tf.matmul(u, tf.cast(self._stored[first:last], tf.float32), transpose_b=True)
        return found if self._scale is None else found * self._scale[first:last]

    def block_products(self, u: tf.Tensor, blocks: tf.Tensor, size: int) -> tf.Tensor:
        """`<u, v>` `[m, size]` of queries `[m, dim]` and the vectors in `blocks` `[m]`, of `size` consecutive vectors each."""
        found = tf.gather(tf.reshape(self._stored, [-1, size * self._dim]), blocks)
        found = tf.cast(tf.reshape(found, [-1, size, self._dim]), tf.float32)
        found = tf.matmul(u[:, None], found, transpose_b=True)[:, 0]
        return found if self._scale is None else found * tf.gather(tf.reshape(self._scale, [-1, size]), blocks)
