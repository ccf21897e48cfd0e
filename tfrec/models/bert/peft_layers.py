"""The layers that PEFT methods add to BERT.

    lora       y = x W + b + (x A) B s               A [in, r], B [r, out], s = 2   (Hu et al. 2021, arXiv:2106.09685)
    adapters   y = z + gelu(z D + d) U + u           z the sublayer's output        (Houlsby et al. 2019, arXiv:1902.00751)
    prefix     p keys and values that every token of a layer attends to as well     (Li & Liang 2021, arXiv:2101.00190)

B and U start at zero, so the encoder is unchanged at first. A prefix cannot start so: a logit of its own keeps its weight low.
"""
from typing import Any

import tensorflow as tf

keras = tf.keras

LORA_SCALE = 2.0  # s: alpha / r with alpha = 2 r, which keeps the meaning of the learning rate when r changes
PREFIX_LOGIT = -4.0  # the start: a weight of e^-4, 2% of that of a token whose logit is 0


@tf.custom_gradient
def _low_rank_product(x: tf.Tensor, kernel: tf.Tensor, a: tf.Tensor, b: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """Compute x (W + s A B) as one product forward and one backward; W itself has no gradient.

    To add the matrices costs little beside a product with a batch of tokens.
    """
    merged = kernel + tf.matmul(a, b) * LORA_SCALE

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, None, tf.Tensor, tf.Tensor]:
        by_xa = tf.matmul(upstream, b, transpose_b=True) * LORA_SCALE
        return (tf.matmul(upstream, merged, transpose_b=True), None, tf.matmul(x, by_xa, transpose_a=True),
                tf.matmul(tf.matmul(x, a), upstream, transpose_a=True) * LORA_SCALE)

    return tf.matmul(x, merged), gradient


class LowRank(keras.layers.Layer):
    """A dense layer with a low-rank matrix beside its kernel."""

    def __init__(self, dense: keras.layers.Dense, rank: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense = dense
        into, out = dense.kernel.shape
        # uniform in +-1/sqrt(in), as in the reference implementation
        start = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform", seed=int(out))
        self.a = self.add_weight(name="a", shape=[into, rank], initializer=start)
        self.b = self.add_weight(name="b", shape=[rank, out], initializer="zeros")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """`[rows, in]` -> `[rows, out]`."""
        kernel, a, b = map(tf.convert_to_tensor, (self.dense.kernel, self.a, self.b))
        return tf.nn.bias_add(_low_rank_product(x, kernel, a, b), self.dense.bias)

    def merged(self) -> keras.layers.Dense:
        """Add the low-rank matrix to the kernel, and return the dense layer alone."""
        self.dense.kernel.assign_add(tf.matmul(self.a, self.b) * LORA_SCALE)
        return self.dense


class Adapted(keras.layers.Layer):
    """A dense layer with an adapter after it."""

    def __init__(self, dense: keras.layers.Dense, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense = dense
        out = int(dense.kernel.shape[1])
        self.down = keras.layers.Dense(width, activation=tf.nn.gelu, kernel_initializer=keras.initializers.RandomNormal(
            stddev=0.02, seed=out), name="down")
        self.up = keras.layers.Dense(out, kernel_initializer="zeros", name="up")
        self.up(self.down(tf.zeros([1, out])))

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """`[rows, in]` -> `[rows, out]`."""
        z = self.dense(x)
        return z + self.up(self.down(z))


class Prefix(keras.layers.Layer):
    """Learnt keys and values before those of the text."""

    def __init__(self, *, length: int, heads: int, size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sizes = {"length": length, "heads": heads, "size": size}
        shape, normal = [heads, length, size], keras.initializers.RandomNormal
        self.keys = self.add_weight(name="keys", shape=shape, initializer=normal(stddev=0.02, seed=1))
        self.values = self.add_weight(name="values", shape=shape, initializer=normal(stddev=0.02, seed=2))
        self.logits = self.add_weight(name="logits", shape=shape[:2], initializer=keras.initializers.Constant(PREFIX_LOGIT))

    def call(self, k: tf.Tensor, v: tf.Tensor, mask_bias: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Keys and values `[batch, heads, tokens, size]` and their bias `[batch, 1, 1, tokens]`, each longer by the prefix."""
        batch, tokens = tf.shape(k)[0], tf.shape(k)[2]
        heads, length = self.logits.shape
        k = tf.concat([tf.repeat(self.keys[None], batch, axis=0), k], axis=2)
        v = tf.concat([tf.repeat(self.values[None], batch, axis=0), v], axis=2)
        logits = tf.broadcast_to(self.logits[None, :, None, :], [batch, heads, 1, length])
        return k, v, tf.concat([logits, tf.broadcast_to(mask_bias, [batch, heads, 1, tokens])], axis=3)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return super().get_config() | self.sizes
