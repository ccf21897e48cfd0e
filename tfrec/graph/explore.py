"""Exploration in the graph: slates drawn at random, each item with the exact log probability that it had of taking its place.

    pi(i | earlier places) = (1 - epsilon) * softmax(score / temperature over the shortlist that is left)_i
                             + epsilon * m_i / m of the items left

Plackett-Luce (Luce 1959; Plackett 1975) on a shortlist of the best, mixed place by place with a choice by chance among all that
may come: every item that may come has a chance in every place, so what was logged can be reweighted for any other policy. That
choice is uniform, m = 1, unless items without feedback have a share of it (`serving.newcomer_share`). At temperature 0 this is
epsilon-greedy. A row is a function of its own inputs and seed, whatever batch it is in.
"""
from typing import NamedTuple

import tensorflow as tf

from tfrec.graph.epsilon_mixture import Chance
from tfrec.graph.exact_index import LOWEST, ExactIndex, Filters

COLDEST = 1e-6  # a lower temperature is 0: scores are float32, and say nothing about smaller differences

_HOTTEST = 1e30  # far enough from infinity that every score of the shortlist is the same
_ABOVE_0 = 1e-300  # a logarithm of it is finite
_BELOW_1 = 1.0 - 1e-12  # so that rounding does not draw an item behind the last


class Policy(NamedTuple):
    """How each row `[batch]` explores."""

    temperature: tf.Tensor  # of the shortlist's softmax; 0 (or less) is greedy
    epsilon: tf.Tensor  # chance of a uniform choice in a place; read as the nearest of 0 to 1
    seed: tf.Tensor  # int64; the same seed draws the same slate


