"""BERT (Devlin et al. 2019, arXiv:1810.04805) in Keras 2: token ids in, hidden states out; any Hugging Face BERT checkpoint.

Written here because `transformers` 5 has no TensorFlow models and the last 4.x fails on safetensors. Queries, keys and
values are one matrix product; the rest follows the paper, so a checkpoint gives the hidden states it gives in PyTorch.
"""
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.errors import ModelError
from tfrec.models import adapters
from tfrec.models.checkpoint_files import Checkpoint

keras = tf.keras
Thin = Callable[[tf.Tensor], tf.Tensor]  # what dropout does to a tensor


class BertLayer(keras.layers.Layer):
    """Self-attention and feed-forward, each with residual and layer norm after it: `[batch, tokens, width]` -> same."""

    def __init__(self, *, width: int, heads: int, inner: int, epsilon: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width, self.heads, self.inner, self.epsilon = width, heads, inner, epsilon
        self.qkv = keras.layers.Dense(3 * width, name="qkv")
        self.attention_output = keras.layers.Dense(width, name="attention_output")
        self.attention_norm = keras.layers.LayerNormalization(epsilon=epsilon, name="attention_norm")
        self.intermediate = keras.layers.Dense(inner, name="intermediate")
        self.output_dense = keras.layers.Dense(width, name="output")
        self.output_norm = keras.layers.LayerNormalization(epsilon=epsilon, name="output_norm")
        self.prefix: adapters.Prefix | None = None

    def call(self, x: tf.Tensor, mask_bias: tf.Tensor, thin: Thin | None = None) -> tf.Tensor:
        """`mask_bias` `[batch, 1, 1, tokens]` is added to the attention logits: 0 to keep, large and negative to hide.

        `thin` is dropout where the paper has it (before each residual is added), when training.
        """
        batch, tokens = tf.shape(mask_bias)[0], tf.shape(mask_bias)[3]
        size = self.width // self.heads
        qkv = tf.reshape(self.qkv(x), [batch, tokens, 3, self.heads, size])
        q, k, v = tf.unstack(tf.transpose(qkv, [2, 0, 3, 1, 4]))
        if self.prefix is not None:
            k, v, mask_bias = self.prefix(k, v, mask_bias)
        weights = tf.nn.softmax(tf.matmul(q * size**-0.5, k, transpose_b=True) + mask_bias)
        mixed = tf.reshape(tf.transpose(tf.matmul(weights, v), [0, 2, 1, 3]), [-1, self.width])
        added = self.attention_output(mixed)
        x = self.attention_norm(x + (added if thin is None else thin(added)))
        added = self.output_dense(tf.nn.gelu(self.intermediate(x), approximate=False))
        return self.output_norm(x + (added if thin is None else thin(added)))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"width": self.width, "heads": self.heads, "inner": self.inner, "epsilon": self.epsilon}


