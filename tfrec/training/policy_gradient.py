"""Policy gradients from logged slates: log probabilities of what was shown in, a summed loss out; no model in here.

The policy that is improved is the one that explores when serving: Plackett-Luce over `logits = score / temperature`, in each
place mixed with a choice by mass (1 each, unless new items have a share of their own),

    pi(i | earlier) = (1 - eps) exp(logit_i) / sum over items left exp(logit) + eps m_i / sum over items left m.

A logged place is one action with the propensity that the log holds for it. Both losses have the gradient of minus the reward
that the policy would earn: REINFORCE with capped weights and a correction for slates of K (Chen et al. 2019, arXiv:1812.02353),
and PPO's clipped surrogate (Schulman et al. 2017, arXiv:1707.06347) against the policy that logged.
"""
import tensorflow as tf

NEVER = -1e9  # a logit of what is not there


def plackett_luce(own: tf.Tensor, rest: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """ln P of each shown item, given the earlier places, and as a first choice; `[batch, K]` each.

    Nothing is subtracted from a sum of exponentials, so the items left may be as unlikely as they like.

    Args:
        own: `[batch, K]`, logits of the shown items in their order; `NEVER` where a slate is shorter.
        rest: `[batch]`, ln of the summed exponentials of all other items that could come.
    """
    k = tf.shape(own)[1]
    later = tf.where(tf.linalg.band_part(tf.ones([k, k]), 0, -1) > 0, own[:, None, :], NEVER)  # from each place on
    left = tf.reduce_logsumexp(tf.concat([later, tf.tile(rest[:, None, None], [1, k, 1])], axis=2), axis=2)
    return own - left, own - left[:, :1]


def policy(
    own: tf.Tensor, others: tf.Tensor, log_q: tf.Tensor, *, epsilon: float, mass: tuple[tf.Tensor, tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
    """ln pi of each place given the earlier ones, the part left to chance included, and of each item as a first choice by logit.

    Args:
        own: `[batch, K]`, logits of the shown items.
        others: `[batch, N]`, logits of candidates, `NEVER` for what was shown or could not come.
        log_q: `[N]`, ln of how often each candidate is expected among the N; 0 when they are all there are.
        epsilon: how much is left to chance.
        mass: m of the shown items `[batch, K]` and of all that could come `[batch]`.
    """
    log_pi, log_first = plackett_luce(tf.maximum(own, NEVER), tf.reduce_logsumexp(others - log_q, axis=1))
    return with_chance(log_pi, epsilon, *mass), log_first


def with_chance(log_pi: tf.Tensor, epsilon: float, own: tf.Tensor, total: tf.Tensor) -> tf.Tensor:
    """ln of (1 - eps) pi + eps m / (m of the items left), `[batch, K]`; masses `own` `[batch, K]` and `total` `[batch]`."""
    left = total[:, None] - tf.cumsum(own, axis=1, exclusive=True)
    return tf.math.log((1.0 - epsilon) * tf.exp(log_pi) + epsilon * own / tf.maximum(left, 1e-3))


def top_k_correction(log_first: tf.Tensor, k: float) -> tf.Tensor:
    """K (1 - pi)^(K - 1): how much more often an item is in a slate of K when pi, its share of first choices, grows."""
    return k * tf.pow(1.0 - tf.exp(tf.minimum(log_first, 0.0)), k - 1.0)


def reinforce(
    log_first: tf.Tensor, log_pi: tf.Tensor, log_propensity: tf.Tensor, reward: tf.Tensor, *, k: float, cap: float
) -> tf.Tensor:
    """-sum  min(pi / propensity, cap) K (1 - p)^(K - 1) reward ln p,  with everything before ln p held fixed.

    Args:
        log_first: `[batch, K]`, ln p of each shown item as a first choice.
        log_pi: `[batch, K]`, ln of the policy's probability of the place given the earlier ones.
        log_propensity: `[batch, K]`, the same of the policy that logged, or of a model of it.
        reward: `[batch, K]`; 0 where a slate is shorter.
        k: places of a slate; 1 turns the correction off.
        cap: of the weights, so that no place weighs more (a little bias for far less variance).
    """
    weight = tf.exp(tf.minimum(log_pi - log_propensity, tf.math.log(cap)))
    return -tf.reduce_sum(tf.stop_gradient(weight * top_k_correction(log_first, k) * reward) * log_first)


def clipped_surrogate(log_pi: tf.Tensor, log_propensity: tf.Tensor, advantage: tf.Tensor, *, clip: float) -> tf.Tensor:
    """-sum  min(w A, clip(w, 1 - c, 1 + c) A),  w = pi / propensity: no more is gained once a probability has moved by c.

    Args:
        log_pi, log_propensity: `[batch, K]`, as in `reinforce`.
        advantage: `[batch, K]`, rewards less what was to be expected; 0 where a slate is shorter.
        clip: c.
    """
    weight = tf.exp(tf.minimum(log_pi - log_propensity, 20.0))
    return -tf.reduce_sum(tf.minimum(weight * advantage, tf.clip_by_value(weight, 1.0 - clip, 1.0 + clip) * advantage))
