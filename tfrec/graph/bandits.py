"""Bandits in the graph: Thompson sampling and LinUCB over the Bayesian head (`bayesian_head.py`).

Thompson sampling draws the weights of the head once a request and answers with the best items by that draw. A draw only changes
the query vector, so the index is searched as ever. LinUCB (Li et al. 2010, arXiv:1003.0146) adds standard deviations to the
scores of a shortlist: what it adds is quadratic in the item vector, and no index can search for it.

Neither answers with propensities. How likely a slate of Thompson sampling was is an integral without a closed form, and LinUCB
draws nothing at random. Whatever needs propensities has to refuse their slates.
"""
from typing import Any

import tensorflow as tf

from tfrec.graph.exact_index import LOWEST, ExactIndex, Filters
from tfrec.models.bayesian_head import BayesianHead, features, reweighed


def thompson(
    head: BayesianHead, u: tf.Tensor, beta: tf.Tensor, *, alpha: tf.Tensor, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """`u` `[batch, dim]` and `beta` `[batch]` reweighted by one draw of the head for each `seed` `[batch]`.

    `alpha` `[batch]` scales the posterior's standard deviation: above 1 explores more (Chapelle & Li 2011), 0 not at all.
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
    """The best items by mean + alpha standard deviations, with these sums as scores; otherwise as `ExactIndex.search`.

    Only the `shortlist` best by the mean are considered, which must be at least as many as an answer may have.
    """
    width = index.width(k)
    expected, weight = reweighed(head.expected(), u, beta)
    scores, positions = index.best(expected, tf.constant(shortlist), beta=weight, filters=filters)
    phi = features(u[:, None], index.vectors(positions), index.popularity(positions, beta, filters))
    upper, order = tf.math.top_k(scores + alpha[:, None] * head.sd(phi), width)
    shown = (tf.range(width) < k[:, None]) & (upper > LOWEST)
    return {"items": index.names(tf.gather(positions, order, batch_dims=1), shown), "scores": tf.where(shown, upper, LOWEST)}
