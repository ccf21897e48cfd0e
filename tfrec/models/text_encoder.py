"""Strings in, one unit vector a text out: tokenizer, BERT and pooling as the checkpoint was trained.

`encode` fills the cache of item vectors; it sorts texts by length, so that no batch computes more padding than it must.
"""
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from tfrec.models.bert import load_bert
from tfrec.models.checkpoint_files import read_checkpoint
from tfrec.models.tokenizer import Tokenizer

STEP = 8  # token lengths are rounded up to multiples of this: few shapes to trace, at most 7 wasted tokens


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
        self.pooling = files.pooling
        self.width = int(files.config.hidden_size)
        self._compiled = tf.function(self.pool, input_signature=[tf.TensorSpec([None, None], tf.int32)])

    def pool(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Unit vectors `[batch, width]` of token ids `[batch, tokens]`."""
        states = self.bert(token_ids)
        if self.pooling == "cls":
            return tf.math.l2_normalize(states[:, 0], axis=-1)
        kept = tf.cast(token_ids != self.tokenizer.pad, states.dtype)[:, :, None]
        return tf.math.l2_normalize(tf.reduce_sum(states * kept, axis=1) / tf.maximum(tf.reduce_sum(kept, axis=1), 1.0), axis=-1)

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        present = tf.cast(tf.strings.length(tf.strings.strip(texts)) > 0, tf.float32)[:, None]
        return self.pool(self.tokenizer(texts, pad_to_max=False)) * present

    def encode(self, texts: Sequence[str], *, batch_size: int, progress: Iterable[None] | None = None) -> np.ndarray:
        """Vectors `[len(texts), width]`, float32. `progress` is advanced once a text."""
        ticks: Iterator[None] = iter(progress or ())
        vectors = np.zeros((len(texts), self.width), np.float32)
        filled = np.array([i for i, t in enumerate(texts) if t.strip()], np.int64)
        if not filled.size:
            return vectors
        tokens = self.tokenizer(tf.constant([texts[i] for i in filled]), pad_to_max=True).numpy()
        lengths = (tokens != self.tokenizer.pad).sum(1)
        order = np.argsort(lengths, kind="stable")
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            longest = min(-(-int(lengths[rows[-1]]) // STEP) * STEP, tokens.shape[1])
            vectors[filled[rows]] = self._compiled(tf.constant(tokens[rows, :longest])).numpy()
            for _ in rows:
                next(ticks, None)
        return vectors
