"""Token ids in, token ids out with some taken out, masked or replaced: a text never reads the same twice.

All are stateless functions of the step's `Noise`, keep the shape and compile under XLA. [CLS], [SEP] and padding stay.
"""
import tensorflow as tf

from tfrec.models.dropout import Noise
from tfrec.models.tokenizer.tokenizer import Tokenizer

SPAN = 3  # word pieces of a masked span: SpanBERT (Joshi et al. 2020, arXiv:1907.10529) draws 3.8 on average
MASKED_SHARE = 0.15  # of the word pieces, that pretraining asks for (Devlin et al. 2019, arXiv:1810.04805)
AS_MASK, AS_RANDOM = 0.8, 0.1  # of those, shown as [MASK], and as some other piece; the rest is shown as it is


def words(ids: tf.Tensor, tokenizer: Tokenizer) -> tf.Tensor:
    """Boolean `[batch, tokens]`: what may be changed."""
    return (ids != tokenizer.pad) & (ids != tokenizer.start) & (ids != tokenizer.end)


def drop_tokens(ids: tf.Tensor, rate: float, noise: Noise, tokenizer: Tokenizer) -> tf.Tensor:
    """Each word piece becomes padding with probability `rate`: neither attention nor pooling sees it; the first one stays."""
    gone = tf.random.stateless_uniform(tf.shape(ids), noise.next_seed()) < rate
    second = tf.range(tf.shape(ids)[1])[None, :] > 1  # place 0 is [CLS]; without any piece a text would be empty
    return tf.where(gone & second & words(ids, tokenizer), tokenizer.pad, ids)


def mask_spans(ids: tf.Tensor, rate: float, noise: Noise, tokenizer: Tokenizer) -> tf.Tensor:
    """About a share `rate` of the word pieces becomes [MASK], in spans of `SPAN`.

    A span begins at each place with the probability p for which 1 - (1 - p)^SPAN = rate: that a place lies in any of the SPAN
    spans that could cover it.
    """
    begins = tf.random.stateless_uniform(tf.shape(ids), noise.next_seed()) < 1 - (1 - rate) ** (1 / SPAN)
    covered = begins
    for shift in range(1, SPAN):
        covered |= tf.pad(begins, [[0, 0], [shift, 0]])[:, : tf.shape(ids)[1]]
    return tf.where(covered & words(ids, tokenizer), tokenizer.mask, ids)


def mask_words(ids: tf.Tensor, noise: Noise, tokenizer: Tokenizer, *,
               vocabulary: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """For masked-word training: ids as shown `[batch, tokens]`, and the places `[batch, n]` asked for with their weights, 1 or 0.

    The number of places n is `MASKED_SHARE` of the width, at least 1, whatever the texts' lengths: static shapes. A shorter text
    has the share of its own pieces asked for, at least one; the other places weigh 0.
    """
    width = ids.shape[1]
    count = max(1, round(MASKED_SHARE * width))
    chance = tf.random.stateless_uniform(tf.shape(ids), noise.next_seed())
    usable = words(ids, tokenizer)
    score, places = tf.math.top_k(tf.where(usable, chance, -1.0), count)
    pieces = tf.reduce_sum(tf.cast(usable, tf.float32), axis=1, keepdims=True)
    wanted = tf.maximum(1.0, tf.round(MASKED_SHARE * pieces))
    asked = (score >= 0) & (tf.cast(tf.range(count), tf.float32)[None, :] < wanted)
    how = tf.random.stateless_uniform(tf.shape(places), noise.next_seed())
    other = tf.random.stateless_uniform(tf.shape(places), noise.next_seed(), maxval=vocabulary, dtype=tf.int32)
    own = tf.gather(ids, places, batch_dims=1)
    shown = tf.where(how < AS_MASK, tokenizer.mask, tf.where(how < AS_MASK + AS_RANDOM, other, own))
    shown = tf.where(asked, shown, own)
    rows = tf.repeat(tf.range(tf.shape(ids)[0])[:, None], count, axis=1)
    return tf.tensor_scatter_nd_update(ids, tf.stack([rows, places], axis=2), shown), places, tf.cast(asked, tf.float32)
