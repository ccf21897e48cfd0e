"""The second stage: a deep and cross network over what is known of request, item and both.

DCN v2 (Wang et al. 2021, arXiv:2008.13535), with one head for each declared action:

    x_0 = [u, v, u*v, features, person and moment, numbers, rates]
    x_l+1 = x_0 * (W x_l + b) + x_l                          logits = heads([x_L, deep(x_0)])

A head whose action can only follow another one is a probability over all that was shown: P(purchase) = P(click) P(purchase |
click) (Ma et al. 2018, arXiv:1804.07931). An item's score is the logarithm of what it is expected to bring,

    score(i) = ln max(sum over heads of weight * P(action | i), least)

so a softmax over scores, by which exploration draws, draws in proportion to that. Heads begin at the log odds of their action's
rate, so the first step is calibrated already.
"""
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from tfrec.models.context.context_tower import ContextTower
from tfrec.models.dropout import Noise, dropout
from tfrec.models.ranking.item_rates import columns_of

keras = tf.keras

FEATURE_WIDTH, CONTEXT_WIDTH = 8, 8  # of an item's features; of each feature of person and moment
NUMBERS = 8
LEAST = 1e-4  # share of the positive weights below which all scores are equal: such items are expected to bring nothing, or harm
_LONGEST = 20.0  # ln of seconds that are many years: ages are divided by it


class Behaviour(NamedTuple):
    """What a request's history says of an item beside its vector: `[batch, L]` each, oldest first."""

    item: tf.Tensor  # positions; negative where there is no event
    gap: tf.Tensor  # seconds until the following event, of the newest one until now; negative: unknown


class RankerInputs(NamedTuple):
    """Requests `[batch, ...]` and items `[batch, n, ...]` that are ranked for them."""

    u: tf.Tensor  # [batch, dim] query vectors without their scale
    behaviour: Behaviour
    context: tf.Tensor  # [batch, features] positions of `RequestFeatures`
    item: tf.Tensor  # [batch, n] positions, as in the history; negative where there is none
    v: tf.Tensor  # [batch, n, dim]
    log_p: tf.Tensor  # [batch, n] popularity
    words: tf.Tensor  # [batch, n] what words add, in cosines; 0 without a query
    columns: tf.Tensor  # [batch, n, columns] of the item: its projected features and its rates


