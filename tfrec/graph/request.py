"""Turns the strings of a request into the vector that is multiplied with item vectors, in the graph, as training does.

    u = behaviour(history, actions, ages) + scale_query(text) + scale_context(person and moment)
    beta: the weight of popularity beside it, which is another one when the request has a query
    words(i) = scale of the query * match(query, i)          what its words add to the score of item i

A history may have pads, unknown items, and more events than are read.
"""
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import tensorflow as tf

from tfrec.client.contract import CONTEXT, HISTORY, TensorKind
from tfrec.client.inputs import UNKNOWN_AGE
from tfrec.config.features import UNKNOWN_TIME
from tfrec.graph.exact_index import ExactIndex, Lookup
from tfrec.models.pretrained.prompts import ROLES, Role
from tfrec.models.recommender import MAX_ACTIONS, Recommender
from tfrec.models.text_encoder import TextEncoder
from tfrec.models.two_tower import SEARCH_BETA

Inputs = dict[str, tf.Tensor]  # of a signature, by the names of `client/contract.py`

# nothing in the graph branches on a tensor in Python, and autograph's search for that is three quarters of the time of tracing
function = partial(tf.function, autograph=False)
_TEXT, _AGES, _CODES = tf.TensorSpec([None], tf.string), *(tf.TensorSpec([None, None], dtype) for dtype in (tf.int64, tf.int32))


def tensor_specs(kinds: Mapping[str, TensorKind]) -> dict[str, tf.TensorSpec]:
    """Inputs as `tf.function` takes them; the names are those that callers of a saved signature use."""
    return {name: tf.TensorSpec([None] * kind.rank, kind.dtype, name=name) for name, kind in kinds.items()}


class Events(NamedTuple):
    """The events of each row, oldest first: `[batch, width]` each."""

    column: tf.Tensor  # of the history that came
    item: tf.Tensor  # position in the index; negative where there is no event
    action: tf.Tensor  # code
    age_s: tf.Tensor  # seconds before now; negative: unknown


