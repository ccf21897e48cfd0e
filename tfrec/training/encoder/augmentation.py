"""Augmentation of token ids: word pieces are dropped, masked or replaced, so that a text never reads the same twice.

All functions are stateless in the step's `Noise`, keep the shape, and compile under XLA. [CLS], [SEP] and padding stay.
"""
import tensorflow as tf

from tfrec.models.dropout import Noise
from tfrec.models.tokenizer.tokenizer import Tokenizer

SPAN = 3  # word pieces in a masked span: SpanBERT (Joshi et al. 2020, arXiv:1907.10529) draws 3.8 on average
MASKED_SHARE = 0.15  # of the word pieces, those that pretraining predicts (Devlin et al. 2019, arXiv:1810.04805)
AS_MASK, AS_RANDOM = 0.8, 0.1  # of those, shown as [MASK], and as some other piece; the rest are shown as they are


def is_word_piece(ids: tf.Tensor, tokenizer: Tokenizer) -> tf.Tensor:
    """Boolean `[batch, tokens]`: neither [CLS], [SEP] nor padding."""
    return (ids != tokenizer.pad) & (ids != tokenizer.start) & (ids != tokenizer.end)


def drop_tokens(ids: tf.Tensor, rate: float, noise: Noise, tokenizer: Tokenizer) -> tf.Tensor:
    """Turn each word piece but the first into padding with probability `rate`; attention and pooling do not see padding."""
    dropped = tf.random.stateless_uniform(tf.shape(ids), noise.next_seed()) < rate
    not_first = tf.range(tf.shape(ids)[1])[None, :] > 1  # position 0 is [CLS]; a text without any piece would be empty
    return tf.where(dropped & not_first & is_word_piece(ids, tokenizer), tokenizer.pad, ids)


def mask_spans(ids: tf.Tensor, rate: float, noise: Noise, tokenizer: Tokenizer) -> tf.Tensor:
    """Turn about a share `rate` of the word pieces into [MASK], in spans of `SPAN`.

    A span begins at each position with probability p, where 1 - (1 - p)^SPAN = rate is the probability that at least one of the
    SPAN spans that could cover a position begins.
    """
    begins = tf.random.stateless_uniform(tf.shape(ids), noise.next_seed()) < 1 - (1 - rate) ** (1 / SPAN)
    covered = begins
    for shift in range(1, SPAN):
        covered |= tf.pad(begins, [[0, 0], [shift, 0]])[:, : tf.shape(ids)[1]]
    return tf.where(covered & is_word_piece(ids, tokenizer), tokenizer.mask, ids)


def mask_words(ids: tf.Tensor, noise: Noise, tokenizer: Tokenizer, *,
               vocabulary: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Choose the word pieces to predict, and hide most of them.

    Shapes are static: n is `MASKED_SHARE` of the width, at least 1, whatever the lengths of the texts. In a shorter text only
    `MASKED_SHARE` of its own pieces are predicted, at least one, and the other positions have weight 0.

    Args:
        ids: `[batch, tokens]`.
        noise: of the step.
        tokenizer: knows [MASK] and the other special tokens.
        vocabulary: number of ids that a random piece is drawn from.

    Returns:
        The ids as shown `[batch, tokens]`, the positions to predict `[batch, n]`, and their weights `[batch, n]`, 1 or 0.
    """
    count = max(1, round(MASKED_SHARE * ids.shape[1]))
    chance = tf.random.stateless_uniform(tf.shape(ids), noise.next_seed())
    usable = is_word_piece(ids, tokenizer)
    score, positions = tf.math.top_k(tf.where(usable, chance, -1.0), count)
    pieces = tf.reduce_sum(tf.cast(usable, tf.float32), axis=1, keepdims=True)
    share = tf.maximum(1.0, tf.round(MASKED_SHARE * pieces))
    predicted = (score >= 0) & (tf.cast(tf.range(count), tf.float32)[None, :] < share)
    how = tf.random.stateless_uniform(tf.shape(positions), noise.next_seed())
    random_piece = tf.random.stateless_uniform(tf.shape(positions), noise.next_seed(), maxval=vocabulary, dtype=tf.int32)
    original = tf.gather(ids, positions, batch_dims=1)
    shown = tf.where(how < AS_MASK, tokenizer.mask, tf.where(how < AS_MASK + AS_RANDOM, random_piece, original))
    shown = tf.where(predicted, shown, original)
    rows = tf.repeat(tf.range(tf.shape(ids)[0])[:, None], count, axis=1)
    shown_ids = tf.tensor_scatter_nd_update(ids, tf.stack([rows, positions], axis=2), shown)
    return shown_ids, positions, tf.cast(predicted, tf.float32)
