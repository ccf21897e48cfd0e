"""Values that look ahead to the user's next request. Pure functions of estimates.

    Q(s, i) ~ reward + discount * Q'(s', i'),     s' the same user's next request

In double Q-learning the model in training chooses i', and an older copy of it, the target network, says what i' is worth, since
the best of many noisy estimates is too good (van Hasselt et al. 2016, arXiv:1509.06461). SARSA takes the i' that was shown, and
so values the policy that logged (Rummery & Niranjan 1994).
"""
import tensorflow as tf

from tfrec.training.slates.mask import masked, masked_sum


def double_q_value(online: tf.Tensor, target: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """The target network's value of the item that the online network prefers, `[batch]`; 0 where there is none to prefer.

    Args:
        online: `[batch, items]`, estimates of the online network in the next state.
        target: `[batch, items]`, estimates of the target network of the same items.
        mask: Bool `[batch, items]`, which of them could come.

    Raises:
        ValueError: An array has another shape: the two networks must have been asked about the same items.
    """
    online, target = masked(mask, online=online, target=target)
    best = tf.argmax(tf.where(mask, online, online.dtype.min), axis=1, output_type=tf.int32)
    return tf.stop_gradient(tf.gather(target, best, batch_dims=1))


def first_shown(value: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """The `value` `[batch, K]` at each slate's first position that exists, `[batch]`; 0 where none does."""
    [value] = masked(mask, value=value)
    first = mask & (tf.cumsum(tf.cast(mask, tf.int32), axis=1) == 1)
    return tf.stop_gradient(tf.reduce_sum(tf.where(first, value, 0.0), axis=1))


def bootstrapped(reward: tf.Tensor, following: tf.Tensor, has_next: tf.Tensor, *, discount: float) -> tf.Tensor:
    """The goal `[batch, K]` of a value: the reward and, where there was a next request, the discounted value that follows.

    Args:
        reward: `[batch, K]`.
        following: `[batch]`, value at the next request; arbitrary where there was none.
        has_next: Bool `[batch]`, where there was a next request.
        discount: Of what follows.

    Raises:
        ValueError: An array has another shape.
    """
    if has_next.dtype != tf.bool or reward.shape.rank != 2 or following.shape.rank != 1 or has_next.shape.rank != 1:
        raise ValueError(f"bootstrapped: expected reward [batch, K], following [batch] and bool has_next [batch], got "
                         f"{reward.shape}, {following.shape} and {has_next.dtype.name} {has_next.shape}.")
    return reward + discount * tf.stop_gradient(tf.where(has_next, following, 0.0))[:, None]


def squared_error(value: tf.Tensor, goal: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Half the summed squared error of `value` where the bool `mask` holds, each `[batch, K]`; the goal is held fixed.

    Raises:
        ValueError: An array has another shape.
    """
    value, goal = masked(mask, value=value, goal=goal)
    return 0.5 * masked_sum(mask, tf.square(value - tf.stop_gradient(goal)))
