"""The text encoder: one unit vector a text, by prompt, tokenizer, BERT, pooling and what follows it in the checkpoint.

`encode` fills the cache of item vectors. It sorts texts by length, so that no batch computes more padding than it must.
"""
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import tensorflow as tf

from tfrec.config import TextConfig
from tfrec.models.bert.bert_files import load_bert
from tfrec.models.pretrained.checkpoint_files import fingerprint, read_checkpoint
from tfrec.models.pretrained.prompts import Role
from tfrec.models.pretrained.sentence_modules import Dense
from tfrec.models.tokenizer.tokenizer import EDGES, Tokenizer

STEP = 8  # token lengths are rounded up to multiples of this: few shapes to trace, at most 7 wasted tokens
READ_AT_ONCE = 4096  # texts whose characters are in memory at the same time
READING = 2  # changes when the same files and settings come to give other vectors


class TextEncoder(tf.Module):
    """Unit vectors `[batch, width]` for texts `[batch]`; an empty text gives the zero vector.

    Args:
        checkpoint: Directory, installed package or hub id of an encoder in Hugging Face's layout.
        max_tokens: Word pieces that are read, [CLS] and [SEP] included.
        query_prompt: What stands before a query's text; None for what the checkpoint says.
        item_prompt: The same before an item's text.

    Raises:
        ModelError: The checkpoint cannot be read, or asks for something that is not implemented.
    """

    def __init__(self, checkpoint: str, *, max_tokens: int, query_prompt: str | None = None,
                 item_prompt: str | None = None) -> None:
        super().__init__(name="text_encoder")
        files = read_checkpoint(checkpoint)
        self.checkpoint = checkpoint
        self.tokenizer = Tokenizer(files.tokenizer, max_tokens=min(max_tokens, files.max_tokens),
                                   prompts=files.modules.prompts.override(query=query_prompt, item=item_prompt))
        self.bert = load_bert(files)
        self.files, self.pooling = files, files.modules.pooling
        self.width = files.modules.width(files.config.width)
        self._after = [_dense(module) if isinstance(module, Dense) else _unit for module in files.modules.post_pooling]
        self._compiled = tf.function(self.pool, input_signature=[tf.TensorSpec([None, None], tf.int32)], autograph=False)

    def pool(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Unit vectors `[batch, width]` of token ids `[batch, tokens]`; zero for a text of nothing but [CLS] and [SEP]."""
        return self.pool_states(self.bert(token_ids), token_ids)

    def pool_states(self, states: tf.Tensor, token_ids: tf.Tensor) -> tf.Tensor:
        """As `pool`, of the hidden states `[batch, tokens, width]` that BERT gives for the token ids."""
        kept = tf.cast(token_ids != self.tokenizer.pad, states.dtype)[:, :, None]
        count = tf.reduce_sum(kept, axis=1)
        if self.pooling == "cls":
            pooled = states[:, 0]
        else:
            pooled = tf.reduce_sum(states * kept, axis=1) / (tf.sqrt(count) if self.pooling == "mean_sqrt_len" else count)
        for module in self._after:
            pooled = module(pooled)
        return _unit(pooled) * tf.cast(count > EDGES, states.dtype)

    def __call__(self, texts: tf.Tensor, *, role: Role = "item") -> tf.Tensor:
        """Unit vectors `[batch, width]` of strings `[batch]`."""
        return self.pool(self.tokenizer(texts, role=role, pad_to_max=False))

    def token_ids(self, texts: Sequence[str], *, role: Role) -> np.ndarray:
        """Token ids `[len(texts), max_tokens]`, int32, padded."""
        parts = [self.tokenizer(tf.constant(texts[i : i + READ_AT_ONCE], tf.string), role=role, pad_to_max=True).numpy()
                 for i in range(0, len(texts), READ_AT_ONCE)]
        return np.concatenate([np.zeros((0, self.tokenizer.max_tokens), np.int32), *parts])

    def encode(self, texts: Sequence[str], *, batch_size: int, role: Role = "item",
               advance: Callable[[int], None] | None = None) -> np.ndarray:
        """Vectors `[len(texts), width]`, float32; `advance` is told how many more texts are done."""
        return self.encode_ids(self.token_ids(texts, role=role), batch_size=batch_size, advance=advance)

    def encode_ids(self, tokens: np.ndarray, *, batch_size: int, advance: Callable[[int], None] | None = None) -> np.ndarray:
        """As `encode`, of token ids `[n, tokens]`."""
        vectors = np.zeros((len(tokens), self.width), np.float32)
        lengths = (tokens != self.tokenizer.pad).sum(1)
        order = np.argsort(lengths, kind="stable")
        order = order[lengths[order] > EDGES]
        if advance is not None:
            advance(len(tokens) - len(order))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            longest = min(-(-int(lengths[rows[-1]]) // STEP) * STEP, tokens.shape[1])
            vectors[rows] = self._compiled(tf.constant(tokens[rows, :longest])).numpy()
            if advance is not None:
                advance(len(rows))
        return vectors


def _unit(x: tf.Tensor) -> tf.Tensor:
    return tf.math.l2_normalize(x, axis=-1)


def _dense(module: Dense) -> tf.keras.layers.Dense:
    layer = tf.keras.layers.Dense(module.out, activation=module.activation, use_bias=module.bias, trainable=False)
    layer.build([None, module.into])
    layer.set_weights(module.weights())
    return layer


def load_encoder(text: TextConfig) -> TextEncoder:
    """The encoder of a configuration.

    The last one stays in memory while its files stay as they are: a retrain job exports every few minutes, and to read an
    encoder takes seconds.
    """
    return _encoder(text.encoder, text.max_tokens, text.query_prompt, text.item_prompt, fingerprint(text.encoder))


@lru_cache(maxsize=1)
def _encoder(checkpoint: str, max_tokens: int, query_prompt: str | None, item_prompt: str | None, contents: str) -> TextEncoder:
    return TextEncoder(checkpoint, max_tokens=max_tokens, query_prompt=query_prompt, item_prompt=item_prompt)


def identity(text: TextConfig) -> str:
    """What the vectors of items depend on: the files of the encoder as they are now, and what it reads of a text."""
    return repr((READING, fingerprint(text.encoder), text.max_tokens, text.item_prompt))