def explore(
    index: ExactIndex, u: tf.Tensor, k: tf.Tensor, *, beta: tf.Tensor, filters: Filters, policy: Policy, shortlist: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Draw a slate of `k` `[batch]` for query vectors `u` `[batch, dim]`; otherwise as `ExactIndex.search`.

    Args:
        shortlist: how many of the best items Plackett-Luce chooses among; at least as many as an answer may have.

    Returns:
        positions `[batch, K]` in the order of their places, -1 where there is no item, and log propensities `[batch, K]` given
        the earlier places, -inf where there is no item. The sum over a row is the log probability of its slate.
    """
    width = index.width(k)
    best, logits, epsilon, chance = _choices(index, u, beta, filters, policy, shortlist)
    noise, coin, pick = tf.unstack(_draws(policy.seed, shortlist), axis=1)

    # adding Gumbel noise and sorting draws a Plackett-Luce order (Yellott 1977); what remains of it after any items are taken
    # out is one of the rest
    _, order = tf.math.top_k(logits - tf.math.log(-tf.math.log(noise)), width)
    slate = tf.gather(best, order, batch_dims=1)
    place = tf.range(width)
    by_chance = (coin[:, :width] < epsilon) & (place < chance.count[:, None])
    slate = tf.cond(tf.reduce_any(by_chance), lambda: _with_chance(slate, by_chance, pick, chance), lambda: slate)
    slate = tf.where(place < k[:, None], slate, -1)
    log_propensity = _log_propensities(slate, best, logits, epsilon, chance.own(slate), chance.total)
    return slate, tf.where(slate >= 0, tf.cast(log_propensity, tf.float32), LOWEST)


def log_propensities(
    index: ExactIndex, u: tf.Tensor, slate: tf.Tensor, *, beta: tf.Tensor, filters: Filters, policy: Policy, shortlist: int
) -> tf.Tensor:
    """What `explore` would say of slates `[batch, K]` of positions that another policy drew; -inf for what it cannot draw."""
    best, logits, epsilon, chance = _choices(index, u, beta, filters, policy, shortlist)
    may = chance.may(slate)
    log_propensity = _log_propensities(slate, best, logits, epsilon, tf.where(may, chance.own(slate), 0.0), chance.total)
    return tf.where(may, tf.cast(log_propensity, tf.float32), LOWEST)


def _choices(
    index: ExactIndex, u: tf.Tensor, beta: tf.Tensor, filters: Filters, policy: Policy, shortlist: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, Chance]:
    """The shortlist `[batch, shortlist]`, its logits, epsilon, and what is left to chance."""
    scores, best = index.best(u, tf.constant(shortlist), beta=beta, filters=filters)
    best = tf.where(scores > LOWEST, best, -1)
    epsilon = tf.clip_by_value(tf.cast(policy.epsilon, tf.float64), 0.0, 1.0)[:, None]
    return best, _logits(scores, policy.temperature), epsilon, Chance.of(index, tf.shape(u)[0], filters)


def _logits(scores: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
    """Of the shortlist `[batch, shortlist]`, best first; at temperature 0 so far apart that the best left is certain."""
    temperature = tf.cast(temperature, tf.float64)[:, None]
    scores = tf.cast(scores, tf.float64)
    scores -= tf.maximum(scores[:, :1], tf.float64.min)  # of an empty shortlist the best is -inf
    apart = tf.where(scores > LOWEST, -1e9 * tf.range(tf.shape(scores)[1], dtype=tf.float64), tf.constant(LOWEST, tf.float64))
    return tf.where(temperature >= COLDEST, scores / tf.clip_by_value(temperature, COLDEST, _HOTTEST), apart)


def _draws(seed: tf.Tensor, n: int) -> tf.Tensor:
    """Three rows of n numbers in (0, 1) for each seed, `[batch, 3, n]`: in number and order they depend on nothing else.

    In float64: the best of many Gumbel draws are those nearest to 1, where float32 has steps of 6e-8. (Philox, by TensorFlow's
    choice for CPU and GPU; named outright it would be spelt out in 30 operators more a row.)
    """
    def of_one(one: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_uniform([3, n], tf.stack([one, 0]), minval=_ABOVE_0, dtype=tf.float64)

    return tf.map_fn(of_one, seed, fn_output_signature=tf.TensorSpec([3, n], tf.float64))


def _with_chance(slate: tf.Tensor, by_chance: tf.Tensor, pick: tf.Tensor, chance: Chance) -> tf.Tensor:
    """The slate `[batch, width]` with a choice by chance among the items left in each place that is `by_chance`.

    The j-th such place of all rows is done in one step. The choice moves there from its later place, or from outside.
    """
    width = tf.shape(slate)[1]
    place = tf.range(width)
    at = tf.sort(tf.where(by_chance, place, width), axis=1)  # a row with fewer such places has them at the end, where nothing is

    def step(j: tf.Tensor, slate: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        here = at[:, j, None]
        earlier = place < here
        item = chance.draw(pick[:, j, None] * _BELOW_1, tf.where(earlier, slate, -1))
        came_from = tf.reduce_min(tf.where(slate == item, place, width - 1), axis=1, keepdims=True)
        moved = tf.where(place == here, item, tf.roll(slate, 1, axis=1))
        return j + 1, tf.where(earlier | (place > came_from), slate, moved)

    steps = tf.reduce_max(tf.reduce_sum(tf.cast(by_chance, tf.int32), axis=1))
    return tf.while_loop(lambda j, _: j < steps, step, [tf.constant(0), slate])[1]


def _log_propensities(
    slate: tf.Tensor, best: tf.Tensor, logits: tf.Tensor, epsilon: tf.Tensor, mass: tf.Tensor, total: tf.Tensor
) -> tf.Tensor:
    """Of each place given the earlier ones `[batch, width]`; `mass` `[batch, width]` of the slate's items, `total` `[batch]`."""
    same = slate[:, :, None] == best[:, None, :]
    left = tf.cumsum(tf.cast(same, tf.int32), axis=1, exclusive=True) == 0
    logits, never = logits[:, None, :], tf.constant(LOWEST, tf.float64)
    own = tf.reduce_max(tf.where(same, logits, never), axis=2)
    of_the_rest = tf.reduce_logsumexp(tf.where(left, logits, never), axis=2)
    chosen = tf.where(own > never, tf.exp(own - of_the_rest), 0.0)
    rest = total[:, None] - tf.cumsum(mass, axis=1, exclusive=True)
    by_chance = mass / tf.maximum(rest, mass)  # that of the last one left is 1, whatever rounding says
    return tf.math.log((1.0 - epsilon) * chosen + epsilon * tf.where(mass > 0, by_chance, 0.0))
