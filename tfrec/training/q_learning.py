"""Values that look ahead: estimates now and at the user's next request in, a summed squared error out; no model in here.

    Q(s, i) ~ reward + discount * Q'(s', i'),     s' the same user's next request

Double Q-learning lets the model in training choose i' and an older copy of it, the target network, say what that is worth, as
the best of many noisy estimates is too good (van Hasselt et al. 2016, arXiv:1509.06461). SARSA takes the i' that was shown, and
so values the policy that logged (Rummery & Niranjan 1994).
"""
import tensorflow as tf


def double_q_value(online: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """`[batch]`: what the target network says of the item that the online one prefers; `[batch, items]` of the next state."""
    best = tf.argmax(online, axis=1, output_type=tf.int32)
    return tf.stop_gradient(tf.gather(target, best, batch_dims=1))


def bootstrapped(reward: tf.Tensor, following: tf.Tensor, has_next: tf.Tensor, *, discount: float) -> tf.Tensor:
    """`[batch, K]`: reward + discount * the value that follows `[batch]`, where there was a next request (`has_next`, 0 or 1)."""
    return reward + discount * tf.stop_gradient(following * has_next)[:, None]


def squared_error(value: tf.Tensor, goal: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """sum  weight (value - goal)^2 / 2,  each `[batch, K]`; the goal is held fixed."""
    return 0.5 * tf.reduce_sum(weight * tf.square(value - tf.stop_gradient(goal)))
