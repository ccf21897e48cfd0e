"""The query tower: causal attention over a user's events, each an (item, action, time until the next event, position).

One pass over a window of L events gives the L queries that a user would have asked after each of them. Serving reads only the
newest, so the last block then computes no other. This is self-attentive sequential recommendation (Kang & McAuley 2018,
arXiv:1808.09781) with pre-norm.
"""
from typing import Any

import tensorflow as tf

from tfrec.models.dropout import Noise, dropout

keras = tf.keras
HIDDEN = -1e9  # added to a logit that must not count; finite, so that no gradient is infinite
# of all layer norms. Keras's own is 1e-3, with which a graph does not run beside a GPU on a processor for which TensorFlow has
# oneDNN (No registered '_MklLayerNorm' OpKernel for 'GPU' devices)
EPSILON = 1e-6
GAP_BUCKETS = 33  # bucket 0: unknown; 1 + floor(log2(1 + seconds)) up to 2**31 s, 68 years


def gap_bucket(seconds: tf.Tensor) -> tf.Tensor:
    """Bucket of a gap: 0 for unknown (negative), else 1 + floor(log2(1 + seconds)), finer for minutes than for years."""
    # float32 rounds 2**k - 1 up from k = 24 on: a bucket's edge moves by less than a millionth
    log2 = tf.math.log(tf.cast(tf.maximum(seconds, 0), tf.float32) + 1.0) / 0.6931471805599453
    known = tf.clip_by_value(1 + tf.cast(tf.floor(log2 + 1e-6), tf.int32), 1, GAP_BUCKETS - 1)
    return tf.where(seconds < 0, tf.zeros_like(known), known)


class CausalBlock(keras.layers.Layer):
    """Attention to earlier positions and a feed-forward layer, each added to its input: `[batch, length, dim]` -> same.

    Args:
        dim: Dimension of the states; a multiple of `heads`.
        heads: Attention heads.
        rate: Dropout of what is added.
    """

    def __init__(self, *, dim: int, heads: int, rate: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dim, self.heads, self.rate = dim, heads, rate
        self.attention_norm = keras.layers.LayerNormalization(epsilon=EPSILON, name="attention_norm")
        self.qkv = keras.layers.Dense(3 * dim, name="qkv")
        self.mix = keras.layers.Dense(dim, name="mix")
        self.inner_norm = keras.layers.LayerNormalization(epsilon=EPSILON, name="inner_norm")
        self.expand = keras.layers.Dense(4 * dim, activation="gelu", name="expand")
        self.contract = keras.layers.Dense(dim, name="contract")

    def call(self, x: tf.Tensor, hidden: tf.Tensor, noise: Noise | None = None, at: tf.Tensor | None = None) -> tf.Tensor:
        """New states `[batch, length, dim]` of states `x`; with `at`, those of one position a row, `[batch, 1, dim]`.

        Args:
            x: `[batch, length, dim]`.
            hidden: `[batch or 1, 1, length, length]`, added to the attention logits: 0 to see, large and negative to hide. With
                `at` it is `[batch, 1, 1, length]`.
            noise: Of dropout; None when serving.
            at: `[batch]`, the positions to compute; None for all.
        """
        length, size = tf.shape(x)[1], self.dim // self.heads
        flat = tf.reshape(x, [-1, self.dim])  # a dense layer is 2 operators on a matrix and 25 on anything above
        parts = tf.reshape(self.qkv(self.attention_norm(flat)), [-1, length, 3, self.heads, size])
        q, k, v = tf.unstack(tf.transpose(parts, [2, 0, 3, 1, 4]))
        if at is not None:
            q, length = tf.gather(q, at[:, None], axis=2, batch_dims=1), 1
            flat = tf.gather(x, at, batch_dims=1)
        weights = tf.nn.softmax(tf.matmul(q * size**-0.5, k, transpose_b=True) + hidden)
        mixed = tf.reshape(tf.transpose(tf.matmul(weights, v), [0, 2, 1, 3]), [-1, self.dim])
        flat += dropout(self.mix(mixed), self.rate, noise)
        flat += dropout(self.contract(self.expand(self.inner_norm(flat))), self.rate, noise)
        return tf.reshape(flat, [-1, length, self.dim])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return super().get_config() | {"dim": self.dim, "heads": self.heads, "rate": self.rate}


class QueryTower(keras.layers.Layer):
    """Unit vectors `[batch, length, dim]`, one after each event of the history.

    Args:
        dim: Dimension of the shared space; a multiple of `heads`.
        layers: Number of `CausalBlock`s.
        heads: Attention heads.
        length: Events of a window; longer histories are cut to the newest before they come here.
        actions: Number of action codes; a code at or above is read as the last.
        rate: Dropout.
    """

    def __init__(self, *, dim: int, layers: int, heads: int, length: int, actions: int, rate: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sizes = {"dim": dim, "layers": layers, "heads": heads, "length": length, "actions": actions, "rate": rate}
        self.place, self.gap, self.action = (
            self.add_weight(name=name, shape=[rows, dim], initializer=keras.initializers.RandomNormal(stddev=0.02))
            for name, rows in (("place", length), ("gap", GAP_BUCKETS), ("action", actions))
        )
        self.input_norm = keras.layers.LayerNormalization(epsilon=EPSILON, name="input_norm")
        self.blocks = [CausalBlock(dim=dim, heads=heads, rate=rate, name=f"block_{i}") for i in range(layers)]
        self.output_norm = keras.layers.LayerNormalization(epsilon=EPSILON, name="output_norm")
        self.project = keras.layers.Dense(dim, name="project")

    def call(
        self, items: tf.Tensor, action: tf.Tensor, gap_s: tf.Tensor, noise: Noise | None = None, at: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Queries `[batch, length, dim]` after each event or, with `at`, after one event a row, `[batch, 1, dim]`.

        Args:
            items: `[batch, length, dim]`, item vectors.
            action: `[batch, length]`, action codes.
            gap_s: `[batch, length]`, seconds until the next event; negative for unknown.
            noise: Of dropout; None when serving.
            at: `[batch]`, positions of the events; None for all.
        """
        length, dim = tf.shape(items)[1], self.sizes["dim"]
        # unit vectors have elements of size dim**-.5; the other parts start at .02
        x = items * dim**0.5 + self.place[:length]
        x += tf.gather(self.gap, gap_bucket(gap_s)) + tf.gather(self.action, tf.minimum(action, self.sizes["actions"] - 1))
        x = dropout(self.input_norm(tf.reshape(x, [-1, dim])), self.sizes["rate"], noise)
        x = tf.reshape(x, [-1, length, dim])
        positions = tf.range(length)
        hidden = tf.where(positions[:, None] >= positions[None, :], 0.0, HIDDEN)[None, None]
        for block in self.blocks if at is None else self.blocks[:-1]:
            x = block(x, hidden, noise)
        if at is not None:
            hidden, length = tf.where(positions <= at[:, None], 0.0, HIDDEN)[:, None, None], 1
            x = self.blocks[-1](x, hidden, noise, at) if self.blocks else tf.gather(x, at[:, None], batch_dims=1)
        x = self.output_norm(tf.reshape(x, [-1, dim]))
        return tf.reshape(tf.math.l2_normalize(self.project(x), axis=-1), [-1, length, dim])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return super().get_config() | self.sizes
