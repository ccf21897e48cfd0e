"""The second stage in the graph: it gives the items of a shortlist new scores (`models/ranking`).

What it reads of an item, its features and its rates, is a variable beside the index, so that a delta brings those of new items.
A request may name heads and their weights, which replace the configured ones: heads that it does not name count nothing. One that
names none of the model's heads gets the order of the first stage.
"""
from typing import NamedTuple

import tensorflow as tf

from tfrec.graph.exact_index import LOWEST, NOTHING, ExactIndex, Filters
from tfrec.graph.request import Events, Inputs, QueryReader, function, gaps, newest, same_shape
from tfrec.models.ranking.ranker import Behaviour, Ranker, RankerInputs
from tfrec.models.recommender import Recommender


class Asked(NamedTuple):
    """What the second stage reads of requests, beside the items."""

    u: tf.Tensor  # [batch, dim] scaled query vectors
    history: tf.Tensor  # [batch, L] positions, oldest first; negative where there is no event
    gap: tf.Tensor  # [batch, L] seconds until the following event; negative: unknown
    context: tf.Tensor  # [batch, features]
    weights: tf.Tensor  # [batch, heads]


class SecondStage:
    """Ranks with the weights that `recommender` has whenever it is called.

    Args:
        recommender: the model.
        reader: reads requests.
        index: of the items; it gets the columns of the second stage among its variables.
    """

    def __init__(self, recommender: Recommender, reader: QueryReader, index: ExactIndex) -> None:
        assert recommender.ranker is not None
        self._ranker: Ranker = recommender.ranker
        self._model, self._reader, self._index = recommender.model, reader, index
        self.names = recommender.config.ranker.names
        self._columns = index.keep_rows("ranker_columns", recommender.ranker_columns())
        width, dim, features = len(self.names), recommender.config.model.dim, recommender.requests.width
        floats, words = tf.TensorSpec([None, None]), tf.TensorSpec([None, None], tf.int32)
        asked = Asked(tf.TensorSpec([None, dim]), words, tf.TensorSpec([None, None], tf.int64), tf.TensorSpec([None, features]),
                      tf.TensorSpec([None, width]))
        # traced once, however many signatures call it
        self._scored = function(self._score, input_signature=[asked, words, floats, floats, floats])
        self._predicted = function(self._predict, input_signature=[asked, words, floats, floats])

    def read(self, inputs: Inputs, u: tf.Tensor) -> Asked:
        """What it reads of a request, whose scaled query vector is `u` `[batch, dim]`."""
        known = self._reader.complete(inputs)
        events: Events = newest(self._reader.events(known), self._reader.length)
        rows = tf.shape(u)[0]
        weights = tf.broadcast_to(self._ranker.weights_of_heads, tf.stack([rows, len(self.names)]))
        if "head_names" in inputs:
            names, given = inputs["head_names"], inputs["head_weights"]
            same_shape("head_names", names, head_weights=given)
            own = tf.reduce_sum(tf.where(names[:, :, None] == tf.constant(self.names), given[:, :, None], 0.0), axis=1)
            weights = tf.where(tf.reduce_any(names != NOTHING, axis=1, keepdims=True), own, weights)
        return Asked(u, events.item, gaps(events), self._reader.positions(known), weights)

    def scores(self, asked: Asked, positions: tf.Tensor, scores: tf.Tensor, filters: Filters) -> tf.Tensor:
        """New scores of items at `positions` `[batch, n]`; where that is negative or a score is -inf, it stays as it is."""
        there = (positions >= 0) & (scores > LOWEST)
        found = self._scored(asked, tf.where(there, positions, -1), tf.where(there, scores, 0.0),
                             *self._popularity_and_words(positions, filters))
        return tf.where(there, found, scores)

    def probabilities(self, asked: Asked, positions: tf.Tensor, filters: Filters) -> tf.Tensor:
        """P of each action `[batch, n, heads]` for items at `positions` `[batch, n]`; 0 where a position is negative."""
        found = self._predicted(asked, positions, *self._popularity_and_words(positions, filters))
        return tf.where((positions >= 0)[:, :, None], found, 0.0)

    def _popularity_and_words(self, positions: tf.Tensor, filters: Filters) -> tuple[tf.Tensor, tf.Tensor]:
        at = tf.maximum(positions, 0)
        log_p = self._index.popularity(at, tf.ones_like(positions[:, 0], tf.float32), filters)
        words = tf.cond(tf.shape(filters.words)[1] > 0, lambda: tf.gather(filters.words, at, batch_dims=1),
                        lambda: tf.zeros_like(log_p))
        return log_p, words

    def _pairs(self, asked: Asked, positions: tf.Tensor, log_p: tf.Tensor, words: tf.Tensor) -> RankerInputs:
        unit = tf.exp(-self._model.log_scale)
        columns = tf.gather(self._columns.value(), tf.maximum(positions, 0))
        behaviour, v = Behaviour(asked.history, asked.gap), self._index.vectors(positions)
        return RankerInputs(asked.u * unit, behaviour, asked.context, positions, v, log_p, words * unit, columns)

    def _score(self, asked: Asked, positions: tf.Tensor, scores: tf.Tensor, log_p: tf.Tensor, words: tf.Tensor) -> tf.Tensor:
        return self._ranker.score(self._pairs(asked, positions, log_p, words), asked.weights, scores)

    def _predict(self, asked: Asked, positions: tf.Tensor, log_p: tf.Tensor, words: tf.Tensor) -> tf.Tensor:
        pairs = self._pairs(asked, positions, log_p, words)
        return tf.exp(self._ranker.log_probabilities(self._ranker(pairs)))
