"""Likelihoods of clicks and conversions, of which some are not observed. Pure functions of logits and outcomes.

A position without an outcome means one of two things: not wanted, or not observed. With the chance c that an outcome would have
been observed had there been one,

    P(outcome seen) = c sigma(z),

which covers both corrections: a position that was looked at with chance c (position bias; Wang et al. 2018,
doi:10.1145/3159652.3159732), and one whose outcome takes longer than the label has waited, c = 1 - exp(-elapsed / mean delay)
(Chapelle 2014, doi:10.1145/2623330.2623634). They multiply.
"""
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrec.training.slates.mask import masked, masked_sum

_CERTAIN = 1.0 - 1e-6  # a chance of 1 has no finite log of its complement


def observed_cross_entropy(
    logit: tf.Tensor, happened: tf.Tensor, chance: tf.Tensor, weight: tf.Tensor, mask: tf.Tensor
) -> tf.Tensor:
    """Cross entropy of outcomes that may be missed: -sum  weight [y ln(c sigma(z)) + (1 - y) ln(1 - c sigma(z))].

    Args:
        logit: `[batch, K]`, z.
        happened: `[batch, K]`, y: 0 or 1.
        chance: `[batch, K]`, c: above 0 and at most 1.
        weight: `[batch, K]`.
        mask: Bool `[batch, K]`, where there is a shown item.

    Raises:
        ValueError: An array has another shape.
    """
    logit, happened, chance, weight = masked(mask, logit=logit, happened=happened, chance=chance, weight=weight)
    return likelihood_loss(tf.math.log_sigmoid(logit), tf.math.log_sigmoid(-logit), happened, chance, weight, mask)


def entire_space(
    click: tf.Tensor, conversion: tf.Tensor, clicked: tf.Tensor, converted: tf.Tensor, chance: tf.Tensor, delay_chance: tf.Tensor,
    mask: tf.Tensor,
) -> tf.Tensor:
    """Click, and click x conversion, each over all that was shown: P(both) = sigma(click) sigma(conversion after a click).

    A conversion model that is trained on clicks alone is asked about a space that it never saw (Ma et al. 2018,
    arXiv:1804.07931).

    Args:
        click: `[batch, K]`, logits of a click.
        conversion: `[batch, K]`, logits of a conversion after a click.
        clicked: `[batch, K]`, 0 or 1.
        converted: `[batch, K]`, 0 or 1.
        chance: `[batch, K]`, that a click would have been seen, as in `observed_cross_entropy`.
        delay_chance: `[batch, K]`, that a conversion would have come in by now.
        mask: Bool `[batch, K]`, where there is a shown item.

    Raises:
        ValueError: An array has another shape.
    """
    click, conversion, clicked, converted, chance, delay_chance = masked(
        mask, click=click, conversion=conversion, clicked=clicked, converted=converted, chance=chance, delay_chance=delay_chance)
    log_both = tf.math.log_sigmoid(click) + tf.math.log_sigmoid(conversion)
    # 1 - ab = (1 - a) + a (1 - b)
    log_neither = tf.reduce_logsumexp(
        tf.stack([tf.math.log_sigmoid(-click), tf.math.log_sigmoid(click) + tf.math.log_sigmoid(-conversion)]), axis=0)
    one = tf.ones_like(click)
    return (observed_cross_entropy(click, clicked, chance, one, mask)
            + likelihood_loss(log_both, log_neither, converted, chance * delay_chance, one, mask))


def delay_chance(elapsed: tf.Tensor, mean_delay: tf.Tensor) -> tf.Tensor:
    """The share of outcomes that have come in by now: 1 - exp(-elapsed / mean_delay), both in seconds."""
    return 1.0 - tf.exp(-elapsed / mean_delay)


def mean_delay(delays: npt.NDArray[np.floating], *, waited: float) -> float:
    """The likeliest mean of an exponential delay, given the delays of up to `waited` seconds; at most 10 times `waited`.

    Longer delays are not among them, so their own mean m is too small: mu = m + waited / (exp(waited / mu) - 1), which has a
    solution while m is below half of `waited`. 0 without any delay.
    """
    if not len(delays) or not delays.max():
        return 0.0
    most = 10 * waited
    found = observed = float(delays.mean())
    for _ in range(200):
        found = min(observed + waited / np.expm1(min(waited / found, 700.0)), most)
    return float(found)


def likelihood_loss(
    log_p: tf.Tensor, log_not_p: tf.Tensor, happened: tf.Tensor, chance: tf.Tensor, weight: tf.Tensor, mask: tf.Tensor
) -> tf.Tensor:
    """The loss of an event of probability c p, with c = `chance`; 1 - c p = (1 - p) + (1 - c) p, so that nothing cancels.

    Args:
        log_p: `[batch, K]`, ln p.
        log_not_p: `[batch, K]`, ln (1 - p).
        happened: `[batch, K]`, 0 or 1.
        chance: `[batch, K]`, that the event would have been seen.
        weight: `[batch, K]`.
        mask: Bool `[batch, K]`, where there is a shown item.
    """
    chance = tf.where(mask, tf.minimum(chance, _CERTAIN), 0.5)  # has a finite logarithm, and its complement too
    unseen = tf.reduce_logsumexp(tf.stack([log_not_p, tf.math.log1p(-chance) + log_p]), axis=0)
    return -masked_sum(mask, weight * (happened * (tf.math.log(chance) + log_p) + (1.0 - happened) * unseen))
