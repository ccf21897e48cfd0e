"""Exploration in the graph: slates drawn at random, each item with the exact log probability that it had of taking its position.

    pi(i | earlier items) = (1 - epsilon) * softmax(score / temperature over the shortlist that is left)_i
                            + epsilon * m_i / sum of m over all eligible items that are left

That is Plackett-Luce on a shortlist of the best (`plackett_luce.py`), mixed at each position with a choice among all eligible
items (`eligible_items.py`). Every eligible item may come at every position, so what was logged can be reweighted for any other
policy. That choice is uniform, m = 1, unless items without feedback have a share of it (`serving.newcomer_share`). At temperature
0 this is epsilon-greedy. A row is a function of its own inputs and seed, whatever batch it is in.
"""
from typing import NamedTuple

import tensorflow as tf

from tfrec.graph.eligible_items import EligibleItems
from tfrec.graph.exact_index import LOWEST, ExactIndex, Filters
from tfrec.graph.plackett_luce import Ranked, Shortlist

_ABOVE_0 = 1e-300  # a logarithm of it is finite
_BELOW_1 = 1.0 - 1e-12  # so that rounding does not draw an item behind the last


class Policy(NamedTuple):
    """How each row `[batch]` explores."""

    temperature: tf.Tensor  # of the shortlist's softmax; 0 (or less) is greedy
    epsilon: tf.Tensor  # probability of a choice among all eligible items at a position; clipped to 0 to 1


def explore(
    index: ExactIndex, u: tf.Tensor, k: tf.Tensor, *, beta: tf.Tensor, filters: Filters, policy: Policy, seed: tf.Tensor,
    shortlist: int, ranked: Ranked | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Draw a slate of `k` `[batch]` items for query vectors `u` `[batch, dim]`; otherwise as `ExactIndex.search`.

    The same `seed` `[batch]` draws the same slate. Plackett-Luce chooses among the `shortlist` best items, which must be at least
    as many as an answer may have. `ranked` gives these their scores; by default they have those by which they were found.

    Returns:
        Positions in the index `[batch, K]`, -1 where there is no item, and log propensities `[batch, K]` given the earlier items,
        -inf where there is no item. The sum over a row is the log probability of its slate.
    """
    width = index.width(k)
    best, eligible, epsilon = _choices(index, u, beta, filters, policy, shortlist, ranked)
    noise, coin, pick = tf.unstack(_uniform(seed, shortlist), axis=1)
    slate, position = best.draw(noise, width), tf.range(width)
    mixed = (coin[:, :width] < epsilon) & (position < eligible.count[:, None])
    slate = tf.cond(tf.reduce_any(mixed), lambda: _mix(slate, mixed, pick * _BELOW_1, eligible), lambda: slate)
    slate = tf.where(position < k[:, None], slate, -1)
    return slate, _log_mixture(slate, best, eligible, epsilon)


def log_propensities(
    index: ExactIndex, u: tf.Tensor, slate: tf.Tensor, *, beta: tf.Tensor, filters: Filters, policy: Policy, shortlist: int,
    ranked: Ranked | None = None,
) -> tf.Tensor:
    """What `explore` would report `[batch, K]` of slates of positions `[batch, K]` that were drawn by another policy.

    It is -inf for an item that cannot be drawn.
    """
    best, eligible, epsilon = _choices(index, u, beta, filters, policy, shortlist, ranked)
    return _log_mixture(tf.where(eligible.contains(slate), slate, -1), best, eligible, epsilon)


def _choices(
    index: ExactIndex, u: tf.Tensor, beta: tf.Tensor, filters: Filters, policy: Policy, shortlist: int, ranked: Ranked | None
) -> tuple[Shortlist, EligibleItems, tf.Tensor]:
    best = Shortlist.of(index, u, beta=beta, filters=filters, temperature=policy.temperature, size=shortlist,
                        ranked=ranked)
    epsilon = tf.clip_by_value(tf.cast(policy.epsilon, tf.float64), 0.0, 1.0)[:, None]
    return best, EligibleItems.of(index, tf.shape(u)[0], filters), epsilon


def _uniform(seed: tf.Tensor, n: int) -> tf.Tensor:
    """Three rows of n numbers in (0, 1) for each seed, `[batch, 3, n]`; how many there are depends on nothing in the request.

    In float64: the best of many Gumbel draws are those nearest to 1, where float32 has steps of 6e-8. (Philox, by TensorFlow's
    choice for CPU and GPU; named outright it would be spelt out in 30 operators more a row.)
    """
    def of_one(one: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_uniform([3, n], tf.stack([one, 0]), minval=_ABOVE_0, dtype=tf.float64)

    return tf.map_fn(of_one, seed, fn_output_signature=tf.TensorSpec([3, n], tf.float64))


def _mix(slate: tf.Tensor, mixed: tf.Tensor, pick: tf.Tensor, eligible: EligibleItems) -> tf.Tensor:
    """The slate `[batch, width]` with a choice among the eligible items that are left at each position that is `mixed`.

    Step j serves the j-th such position of every row, with the number `pick[:, j]`.
    """
    width = tf.shape(slate)[1]
    position = tf.range(width)
    positions = tf.sort(tf.where(mixed, position, width), axis=1)  # of a row with fewer such positions the last are `width`

    def step(j: tf.Tensor, slate: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        at = positions[:, j, None]
        item = eligible.draw(pick[:, j, None], tf.where(position < at, slate, -1))
        return j + 1, _insert(slate, item, at)

    steps = tf.reduce_max(tf.reduce_sum(tf.cast(mixed, tf.int32), axis=1))
    return tf.while_loop(lambda j, _: j < steps, step, [tf.constant(0), slate])[1]


def _insert(slate: tf.Tensor, item: tf.Tensor, at: tf.Tensor) -> tf.Tensor:
    """The slate `[batch, width]` with `item` moved to position `at`, `[batch, 1]` each.

    What stood from there on moves back by one, up to where `item` came from; an item from outside pushes the last one out. A row
    whose `at` is `width` stays as it is.
    """
    width = tf.shape(slate)[1]
    position = tf.range(width)
    came_from = tf.reduce_min(tf.where(slate == item, position, width - 1), axis=1, keepdims=True)
    moved = tf.where(position == at, item, tf.roll(slate, 1, axis=1))
    return tf.where((position >= at) & (position <= came_from), moved, slate)


def _log_mixture(slate: tf.Tensor, best: Shortlist, eligible: EligibleItems, epsilon: tf.Tensor) -> tf.Tensor:
    """Log probability of each item of a slate `[batch, width]` given the earlier ones; -inf where there is none."""
    pi = (1.0 - epsilon) * best.probabilities(slate) + epsilon * eligible.probabilities(slate)
    return tf.where(slate >= 0, tf.cast(tf.math.log(pi), tf.float32), LOWEST)