class Bert(keras.layers.Layer):
    """Hidden states `[batch, tokens, width]` for token ids `[batch, tokens]`; id `pad` is hidden from attention."""

    def __init__(self, *, vocabulary: int, width: int, heads: int, inner: int, layers: int, positions: int, epsilon: float,
                 pad: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sizes = {"vocabulary": vocabulary, "width": width, "heads": heads, "inner": inner, "layers": layers,
                      "positions": positions, "epsilon": epsilon, "pad": pad}
        self.pad = pad
        self.words = keras.layers.Embedding(vocabulary, width, name="words")
        self.positions = keras.layers.Embedding(positions, width, name="positions")
        # every text is one segment, so the embedding of segment 0 is a bias
        self.segment = keras.layers.Embedding(1, width, name="segment")
        self.norm = keras.layers.LayerNormalization(epsilon=epsilon, name="norm")
        self.blocks = [
            BertLayer(width=width, heads=heads, inner=inner, epsilon=epsilon, name=f"layer_{i}") for i in range(layers)
        ]

    def call(self, token_ids: tf.Tensor) -> tf.Tensor:
        x = self.through(self.embed(token_ids), token_ids, self.blocks)
        return tf.reshape(x, tf.concat([tf.shape(token_ids), [-1]], axis=0))

    def embed(self, token_ids: tf.Tensor) -> tf.Tensor:
        """What the first layer reads, `[batch * tokens, width]`."""
        x = self.words(token_ids) + self.positions(tf.range(tf.shape(token_ids)[1])) + self.segment(tf.zeros([1], tf.int32))
        return tf.reshape(self.norm(x), [-1, self.sizes["width"]])

    def through(self, x: tf.Tensor, token_ids: tf.Tensor, blocks: list[BertLayer], thin: Thin | None = None) -> tf.Tensor:
        """States `[batch * tokens, width]` after some of the layers, for the states before them."""
        kept = tf.cast(token_ids != self.pad, tf.float32)
        bias = (1.0 - kept[:, None, None, :]) * -1e9
        for block in blocks:
            x = block(x, bias, thin)
        return x

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | self.sizes


def load_bert(checkpoint: Checkpoint) -> Bert:
    """Build the encoder that `checkpoint` describes and fill in its weights.

    Raises:
        ModelError: when an array is absent or has another shape than the configuration says.
    """
    c = checkpoint.config
    bert = Bert(vocabulary=c.vocab_size, width=c.hidden_size, heads=c.num_attention_heads, inner=c.intermediate_size,
                layers=c.num_hidden_layers, positions=c.max_position_embeddings, epsilon=c.layer_norm_eps,
                pad=c.pad_token_id or 0, name="bert")
    bert(tf.zeros([1, 4], tf.int32))
    arrays = checkpoint.weights()

    def take(name: str, *shape: int) -> np.ndarray:
        if name not in arrays:
            raise ModelError(f"{checkpoint.directory}/model.safetensors: expected an array {name!r}, found none. "
                             "The file is not the weights of this configuration.")
        if arrays[name].shape != shape:
            raise ModelError(f"{checkpoint.directory}/model.safetensors: expected {name!r} of shape {list(shape)}, as "
                             f"config.json has it, got {list(arrays[name].shape)}. The files are of different checkpoints.")
        return arrays[name]

    def dense(out: int, into: int, *names: str) -> list[np.ndarray]:  # PyTorch keeps a matrix as [out, in]
        weights, biases = [take(f"{n}.weight", out, into).T for n in names], [take(f"{n}.bias", out) for n in names]
        return [np.concatenate(weights, axis=1), np.concatenate(biases)]

    def norm(name: str) -> list[np.ndarray]:
        return [take(f"{name}.weight", width), take(f"{name}.bias", width)]

    width, inner = c.hidden_size, c.intermediate_size
    bert.words.set_weights([take("embeddings.word_embeddings.weight", c.vocab_size, width)])
    bert.positions.set_weights([take("embeddings.position_embeddings.weight", c.max_position_embeddings, width)])
    bert.segment.set_weights([take("embeddings.token_type_embeddings.weight", c.type_vocab_size, width)[:1]])
    bert.norm.set_weights(norm("embeddings.LayerNorm"))
    for i, block in enumerate(bert.blocks):
        p = f"encoder.layer.{i}"
        block.qkv.set_weights(dense(width, width, *(f"{p}.attention.self.{n}" for n in ("query", "key", "value"))))
        block.attention_output.set_weights(dense(width, width, f"{p}.attention.output.dense"))
        block.attention_norm.set_weights(norm(f"{p}.attention.output.LayerNorm"))
        block.intermediate.set_weights(dense(inner, width, f"{p}.intermediate.dense"))
        block.output_dense.set_weights(dense(width, inner, f"{p}.output.dense"))
        block.output_norm.set_weights(norm(f"{p}.output.LayerNorm"))
    if (kept := adapters.Change.of(c)) is not None:
        change = adapters.apply(bert, kept)
        for name, variable in change.own.items():
            variable.assign(take(name, *variable.shape))
    return bert
