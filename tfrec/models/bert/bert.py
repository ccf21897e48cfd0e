"""BERT (Devlin et al. 2019, arXiv:1810.04805) and its kin DistilBERT and XLM-R, as Keras 2 layers.

They are written here because `transformers` 5 has no TensorFlow models and the last 4.x fails on safetensors. Queries, keys and
values are one matrix product. The rest follows the paper, so a checkpoint gives the same hidden states as in PyTorch. The
families differ in two ways: DistilBERT has no segments, and XLM-R counts positions from the id of its padding.
"""
from collections.abc import Callable
from typing import Any

import tensorflow as tf

import tfrec.models.bert.precision  # noqa: F401  matrix products are in full float32
from tfrec.models.bert.peft_config import PeftConfig

keras = tf.keras
DropoutFn = Callable[[tf.Tensor], tf.Tensor]  # a tensor with dropout applied
ACTIVATIONS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "gelu": lambda x: tf.nn.gelu(x, approximate=False), "gelu_tanh": lambda x: tf.nn.gelu(x, approximate=True),
    "relu": tf.nn.relu, "silu": tf.nn.silu}


class BertLayer(keras.layers.Layer):
    """Self-attention and feed-forward, each followed by its residual and a layer norm.

    Args:
        width: of the hidden states.
        heads: of attention; they divide `width`.
        inner: width of the feed-forward layer.
        epsilon: of layer norms.
        activation: a key of `ACTIVATIONS`.
    """

    def __init__(self, *, width: int, heads: int, inner: int, epsilon: float, activation: str = "gelu",
                 **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width, self.heads, self.inner, self.epsilon, self.activation = width, heads, inner, epsilon, activation
        self.qkv = keras.layers.Dense(3 * width, name="qkv")
        self.attention_output = keras.layers.Dense(width, name="attention_output")
        self.attention_norm = keras.layers.LayerNormalization(epsilon=epsilon, name="attention_norm")
        self.intermediate = keras.layers.Dense(inner, name="intermediate")
        self.output_dense = keras.layers.Dense(width, name="output")
        self.output_norm = keras.layers.LayerNormalization(epsilon=epsilon, name="output_norm")
        self.prefix: keras.layers.Layer | None = None  # a `peft_layers.Prefix`

    def call(self, x: tf.Tensor, mask_bias: tf.Tensor, dropout_fn: DropoutFn | None = None) -> tf.Tensor:
        """`[batch * tokens, width]` -> the same shape.

        Args:
            x: hidden states.
            mask_bias: `[batch, 1, 1, tokens]`, added to the attention logits: 0 keeps a token, a large negative number hides it.
            dropout_fn: applied where the paper has dropout, before each residual is added; None when serving.
        """
        batch, tokens = tf.shape(mask_bias)[0], tf.shape(mask_bias)[3]
        size = self.width // self.heads
        qkv = tf.reshape(self.qkv(x), [batch, tokens, 3, self.heads, size])
        q, k, v = tf.unstack(tf.transpose(qkv, [2, 0, 3, 1, 4]))
        if self.prefix is not None:
            k, v, mask_bias = self.prefix(k, v, mask_bias)
        weights = tf.nn.softmax(tf.matmul(q * size**-0.5, k, transpose_b=True) + mask_bias)
        attended = tf.reshape(tf.transpose(tf.matmul(weights, v), [0, 2, 1, 3]), [-1, self.width])
        update = self.attention_output(attended)
        x = self.attention_norm(x + (update if dropout_fn is None else dropout_fn(update)))
        update = self.output_dense(ACTIVATIONS[self.activation](self.intermediate(x)))
        return self.output_norm(x + (update if dropout_fn is None else dropout_fn(update)))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return super().get_config() | {"width": self.width, "heads": self.heads, "inner": self.inner, "epsilon": self.epsilon,
                                       "activation": self.activation}


class Bert(keras.layers.Layer):
    """Embeddings and a stack of layers; attention does not see the token id `pad`.

    Args:
        positions: rows of the position embeddings.
        first_position: the row of a text's first token.
        segments: whether there are segment embeddings.
        vocabulary, width, heads, inner, layers, epsilon, pad, activation: as in `EncoderConfig` and `BertLayer`.
    """

    def __init__(self, *, vocabulary: int, width: int, heads: int, inner: int, layers: int, positions: int, epsilon: float,
                 pad: int, activation: str = "gelu", first_position: int = 0, segments: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sizes: dict[str, Any] = {"vocabulary": vocabulary, "width": width, "heads": heads, "inner": inner, "layers": layers,
                                      "positions": positions, "epsilon": epsilon, "pad": pad, "activation": activation,
                                      "first_position": first_position, "segments": segments}
        self.pad, self.first_position = pad, first_position
        self.peft_config: PeftConfig | None = None  # of its adapters or its prefix, if there are any
        self.words = keras.layers.Embedding(vocabulary, width, name="words")
        self.positions = keras.layers.Embedding(positions, width, name="positions")
        # every text is one segment, so the embedding of segment 0 is a bias
        self.segment = keras.layers.Embedding(1, width, name="segment") if segments else None
        self.norm = keras.layers.LayerNormalization(epsilon=epsilon, name="norm")
        self.blocks = [
            BertLayer(width=width, heads=heads, inner=inner, epsilon=epsilon, activation=activation, name=f"layer_{i}")
            for i in range(layers)
        ]

    def call(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Token ids `[batch, tokens]` -> hidden states `[batch, tokens, width]`."""
        x = self.through(self.embed(token_ids), token_ids, self.blocks)
        return tf.reshape(x, tf.concat([tf.shape(token_ids), [-1]], axis=0))

    def embed(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Token ids `[batch, tokens]` -> the input of the first layer, `[batch * tokens, width]`."""
        x = self.words(token_ids) + self.positions(self.first_position + tf.range(tf.shape(token_ids)[1]))
        if self.segment is not None:
            x += self.segment(tf.zeros([1], tf.int32))
        return tf.reshape(self.norm(x), [-1, self.sizes["width"]])

    def through(
        self, x: tf.Tensor, token_ids: tf.Tensor, blocks: list[BertLayer], dropout_fn: DropoutFn | None = None
    ) -> tf.Tensor:
        """Run `blocks` on hidden states `[batch * tokens, width]`; the result has the same shape."""
        is_text = tf.cast(token_ids != self.pad, tf.float32)
        mask_bias = (1.0 - is_text[:, None, None, :]) * -1e9
        for block in blocks:
            x = block(x, mask_bias, dropout_fn)
        return x

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return super().get_config() | self.sizes