class QueryReader:
    """Reads requests, with the weights that `recommender` has whenever it is called.

    Args:
        recommender: the model.
        encoder: of the texts that the model was built with.
        index: knows the items of a history.
    """

    def __init__(self, recommender: Recommender, encoder: TextEncoder, index: ExactIndex) -> None:
        self.model, self.encoder, self._requests = recommender.model, encoder, recommender.requests
        self.kinds = HISTORY | (CONTEXT if recommender.requests.width else {})
        self._index = index
        self.length = recommender.config.model.history
        # an event without an action is read as the first action that the model has met
        codes = {action: code for code, action in enumerate(recommender.actions[: MAX_ACTIONS - 1])}
        actions = Lookup({"": 0} | codes, unknown=MAX_ACTIONS - 1)
        self._actions, self.tables = actions, [actions.table]
        # traced once each, however many signatures call them
        one, other = (function(partial(self._encode, role=role), input_signature=[_TEXT]) for role in ROLES)
        prompts = encoder.tokenizer.prompts
        self.encode = dict(zip(ROLES, (one, one if prompts.query == prompts.item else other), strict=True))
        self.pool = function(encoder.pool, input_signature=[_CODES])
        self.behaviour = function(self._behaviour, input_signature=[Events(_CODES, _CODES, _CODES, _AGES)])
        self._read_history = function(self._read, input_signature=[tensor_specs(self.kinds)])

    def read(self, inputs: Inputs) -> tuple[tf.Tensor, tf.Tensor]:
        """Query vectors `[batch, dim]`, and the weight of popularity beside them `[batch]`.

        What a signature does not take is read as unknown.
        """
        u, beta = self._read_history(self.complete(inputs))
        return u, beta

    def complete(self, inputs: Inputs) -> Inputs:
        """The inputs `kinds`; what a signature does not take is unknown."""
        history = inputs["history"]
        unknown_ages = tf.fill(tf.shape(history), tf.constant(UNKNOWN_AGE, tf.int64))
        batch = tf.shape(history)[0]
        none = tf.zeros([batch, 0], tf.string)
        unknown = {"time": tf.fill([batch], tf.constant(UNKNOWN_TIME, tf.int64)), "context_name": none, "context_value": none}
        complete = {"history_action": tf.zeros_like(history), "history_age_s": unknown_ages} | unknown | inputs
        return {name: complete[name] for name in self.kinds}

    def _read(self, inputs: Inputs) -> tuple[tf.Tensor, tf.Tensor]:
        text = self.encode["query"](inputs["query"])
        searched = tf.reduce_any(text != 0.0, axis=-1)
        u = self.behaviour(self.events(inputs)) + self.model.scale_query(text)
        if self._requests.width:
            same_shape("context_name", inputs["context_name"], context_value=inputs["context_value"])
            u += self.model.scale_context(self.positions(inputs))
        return u, tf.where(searched, SEARCH_BETA, self.model.beta)

    def positions(self, inputs: Inputs) -> tf.Tensor:
        """What the model reads of person and moment, `[batch, features]`; no features where it reads none."""
        if not self._requests.width:
            return tf.zeros([tf.shape(inputs["history"])[0], 0])
        return self._requests.positions(inputs["time"], inputs["context_name"], inputs["context_value"])

    def words(self, queries: tf.Tensor) -> tf.Tensor:
        """What the words of queries `[batch]` add to each score, `[batch, n_positions]`; `[batch, 0]` where all are empty."""
        rows, match = tf.shape(queries)[0], self._index.words
        if match is None:
            return tf.zeros([rows, 0])
        return tf.cond(tf.reduce_any(queries != ""),
                       lambda: self.model.query_scale() * match(queries, self._index.size()), lambda: tf.zeros([rows, 0]))

    def words_of_pieces(self, pieces: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
        """What each word piece `[batch, T]` of a query adds, as a word, to the score of the item at `position` `[batch]`."""
        match = self._index.words
        if match is None:
            return tf.zeros(tf.shape(pieces))
        return self.model.query_scale() * match.of_pieces(pieces, position)

    def _encode(self, texts: tf.Tensor, *, role: Role) -> tf.Tensor:
        """Text vectors `[batch, text_width]`. Empty texts cost nothing and give zero."""
        rows = tf.where(texts != "")
        size = [tf.shape(texts, out_type=tf.int64)[0], self.encoder.width]
        return tf.cond(
            tf.size(rows) > 0,
            lambda: tf.scatter_nd(
                rows, self.pool(self.encoder.tokenizer(tf.gather_nd(texts, rows), role=role, pad_to_max=False)), size),
            lambda: tf.zeros(size),
        )

    def events(self, inputs: Inputs) -> Events:
        """The history in codes `[batch, L]`, pads and unknown items included."""
        history, action, age_s = inputs["history"], inputs["history_action"], inputs["history_age_s"]
        same_shape("history", history, history_action=action, history_age_s=age_s)
        column = tf.broadcast_to(tf.range(tf.shape(history)[1]), tf.shape(history))
        return Events(column, self._index.positions(history), self._actions(action), age_s)

    def _behaviour(self, events: Events) -> tf.Tensor:
        """The query vector of the newest events `[batch, dim]`; zero for a row without any."""
        events = newest(events, self.length)
        count = tf.math.count_nonzero(events.item >= 0, axis=1, dtype=tf.int32)
        items, at = self._index.vectors(events.item), tf.maximum(count - 1, 0)
        u = self.model.scale_behaviour(self.model.queries(items, events.action, gaps(events), at=at)[:, 0])
        return tf.where(count[:, None] > 0, u, 0.0)


def newest(events: Events, most: int) -> Events:
    """The `most` newest events `[batch, width]`, moved to the front in their order: the tower counts positions from the oldest.

    `width` is 1 or more; a row with fewer events has negative items behind them.
    """
    # one column without an event in front, so that there is one
    column, item, age_s = (tf.pad(x, [[0, 0], [1, 0]], constant_values=-1) for x in (events.column, events.item, events.age_s))
    action = tf.pad(events.action, [[0, 0], [1, 0]])
    known = item >= 0
    kept = known & (tf.cumsum(tf.cast(known, tf.int32), axis=1, reverse=True) <= most)
    width = tf.maximum(tf.reduce_max(tf.math.count_nonzero(kept, axis=1, dtype=tf.int32)), 1)
    number = tf.range(tf.shape(item)[1])
    kept_first = tf.argsort(tf.where(kept, number, number + tf.size(number)), axis=1)[:, :width]
    item = tf.where(kept, item, -1)
    return Events(*(tf.gather(x, kept_first, batch_dims=1) for x in (column, item, action, age_s)))


def gaps(events: Events) -> tf.Tensor:
    """Seconds from each of the `newest` events to the following one, of the last until now, `[batch, width]`; -1 if unknown."""
    age_s, count = events.age_s, tf.math.count_nonzero(events.item >= 0, axis=1, dtype=tf.int32)
    last = tf.range(tf.shape(age_s)[1]) == count[:, None] - 1
    until = tf.where(last, tf.zeros_like(age_s), tf.pad(age_s[:, 1:], [[0, 0], [0, 1]]))  # age of the event that followed, or now
    return tf.where((age_s < 0) | (until < 0), tf.constant(UNKNOWN_AGE, tf.int64), tf.maximum(age_s - until, 0))


def same_shape(name: str, of: tf.Tensor, **beside: tf.Tensor) -> None:
    """Assert that inputs whose values belong together one by one have one shape; the caller gets the error."""
    for other, tensor in beside.items():
        tf.debugging.assert_equal(tf.shape(tensor), tf.shape(of), message=f"{other} must have the shape of {name}")
