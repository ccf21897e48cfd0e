"""Policy gradients from logged slates. Pure functions of log probabilities.

The policy that is improved is the one that explores when serving (`graph/explore.py`). It is Plackett-Luce over
`logits = score / temperature` of a *shortlist*, the best items that could come. In each position it is mixed with a choice by
mass (1 each, unless new items have a share of their own) among all that could come,

    pi(i | earlier) = (1 - eps) [i in shortlist] exp(logit_i) / sum over the shortlist left exp(logit)
                      + eps m_i / sum over items left m.

A logged position is one action with the propensity that the log holds for it. Both losses have the gradient of minus the reward
that the policy would earn: REINFORCE with capped weights and a correction for slates of K items (Chen et al. 2019,
arXiv:1812.02353), and PPO's clipped surrogate (Schulman et al. 2017, arXiv:1707.06347) against the policy that logged.
"""
import math
from typing import NamedTuple

import tensorflow as tf

from tfrec.training.slates.mask import masked, masked_sum

NEVER = -1e9  # a logit of what is not there; finite, so that no gradient is infinite
_MOST = 20.0  # of the log of PPO's weights: e^20 is beyond any clip, and its square is finite


class LogPolicy(NamedTuple):
    """Log probabilities of shown items, `[batch, K]` each; 0 where a slate is shorter."""

    log_pi: tf.Tensor  # of the position given the earlier ones, as served
    log_listed: tf.Tensor  # the same, had each item that chance brought been on the shortlist itself
    log_first: tf.Tensor  # of the item as a first choice by logit, the shortlist and the item itself to choose from


def policy(
    own: tf.Tensor, listed: tf.Tensor, same: tf.Tensor, mask: tf.Tensor, *, epsilon: float, mass: tuple[tf.Tensor, tf.Tensor]
) -> LogPolicy:
    """The exploring policy's probabilities of slates.

    An item from outside the shortlist was drawn by chance alone, which no logit moves. `log_listed` and `log_first` are its
    probabilities as if it stood on the shortlist, so that what chance finds can be learnt.

    Args:
        own: `[batch, K]`, logits of the shown items.
        listed: `[batch, S]`, logits of the shortlist; `NEVER` or below where it is shorter.
        same: Bool `[batch, K, S]`, where a shown item is the one on the shortlist.
        mask: Bool `[batch, K]`, where there is a shown item.
        epsilon: Share that is left to chance.
        mass: m of the shown items `[batch, K]` and of all that could come `[batch]`.

    Raises:
        ValueError: An array has another shape.
    """
    own, mass_own = masked(mask, own=own, mass=mass[0])
    shapes = (listed.shape, same.shape, mass[1].shape)
    if [shape.rank for shape in shapes] != [2, 3, 1] or not same.shape[1:].is_compatible_with([mask.shape[1], listed.shape[1]]):
        raise ValueError(f"policy: expected a shortlist [batch, S], [batch, K, S] and a mass [batch] beside the mask's "
                         f"{mask.shape}, got {shapes[0]}, {shapes[1]} and {shapes[2]}.")
    same = same & mask[:, :, None]
    is_listed = tf.reduce_any(same, axis=2)
    others = tf.where(tf.reduce_any(same, axis=1), NEVER, tf.maximum(listed, NEVER))
    reached, log_first = plackett_luce(own, tf.reduce_logsumexp(others, axis=1), mask, is_listed)
    log_listed = with_chance(reached, mask, epsilon, mass_own, mass[1])
    log_pi = with_chance(tf.where(is_listed, reached, NEVER), mask, epsilon, mass_own, mass[1])
    return LogPolicy(log_pi, log_listed, log_first)


