"""Negatives of the softmax loss: which items are drawn, and how their logits are corrected for it.

All positions of a batch share the negatives of their step. An item that is drawn N q times on average stands for 1 / (N q) items,
so log(N q) is subtracted from its logit (Bengio & Senecal 2008; Yi et al. 2019, doi:10.1145/3298689.3346996). The corrected sum
over the negatives is then an unbiased estimate of the sum over the catalogue.
"""
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrec.models.query_tower import HIDDEN


class Negatives(NamedTuple):
    """Items that every position of a batch is compared with."""

    item: tf.Tensor  # [N] catalogue positions
    log_q: tf.Tensor  # [N] log of how often each is drawn on average
    is_catalogue: bool  # whether `item` is every row of the item arrays, in order


def proposal(log_p: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Chance of each item to be drawn, `[n_items]`: half by popularity `log_p`, half uniform."""
    chance: npt.NDArray[np.floating] = 0.5 * np.exp(log_p - np.logaddexp.reduce(log_p)) + 0.5 / len(log_p)
    return chance


def draw_negatives(q: tf.Tensor, q_below: tf.Tensor, seed: tf.Tensor, *, count: int,
                   n_items: int | tf.Tensor) -> Negatives:
    """Draws `count` items with replacement.

    Args:
        q: `[rows]`, chance of each item; 0 beyond the catalogue.
        q_below: `[rows]`, the cumulative sum of `q`.
        seed: int32 `[2]`; the same seed draws the same items.
        count: Number of negatives, N.
        n_items: Size of the catalogue, at most `rows`.
    """
    draw = tf.random.stateless_uniform([count], seed) * q_below[-1]
    item = tf.minimum(tf.searchsorted(tf.convert_to_tensor(q_below), draw, side="right"), tf.cast(n_items, tf.int32) - 1)
    return Negatives(item, tf.math.log(tf.gather(q, item) * count), is_catalogue=False)


def whole_catalogue(rows: int) -> Negatives:
    """Every row of the item arrays once, which needs no correction."""
    return Negatives(tf.range(rows), tf.zeros([rows]), is_catalogue=True)


def correct_for_sampling(logits: tf.Tensor, log_q: tf.Tensor) -> tf.Tensor:
    """The logQ correction: `logits` `[..., N]` of sampled items less the log `[N]` of how often each is drawn.

    Raises:
        ValueError: A shape is another one.
    """
    if log_q.shape.rank != 1 or not logits.shape[-1:].is_compatible_with(log_q.shape):
        raise ValueError(f"correct_for_sampling: expected logits [..., N] and log_q [N], got {logits.shape} and {log_q.shape}.")
    return logits - log_q


def hide_own(own: tf.Tensor, negatives: Negatives) -> tf.Tensor:
    """Logits `[batch, N]` that hide what is no negative: `HIDDEN` for the items of a row of `own`, else 0.

    Args:
        own: `[batch, n]`, catalogue positions; a negative one hides nothing.
        negatives: The items that are compared with.
    """
    if not negatives.is_catalogue:
        return tf.where(tf.reduce_any(own[:, :, None] == negatives.item[None, None, :], axis=1), HIDDEN, 0.0)
    # of a whole catalogue an item's position is its column, which spares the comparison of all pairs
    batch, n = tf.unstack(tf.shape(own))
    flat = tf.reshape(own, [-1])
    at = tf.stack([tf.repeat(tf.range(batch), n), tf.maximum(flat, 0)], axis=1)
    return tf.scatter_nd(at, tf.cast(flat >= 0, tf.float32), [batch, negatives.item.shape[0]]) * HIDDEN
