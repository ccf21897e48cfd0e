"""Bandits in the graph: the best items by what feedback leaves uncertain, with no propensity that could be said exactly.

Thompson sampling draws the weights of the head (`bayesian_head.py`) once a request and answers with the best by that draw: it
only weighs the query anew, so the index is searched as ever. LinUCB (Li et al. 2010, arXiv:1003.0146) adds standard deviations
to the score of each of a shortlist, since what it adds is quadratic in the item and no index can search for it.

How likely a slate of Thompson sampling was is an integral without a closed form, and in LinUCB there is no chance at all; so
both answer without propensities, and what needs them has to refuse their slates.
"""
from typing import Any

import tensorflow as tf

from tfrec.graph.exact_index import LOWEST, ExactIndex, Filters
from tfrec.models.bayesian_head import BayesianHead, features, reweighed


def thompson(
    head: BayesianHead, u: tf.Tensor, beta: tf.Tensor, *, alpha: tf.Tensor, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Query vectors `[batch, dim]` and weights of popularity `[batch]` by one draw of the head for each `seed` `[batch]`.

    Args:
        u, beta: those that the draw weighs anew.
        alpha: `[batch]`, times the posterior's standard deviation: above 1 explores more (Chapelle & Li 2011), 0 not at all.
    """
    size = head.mean.shape[0]

    def of_one(one: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_normal([size], tf.stack([one, 1]))  # not the numbers of `explore` with that seed

    noise = tf.map_fn(of_one, seed, fn_output_signature=tf.TensorSpec([size]))
    drawn, popularity = reweighed(head.draw(alpha[:, None] * noise), u, beta)
    return drawn, popularity


def linucb(
    index: ExactIndex, head: BayesianHead, u: tf.Tensor, k: tf.Tensor, *, beta: tf.Tensor, filters: Filters, alpha: tf.Tensor,
    shortlist: int,
) -> dict[str, Any]:
    """The best by mean + `alpha` `[batch]` standard deviations, and these bounds; otherwise as `ExactIndex.search`.

    Args:
        shortlist: how many of the best by the mean are looked at; at least as many as an answer may have.
    """
    width = index.width(k)
    expected, weight = reweighed(head.expected(), u, beta)
    scores, places = index.best(expected, tf.constant(shortlist), beta=weight, filters=filters)
    phi = features(u[:, None], index.vectors(places), index.popularity(places, beta, filters))
    upper, order = tf.math.top_k(scores + alpha[:, None] * head.sd(phi), width)
    shown = (tf.range(width) < k[:, None]) & (upper > LOWEST)
    return {"items": index.names(tf.gather(places, order, batch_dims=1), shown), "scores": tf.where(shown, upper, LOWEST)}