def plackett_luce(own: tf.Tensor, rest: tf.Tensor, mask: tf.Tensor, is_listed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Log probabilities of each shown item given the earlier positions, and as a first choice; `[batch, K]`, 0 where masked.

    Each item chooses against the listed ones, itself included. Nothing is subtracted from a sum of exponentials, so the items
    left may be as unlikely as they like.

    Args:
        own: `[batch, K]`, logits of the shown items in their order.
        rest: `[batch]`, log of the summed exponentials of what is listed and not shown.
        mask: Bool `[batch, K]`, where there is a shown item.
        is_listed: Bool `[batch, K]`, which of them are listed.
    """
    [own] = masked(mask, own=own)
    k = tf.shape(own)[1]
    counts = (is_listed & mask)[:, None, :] | tf.eye(k, dtype=tf.bool)
    from_here = tf.linalg.band_part(tf.ones([k, k], tf.bool), 0, -1)

    def log_sum(which: tf.Tensor) -> tf.Tensor:
        logits = tf.where(which, own[:, None, :], NEVER)
        return tf.reduce_logsumexp(tf.concat([logits, tf.tile(rest[:, None, None], [1, k, 1])], axis=2), axis=2)

    return tf.where(mask, own - log_sum(counts & from_here), 0.0), tf.where(mask, own - log_sum(counts), 0.0)


def with_chance(log_pi: tf.Tensor, mask: tf.Tensor, epsilon: float, own: tf.Tensor, total: tf.Tensor) -> tf.Tensor:
    """The log of (1 - eps) pi + eps m / (m of the items left), `[batch, K]`; masses `own` `[batch, K]` and `total` `[batch]`.

    Summed as logarithms: exp(log_pi) may be 0 in float32, and eps and a mass may be 0.
    """
    log_pi, own = masked(mask, log_pi=log_pi, own=own)
    left = total[:, None] - tf.cumsum(own, axis=1, exclusive=True)
    by_chance = tf.where(own > 0, tf.math.log(tf.where(own > 0, own / tf.maximum(left, own), 1.0)), NEVER)
    mixed = tf.stack([log_pi + _log(1.0 - epsilon), by_chance + _log(epsilon)])
    return tf.where(mask, tf.minimum(tf.reduce_logsumexp(mixed, axis=0), 0.0), 0.0)


def top_k_correction(log_first: tf.Tensor, k: tf.Tensor | float) -> tf.Tensor:
    """How much faster an item's place in a slate of K grows than its share of first choices pi: K (1 - pi)^(K - 1)."""
    return k * tf.pow(1.0 - tf.exp(tf.minimum(log_first, 0.0)), k - 1.0)


def reinforce(
    log_first: tf.Tensor, log_pi: tf.Tensor, log_propensity: tf.Tensor, reward: tf.Tensor, mask: tf.Tensor, *,
    k: tf.Tensor | float, cap: float
) -> tf.Tensor:
    """REINFORCE: -sum  min(pi / propensity, cap) K (1 - p)^(K - 1) reward ln p,  with everything before ln p held fixed.

    Args:
        log_first: `[batch, K]`, log of p, the probability of each shown item as a first choice.
        log_pi: `[batch, K]`, log of the policy's probability of each position given the earlier ones.
        log_propensity: `[batch, K]`, the same by the policy that logged, or by a model of it.
        reward: `[batch, K]`.
        mask: Bool `[batch, K]`, where there is a shown item.
        k: Length of each slate `[batch, 1]` (`slate_length`), or of all; 1 turns the correction off.
        cap: Largest weight of a position: a little bias for far less variance.

    Raises:
        ValueError: An array has another shape.
    """
    log_first, log_pi, log_propensity, reward = masked(
        mask, log_first=log_first, log_pi=log_pi, log_propensity=log_propensity, reward=reward)
    weight = tf.exp(tf.minimum(log_pi - log_propensity, math.log(cap)))
    return -masked_sum(mask, tf.stop_gradient(weight * top_k_correction(log_first, k) * reward) * log_first)


def clipped_surrogate(
    log_pi: tf.Tensor, log_propensity: tf.Tensor, advantage: tf.Tensor, mask: tf.Tensor, *, clip: float
) -> tf.Tensor:
    """PPO: -sum  min(w A, clip(w, 1 - c, 1 + c) A),  w = pi / propensity. No more is gained once a probability has moved by c.

    Args:
        log_pi: `[batch, K]`, as in `reinforce`.
        log_propensity: `[batch, K]`, as in `reinforce`.
        advantage: `[batch, K]`, A: rewards less their expectation.
        mask: Bool `[batch, K]`, where there is a shown item whose propensity is known.
        clip: c.

    Raises:
        ValueError: An array has another shape.
    """
    log_pi, log_propensity, advantage = masked(mask, log_pi=log_pi, log_propensity=log_propensity, advantage=advantage)
    weight = tf.exp(tf.minimum(log_pi - log_propensity, _MOST))
    return -masked_sum(mask, tf.minimum(weight * advantage, tf.clip_by_value(weight, 1.0 - clip, 1.0 + clip) * advantage))


def _log(share: float) -> float:
    return math.log(share) if share > 0 else NEVER
