"""Strings in, one unit vector a text out: tokenizer, BERT and pooling as the checkpoint was trained.

`encode` fills the cache of item vectors; it sorts texts by length, so that no batch computes more padding than it must.
"""
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import tensorflow as tf

from tfrec.models.bert import load_bert
from tfrec.models.checkpoint_files import fingerprint, read_checkpoint
from tfrec.models.tokenizer import Tokenizer

STEP = 8  # token lengths are rounded up to multiples of this: few shapes to trace, at most 7 wasted tokens
EDGES = 2  # tokens that every text has: [CLS] and [SEP]


class TextEncoder(tf.Module):
    """Unit vectors `[batch, width]` for texts `[batch]`; an empty text gives the zero vector.

    Args:
        checkpoint: directory, installed package or hub id of a Hugging Face BERT.
        max_tokens: word pieces that are read, [CLS] and [SEP] included.
    """

    def __init__(self, checkpoint: str, *, max_tokens: int) -> None:
        super().__init__(name="text_encoder")
        files = read_checkpoint(checkpoint)
        self.checkpoint = checkpoint
        self.tokenizer = Tokenizer(files.vocabulary, max_tokens=min(max_tokens, files.config.max_position_embeddings),
                                   lower_case=files.lower_case)
        self.bert = load_bert(files)
        self.files, self.pooling = files, files.pooling
        self.width = int(files.config.hidden_size)
        self._compiled = tf.function(self.pool, input_signature=[tf.TensorSpec([None, None], tf.int32)], autograph=False)

    def pool(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Unit vectors `[batch, width]` of token ids `[batch, tokens]`; zero where there is nothing but [CLS] and [SEP]."""
        return self.pool_states(self.bert(token_ids), token_ids)

    def pool_states(self, states: tf.Tensor, token_ids: tf.Tensor) -> tf.Tensor:
        """The same for hidden states `[batch, tokens, width]`."""
        kept = tf.cast(token_ids != self.tokenizer.pad, states.dtype)[:, :, None]
        pooled = states[:, 0] if self.pooling == "cls" else tf.reduce_sum(states * kept, axis=1)  # its length drops out
        return tf.math.l2_normalize(pooled, axis=-1) * tf.cast(tf.reduce_sum(kept, axis=1) > EDGES, states.dtype)

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        return self.pool(self.tokenizer(texts, pad_to_max=False))

    def encode(self, texts: Sequence[str], *, batch_size: int, advance: Callable[[int], None] | None = None) -> np.ndarray:
        """Vectors `[len(texts), width]`, float32. `advance` is told how many more texts are done."""
        vectors = np.zeros((len(texts), self.width), np.float32)
        tokens = self.tokenizer(tf.constant(texts, tf.string, [len(texts)]), pad_to_max=True).numpy()
        lengths = (tokens != self.tokenizer.pad).sum(1)
        order = np.argsort(lengths, kind="stable")
        order = order[lengths[order] > EDGES]
        if advance is not None:
            advance(len(texts) - len(order))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            longest = min(-(-int(lengths[rows[-1]]) // STEP) * STEP, tokens.shape[1])
            vectors[rows] = self._compiled(tf.constant(tokens[rows, :longest])).numpy()
            if advance is not None:
                advance(len(rows))
        return vectors


def load_encoder(checkpoint: str, *, max_tokens: int) -> TextEncoder:
    """The encoder of a checkpoint. The last one stays in memory while its files stay as they are: a retrain job exports every few
    minutes, and to read an encoder takes seconds."""
    return _encoder(checkpoint, max_tokens, fingerprint(checkpoint))


@lru_cache(maxsize=1)
def _encoder(checkpoint: str, max_tokens: int, contents: str) -> TextEncoder:
    return TextEncoder(checkpoint, max_tokens=max_tokens)
