"""Values that look ahead: estimates now and at the user's next request in, a summed squared error out; no model in here.

    Q(s, i) ~ reward + discount * Q'(s', i'),     s' the same user's next request

Double Q-learning lets the model in training choose i' and an older copy of it, the target network, say what that is worth, as
the best of many noisy estimates is too good (van Hasselt et al. 2016, arXiv:1509.06461). SARSA takes the i' that was shown, and
so values the policy that logged (Rummery & Niranjan 1994).
"""
import tensorflow as tf

from tfrec.training.slates.mask import masked, masked_sum


def double_q_value(online: tf.Tensor, target: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """What the target network says of the item that the online one prefers, `[batch]`; 0 where there is nothing to prefer.

    Args:
        online, target: `[batch, items]`, estimates of the same items in the next state.
        mask: bool `[batch, items]`, which of them could come.

    Raises:
        ValueError: an array has another shape: the two networks must have been asked about the same items.
    """
    online, target = masked(mask, online=online, target=target)
    best = tf.argmax(tf.where(mask, online, online.dtype.min), axis=1, output_type=tf.int32)
    return tf.stop_gradient(tf.gather(target, best, batch_dims=1))


def first_shown(value: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """`[batch]` of `value` `[batch, K]` at each slate's first position that exists; 0 where none does."""
    [value] = masked(mask, value=value)
    first = mask & (tf.cumsum(tf.cast(mask, tf.int32), axis=1) == 1)
    return tf.stop_gradient(tf.reduce_sum(tf.where(first, value, 0.0), axis=1))


def bootstrapped(reward: tf.Tensor, following: tf.Tensor, has_next: tf.Tensor, *, discount: float) -> tf.Tensor:
    """`[batch, K]`: reward + discount * the value that follows `[batch]`, where there was a next request (`has_next`, bool)."""
    if has_next.dtype != tf.bool or reward.shape.rank != 2 or following.shape.rank != 1 or has_next.shape.rank != 1:
        raise ValueError(f"bootstrapped: expected reward [batch, K], following [batch] and bool has_next [batch], got "
                         f"{reward.shape}, {following.shape} and {has_next.dtype.name} {has_next.shape}.")
    return reward + discount * tf.stop_gradient(tf.where(has_next, following, 0.0))[:, None]


def squared_error(value: tf.Tensor, goal: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """sum  (value - goal)^2 / 2  where the mask (bool) holds, each `[batch, K]`; the goal is held fixed.

    Raises:
        ValueError: an array has another shape.
    """
    value, goal = masked(mask, value=value, goal=goal)
    return 0.5 * masked_sum(mask, tf.square(value - tf.stop_gradient(goal)))
