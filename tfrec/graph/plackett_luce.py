"""Plackett-Luce in the graph: slates drawn from a softmax over a shortlist, without replacement, and their log probabilities.

    pi(i | earlier items) = exp(logit_i) / sum of exp(logit_j) over the items j of the shortlist that are left

(Luce 1959; Plackett 1975.) `explore.py` mixes in a choice among all items.
"""
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tfrec.graph.exact_index import LOWEST, ExactIndex, Filters

COLDEST = 1e-6  # a lower temperature is 0: scores are float32, and say nothing about smaller differences

_HOTTEST = 1e30  # far enough from infinity that every score of the shortlist is the same


Ranked = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # other scores, of scores and positions `[batch, S]`; -inf stays -inf


class Shortlist(NamedTuple):
    """The best items of each row, best first, and the logits of their softmax."""

    positions: tf.Tensor  # int32 [batch, S], -1 where there are fewer items
    logits: tf.Tensor  # float64 [batch, S], -inf where there are fewer items

    @classmethod
    def of(cls, index: ExactIndex, u: tf.Tensor, *, beta: tf.Tensor, filters: Filters, temperature: tf.Tensor,
           size: int, ranked: Ranked | None = None) -> "Shortlist":
        """The `size` best items for query vectors `u` `[batch, dim]`, at a `temperature` `[batch]`, in the order of `ranked`."""
        scores, best = shortlisted(index, u, beta=beta, filters=filters, size=size, ranked=ranked)
        return cls(tf.where(scores > LOWEST, best, -1), logits(scores, temperature))

    def draw(self, uniform: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
        """Slates `[batch, width]` of positions, by numbers `uniform` in (0, 1) `[batch, S]`.

        Adding Gumbel noise and sorting draws a Plackett-Luce order (Yellott 1977). When any items are taken out of that order,
        what remains is a Plackett-Luce order of the others.
        """
        _, order = tf.math.top_k(self.logits - tf.math.log(-tf.math.log(uniform)), width)
        return tf.gather(self.positions, order, batch_dims=1)

    def probabilities(self, slate: tf.Tensor) -> tf.Tensor:
        """Of each item of a slate `[batch, width]`, given the earlier ones; 0 for an item that is not on the shortlist."""
        same = slate[:, :, None] == self.positions[:, None, :]
        left = tf.cumsum(tf.cast(same, tf.int32), axis=1, exclusive=True) == 0
        listed = self.logits[:, None, :]
        own = tf.reduce_max(tf.where(same, listed, LOWEST), axis=2)
        all_left = tf.reduce_logsumexp(tf.where(left, listed, LOWEST), axis=2)
        return tf.where(own > LOWEST, tf.exp(own - all_left), 0.0)


def shortlisted(index: ExactIndex, u: tf.Tensor, *, beta: tf.Tensor, filters: Filters, size: int,
                ranked: Ranked | None) -> tuple[tf.Tensor, tf.Tensor]:
    """Scores and positions `[batch, size]` of the best items, best first, as `ExactIndex.best`; `ranked` scores them anew."""
    scores, best = index.best(u, tf.constant(size), beta=beta, filters=filters)
    if ranked is None:
        return scores, best
    scores, order = tf.math.top_k(ranked(scores, best), size)
    return scores, tf.gather(best, order, batch_dims=1)


def logits(scores: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
    """Logits `[batch, S]` of scores, best first. At temperature 0 they are so far apart that the best item left is certain."""
    temperature = tf.cast(temperature, tf.float64)[:, None]
    scores = tf.cast(scores, tf.float64)
    scores -= tf.maximum(scores[:, :1], tf.float64.min)  # of an empty shortlist the best is -inf
    far_apart = tf.where(scores > LOWEST, -1e9 * tf.range(tf.shape(scores)[1], dtype=tf.float64), LOWEST)
    return tf.where(temperature >= COLDEST, scores / tf.clip_by_value(temperature, COLDEST, _HOTTEST), far_apart)
