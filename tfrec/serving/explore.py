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

from tfrec.serving.index import LOWEST, ExactIndex, Wishes

COLDEST = 1e-6  # a lower temperature is 0: scores are float32, and say nothing about smaller differences

_HOTTEST = 1e30  # far enough from infinity that every score of the shortlist is the same
_ABOVE_0 = 1e-300  # a logarithm of it is finite
_BEYOND = 1e300  # behind all items
_BELOW_1 = 1.0 - 1e-12  # so that rounding does not draw an item behind the last


class Policy(NamedTuple):
    """How each row `[batch]` explores."""

    temperature: tf.Tensor  # of the shortlist's softmax; 0 (or less) is greedy
    epsilon: tf.Tensor  # chance of a uniform choice in a place; read as the nearest of 0 to 1
    seed: tf.Tensor  # int64; the same seed draws the same slate


def explore(
    index: ExactIndex, u: tf.Tensor, k: tf.Tensor, *, beta: tf.Tensor, wishes: Wishes, policy: Policy, shortlist: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Draw a slate of `k` `[batch]` for query vectors `u` `[batch, dim]`; otherwise as `ExactIndex.search`.

    Args:
        shortlist: how many of the best items Plackett-Luce chooses among; at least as many as an answer may have.

    Returns:
        positions `[batch, K]` in the order of their places, -1 where there is no item, and log propensities `[batch, K]` given
        the earlier places, -inf where there is no item. The sum over a row is the log probability of its slate.
    """
    width = index.width(k)
    best, logits, epsilon, mass, count = _choices(index, u, beta, wishes, policy, shortlist)
    noise, coin, pick = tf.unstack(_draws(policy.seed, shortlist), axis=1)

    # adding Gumbel noise and sorting draws a Plackett-Luce order (Yellott 1977); what remains of it after any items are taken
    # out is one of the rest
    _, order = tf.math.top_k(logits - tf.math.log(-tf.math.log(noise)), width)
    slate = tf.gather(best, order, batch_dims=1)
    place = tf.range(width)
    uniform = (coin[:, :width] < epsilon) & (place < count[:, None])
    slate = tf.cond(tf.reduce_any(uniform), lambda: _with_uniform(slate, uniform, pick, mass), lambda: slate)
    slate = tf.where(place < k[:, None], slate, -1)
    log_propensity = _log_propensities(slate, best, logits, epsilon, *_masses(mass, slate))
    return slate, tf.where(slate >= 0, tf.cast(log_propensity, tf.float32), LOWEST)


def log_propensities(
    index: ExactIndex, u: tf.Tensor, slate: tf.Tensor, *, beta: tf.Tensor, wishes: Wishes, policy: Policy, shortlist: int
) -> tf.Tensor:
    """What `explore` would say of slates `[batch, K]` of positions that another policy drew; -inf for what it cannot draw."""
    best, logits, epsilon, mass, _ = _choices(index, u, beta, wishes, policy, shortlist)
    own, total = _masses(mass, slate)
    may = (slate >= 0) & (own > 0)
    log_propensity = _log_propensities(slate, best, logits, epsilon, tf.where(may, own, 0.0), total)
    return tf.where(may, tf.cast(log_propensity, tf.float32), LOWEST)


def _choices(
    index: ExactIndex, u: tf.Tensor, beta: tf.Tensor, wishes: Wishes, policy: Policy, shortlist: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """The shortlist `[batch, shortlist]`, its logits, epsilon, the mass of each item that may come `[batch, n]`, how many may."""
    scores, best = index.best(u, tf.constant(shortlist), beta=beta, wishes=wishes)
    best = tf.where(scores > LOWEST, best, -1)
    eligible = index.eligible(tf.shape(u)[0], wishes)
    count = tf.reduce_sum(tf.cast(eligible, tf.int32), axis=1)
    epsilon = tf.clip_by_value(tf.cast(policy.epsilon, tf.float64), 0.0, 1.0)[:, None]
    mass = tf.where(eligible, index.mass.value()[None], 0.0)
    return best, _logits(scores, policy.temperature), epsilon, mass, count


def _masses(mass: tf.Tensor, slate: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Of the items of a slate `[batch, width]`, and of all that may come `[batch]`."""
    own = tf.gather(mass, tf.maximum(slate, 0), batch_dims=1)
    return tf.cast(own, tf.float64), tf.cast(tf.reduce_sum(mass, axis=1), tf.float64)


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


def _with_uniform(slate: tf.Tensor, uniform: tf.Tensor, pick: tf.Tensor, mass: tf.Tensor) -> tf.Tensor:
    """The slate `[batch, width]` with a choice by mass among the items left in each place that is `uniform`.

    The j-th such place of all rows is done in one step. The choice moves there from its later place, or from outside.
    """
    width = tf.shape(slate)[1]
    place = tf.range(width)
    mass = tf.cast(mass, tf.float64)
    until = tf.cumsum(mass, axis=1)  # the mass of all items up to each, itself included
    at = tf.sort(tf.where(uniform, place, width), axis=1)  # a row with fewer such places has them at the end, where nothing is

    def step(j: tf.Tensor, slate: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        here = at[:, j, None]
        earlier = place < here
        rows = tf.maximum(slate, 0)
        own = tf.where(earlier, tf.gather(mass, rows, batch_dims=1), 0.0)
        begin = tf.where(earlier, tf.gather(until, rows, batch_dims=1) - own, _BEYOND)
        order = tf.argsort(begin, axis=1)
        begin, own = tf.gather(begin, order, batch_dims=1), tf.gather(own, order, batch_dims=1)
        drawn = pick[:, j, None] * _BELOW_1 * (until[:, -1:] - tf.reduce_sum(own, axis=1, keepdims=True))
        # what is drawn lies behind a taken item when the mass before that, less what was taken before it, is no more
        drawn += tf.reduce_sum(tf.where(begin - tf.cumsum(own, axis=1, exclusive=True) <= drawn, own, 0.0), axis=1, keepdims=True)
        item = tf.searchsorted(until, drawn, side="right")
        came_from = tf.reduce_min(tf.where(slate == item, place, width - 1), axis=1, keepdims=True)
        moved = tf.where(place == here, item, tf.roll(slate, 1, axis=1))
        return j + 1, tf.where(earlier | (place > came_from), slate, moved)

    steps = tf.reduce_max(tf.reduce_sum(tf.cast(uniform, tf.int32), axis=1))
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