class Ranker(keras.layers.Layer):
    """Logits of each action.

    Args:
        dim: Of the towers' vectors.
        feature_width: Columns of `ItemFeatures`.
        context_rows: Of the tables of person and moment (`RequestFeatures.rows`).
        chains: For each head, the numbers of the heads whose logits make its probability, itself first.
        crosses: Cross layers.
        hidden: Widths of the deep layers.
        rate: Dropout.

    Attributes:
        learnt: Slates that were learnt until now; not trained.
        least: Slates from which on it ranks; not trained.
        weights_of_heads: `[heads]`, as configured; not trained.
    """

    def __init__(self, *, dim: int, feature_width: int, context_rows: Sequence[int], chains: Sequence[Sequence[int]],
                 crosses: int = 2, hidden: Sequence[int] = (128, 64), rate: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate, self.chains, self.context_rows = rate, [list(chain) for chain in chains], list(context_rows)
        self.sizes: dict[str, Any] = {"dim": dim, "feature_width": feature_width, "context_rows": self.context_rows,
                                      "chains": self.chains, "crosses": crosses, "hidden": list(hidden), "rate": rate}
        first = tf.VariableAggregation.ONLY_FIRST_REPLICA
        fixed: dict[str, Any] = {"trainable": False, "aggregation": first}
        self.learnt = self.add_weight(name="learnt", shape=[], initializer="zeros", **fixed)
        self.least = self.add_weight(name="least", shape=[], initializer="ones", **fixed)
        self.weights_of_heads = self.add_weight(name="weights_of_heads", shape=[len(chains)], initializer="ones", **fixed)
        self.project_features = keras.layers.Dense(FEATURE_WIDTH, use_bias=False, name="project_features")
        self.project_features.build([None, feature_width])
        self.context = ContextTower(dim=CONTEXT_WIDTH, rows=context_rows, rate=rate, name="context") if context_rows else None
        self.width = width = 3 * dim + NUMBERS + self.columns + CONTEXT_WIDTH * len(context_rows)
        self.crosses = [tfrs.layers.dcn.Cross(projection_dim=32, name=f"cross_{number}") for number in range(crosses)]
        self.deep = [keras.layers.Dense(size, activation="gelu", name=f"deep_{number}") for number, size in enumerate(hidden)]
        self.heads = keras.layers.Dense(len(chains), kernel_initializer="zeros", name="heads")
        for layer in self.crosses:  # a call makes the weights of its parts, which `build` does not
            layer(tf.zeros([1, width]), tf.zeros([1, width]))
        for layer, size in zip(self.deep, (width, *hidden), strict=False):
            layer.build([None, size])
        self.heads.build([None, width + hidden[-1]])

    @property
    def columns(self) -> int:
        """How many columns of an item it reads."""
        return FEATURE_WIDTH + columns_of(len(self.chains))

    @property
    def is_ready(self) -> tf.Tensor:
        """Whether it has learnt enough to rank."""
        return self.learnt >= self.least

    def item_columns(self, features: tf.Tensor, rates: tf.Tensor) -> tf.Tensor:
        """The columns `[..., columns]` of items, from `features` `[..., feature_width]` and `rates` (`ItemRates.columns`)."""
        return tf.concat([self.project_features(features), rates], axis=-1)

    def call(self, pairs: RankerInputs, noise: Noise | None = None) -> tf.Tensor:
        """Logits `[batch, n, heads]`; of a head that follows another one, given that."""
        x0 = self._inputs(pairs, noise)
        flat = tf.reshape(x0, [-1, self.width])
        crossed = deep = dropout(flat, self.rate, noise)
        first = crossed
        for layer in self.crosses:
            crossed = layer(first, crossed)
        for layer in self.deep:
            deep = dropout(layer(deep), self.rate, noise)
        logits = self.heads(tf.concat([crossed, deep], axis=1))
        return tf.reshape(logits, tf.concat([tf.shape(x0)[:2], [len(self.chains)]], axis=0))

    def log_probabilities(self, logits: tf.Tensor) -> tf.Tensor:
        """Ln P of each action `[..., heads]` over all that is shown, by its `logits` `[..., heads]`."""
        log_p = tf.math.log_sigmoid(logits)
        return tf.stack([sum(log_p[..., number] for number in chain) for chain in self.chains], axis=-1)

    def score(self, pairs: RankerInputs, weights: tf.Tensor, otherwise: tf.Tensor) -> tf.Tensor:
        """Scores `[batch, n]`, by `weights` `[batch, heads]`.

        They are `otherwise` in a row without any weight, and everywhere as long as too little was learnt.
        """
        def ranked() -> tf.Tensor:
            value = tf.linalg.matvec(tf.exp(self.log_probabilities(self(pairs))), weights)
            least = LEAST * tf.reduce_sum(tf.maximum(weights, 0.0), axis=1, keepdims=True)
            score = tf.math.log(tf.maximum(value, tf.maximum(least, 1e-12)))
            return tf.where(tf.reduce_any(weights != 0.0, axis=1, keepdims=True), score, otherwise)

        return tf.cond(self.is_ready & tf.reduce_any(weights != 0.0), ranked, lambda: otherwise)

    def configure(self, least: int, weights: Sequence[float]) -> None:
        """Set from how many slates on it ranks, and the weight of each head."""
        self.least.assign(least)
        self.weights_of_heads.assign(weights)

    def start_from(self, rates: np.ndarray) -> None:
        """Start at the log odds of rates `[heads]`, of a head that follows another one given that."""
        rates = np.clip(rates, 1e-4, 1 - 1e-4)
        self.heads.bias.assign(np.log(rates) - np.log1p(-rates))

    def _inputs(self, pairs: RankerInputs, noise: Noise | None) -> tf.Tensor:
        """x_0 `[batch, n, width]`."""
        u = tf.broadcast_to(pairs.u[:, None], tf.shape(pairs.v))
        product = u * pairs.v
        count, newest, known, seen, since = _of_history(pairs)
        ones = tf.ones_like(pairs.log_p)
        numbers = tf.stack([tf.reduce_sum(product, axis=-1), pairs.log_p / 10.0, pairs.words,
                            count[:, None] * ones, newest[:, None] * ones, known[:, None] * ones, seen, since], axis=-1)
        parts = [u, pairs.v, product, numbers, pairs.columns]
        if self.context is not None:
            positions = self.context.hidden(pairs.context[:, None], noise)[:, 0]
            _, vectors = self.context.parts(positions)
            size = [tf.shape(u)[0], 1, CONTEXT_WIDTH * len(self.context_rows)]
            of_request = tf.reshape(vectors, size)
            parts.append(tf.broadcast_to(of_request, tf.concat([tf.shape(u)[:2], [size[-1]]], axis=0)))
        return tf.concat(parts, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return super().get_config() | self.sizes


def _of_history(pairs: RankerInputs) -> tuple[tf.Tensor, ...]:
    """Of each request, ln of its number of events, how recent the newest is, and whether that is known, `[batch]` each; of each
    pair, whether the item is in the history, and how recently, `[batch, n]` each. All are from 0 to about 1.
    """
    there = pairs.behaviour.item >= 0
    gap = tf.cast(tf.where(there, pairs.behaviour.gap, 0), tf.float32)
    is_known = tf.cumsum(tf.cast(gap < 0, tf.int32), axis=1, reverse=True) == 0  # of this event and of all after it
    age = tf.cumsum(tf.maximum(gap, 0.0), axis=1, reverse=True)
    recent = tf.where(there & is_known, 1.0 - tf.math.log1p(age) / _LONGEST, 0.0)  # [batch, L]
    number = tf.reduce_sum(tf.cast(there, tf.float32), axis=1)
    same = (pairs.behaviour.item[:, None, :] == pairs.item[:, :, None]) & there[:, None, :]
    seen = tf.cast(tf.reduce_any(same, axis=2), tf.float32)
    since = tf.reduce_max(tf.where(same, recent[:, None, :], 0.0), axis=2)
    return (tf.math.log1p(number) / 4.0, tf.reduce_max(recent, axis=1),
            tf.cast(tf.reduce_any(there & is_known, axis=1), tf.float32), seen, since)
