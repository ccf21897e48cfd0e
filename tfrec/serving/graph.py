"""The model as a graph that any TensorFlow Serving runs: raw strings in, item ids out, every input with the batch in front.

    serving_default   history [B, L], query [B], k [B]                                    -> items, scores [B, K]
    recommend         + history_action [B, L], history_age_s [B, L], exclude [B, E],
                      allow_tags [B, T], deny_tags [B, U], prior_items, prior_log_p [B, P] -> items, scores [B, K]
    explore           + temperature [B], epsilon [B], seed [B]             -> items, scores, log_propensities [B, K]
    rank              history, history_action, history_age_s, query, candidates [B, C],
                      prior_items, prior_log_p                                             -> scores [B, C]
    similar           item [B], k [B]                                                     -> items, scores [B, K]
    embed_query       history [B, L], query [B]                                           -> vectors [B, dim]
    embed_item        text [B]                                                            -> vectors [B, dim]

Signatures are written by hand, since Keras' own freeze k and name outputs `output_1`. The graph is traced from the functions that
train and score, and reads a history as they do.
"""
from functools import partial
from typing import Any

import tensorflow as tf

from tfrec.models.recommender import MAX_ACTIONS, Recommender
from tfrec.models.text_encoder import TextEncoder
from tfrec.models.two_tower import SEARCH_BETA
from tfrec.serving.explore import SHORTLIST, Policy, explore
from tfrec.serving.index import LOWEST, Lookup, Wishes
from tfrec.serving.index_choice import Given, choose_index
from tfrec.serving.inputs import UNKNOWN_AGE

Answer = dict[str, Any]

# nothing in the graph branches on a tensor in Python, and autograph's search for that is three quarters of the time of tracing
_function = partial(tf.function, autograph=False)
_TEXT, _TEXTS = tf.TensorSpec([None], tf.string), tf.TensorSpec([None, None], tf.string)
_COUNT, _SEED, _NUMBER = (tf.TensorSpec([None], dtype) for dtype in (tf.int32, tf.int64, tf.float32))
_SECONDS, _LOGS = (tf.TensorSpec([None, None], dtype) for dtype in (tf.int64, tf.float32))
_BEHAVIOUR = [_TEXTS, _TEXTS, _SECONDS, _TEXT]
_WANTED = [*_BEHAVIOUR, _COUNT, _TEXTS, _TEXTS, _TEXTS, _TEXTS, _LOGS]


class Graph:
    """The signatures of one recommender, as functions to call and as a module to save.

    Args:
        recommender: its present weights are read whenever a function is called; items, actions and popularity are fixed here.
        encoder: of the texts that `recommender` was built with.
        given: the index of the version whose graph this one shares, for a delta.
    """

    def __init__(self, recommender: Recommender, encoder: TextEncoder, *, given: Given | None = None) -> None:
        self._model, self._encoder = recommender.model, encoder
        self._length = recommender.config.model.history
        self._index, self.measured = choose_index(recommender, given=given)
        self.catalogue_state = self._index.state  # the variables that a delta replaces
        self.shortlist = max(SHORTLIST, recommender.config.serving.max_k)
        # an event without an action is taken for the first action that the model has met
        codes = {action: code for code, action in enumerate(recommender.actions[: MAX_ACTIONS - 1])}
        self._actions = Lookup({"": 0} | codes, unknown=MAX_ACTIONS - 1)
        # traced once each, however many signatures call them
        self._encode = _function(self._encode_text, input_signature=[_TEXT])
        self._read = _function(self._read_request, input_signature=_BEHAVIOUR)
        self.functions = {
            "serving_default": _function(self._serving_default, input_signature=[_TEXTS, _TEXT, _COUNT]),
            "recommend": _function(self._recommend, input_signature=_WANTED),
            "explore": _function(self._explore, input_signature=[*_WANTED, _NUMBER, _NUMBER, _SEED]),
            "rank": _function(self._rank, input_signature=[*_BEHAVIOUR, _TEXTS, _TEXTS, _LOGS]),
            "similar": _function(self._similar, input_signature=[_TEXT, _COUNT]),
            "embed_query": _function(self._embed_query, input_signature=[_TEXTS, _TEXT]),
            "embed_item": _function(self._embed_item, input_signature=[_TEXT]),
        }

    def module(self) -> tf.Module:
        """What to save with `functions` as signatures: variables and tables, and nothing that Keras would trace again."""
        graphs = [function.get_concrete_function().graph for function in self.functions.values()]
        module = tf.Module()
        module.catalogue = self.catalogue_state
        of_catalogue = {id(variable) for variable in self.catalogue_state.values()}
        variables = {id(variable): variable for graph in graphs for variable in graph.variables}
        module.weights = [variable for key, variable in variables.items() if key not in of_catalogue]
        module.tables = [*self._index.tables, self._actions.table]
        return module

    # -- signatures: the names of the arguments are those of the inputs

    def _serving_default(self, history: tf.Tensor, query: tf.Tensor, k: tf.Tensor) -> Answer:
        u, beta = self._read(history, tf.zeros_like(history), _no_age(history), query)
        return self._index.search(u, k, beta=beta)

    def _recommend(
        self,
        history: tf.Tensor,
        history_action: tf.Tensor,
        history_age_s: tf.Tensor,
        query: tf.Tensor,
        k: tf.Tensor,
        exclude: tf.Tensor,
        allow_tags: tf.Tensor,
        deny_tags: tf.Tensor,
        prior_items: tf.Tensor,
        prior_log_p: tf.Tensor,
    ) -> Answer:
        u, beta = self._read(history, history_action, history_age_s, query)
        wishes = _wishes(exclude, allow_tags, deny_tags, prior_items, prior_log_p)
        return self._index.search(u, k, beta=beta, wishes=wishes)

    def _explore(
        self,
        history: tf.Tensor,
        history_action: tf.Tensor,
        history_age_s: tf.Tensor,
        query: tf.Tensor,
        k: tf.Tensor,
        exclude: tf.Tensor,
        allow_tags: tf.Tensor,
        deny_tags: tf.Tensor,
        prior_items: tf.Tensor,
        prior_log_p: tf.Tensor,
        temperature: tf.Tensor,
        epsilon: tf.Tensor,
        seed: tf.Tensor,
    ) -> Answer:
        u, beta = self._read(history, history_action, history_age_s, query)
        wishes = _wishes(exclude, allow_tags, deny_tags, prior_items, prior_log_p)
        policy = Policy(temperature, epsilon, seed)
        slate, log_propensities = explore(self._index, u, k, beta=beta, wishes=wishes, policy=policy, shortlist=self.shortlist)
        return {
            "items": self._index.names(tf.maximum(slate, 0), slate >= 0),
            "scores": self._scores(u, slate, beta, wishes),
            "log_propensities": log_propensities,
        }

    def _rank(
        self,
        history: tf.Tensor,
        history_action: tf.Tensor,
        history_age_s: tf.Tensor,
        query: tf.Tensor,
        candidates: tf.Tensor,
        prior_items: tf.Tensor,
        prior_log_p: tf.Tensor,
    ) -> Answer:
        u, beta = self._read(history, history_action, history_age_s, query)
        none = tf.zeros([tf.shape(query)[0], 0], tf.string)
        wishes = _wishes(none, none, none, prior_items, prior_log_p)
        return {"scores": self._scores(u, self._index.positions(candidates), beta, wishes)}

    def _similar(self, item: tf.Tensor, k: tf.Tensor) -> Answer:
        position = self._index.positions(item)
        none = tf.zeros([tf.shape(item)[0], 0], tf.string)
        wishes = Wishes(item[:, None], none, none, none, tf.zeros(tf.shape(none)))
        u = self._index.vectors(position)
        return self._index.search(u, tf.where(position >= 0, k, 0), beta=tf.zeros_like(position, tf.float32), wishes=wishes)

    def _embed_query(self, history: tf.Tensor, query: tf.Tensor) -> Answer:
        u, _ = self._read(history, tf.zeros_like(history), _no_age(history), query)
        return {"vectors": u}

    def _embed_item(self, text: tf.Tensor) -> Answer:
        return {"vectors": tf.math.l2_normalize(self._model.items.text_part(self._encode(text)), axis=-1)}

    # -- what signatures share

    def _read_request(
        self, history: tf.Tensor, action: tf.Tensor, age_s: tf.Tensor, query: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """What is multiplied with item vectors `[batch, dim]`, and the weight of popularity beside it `[batch]`."""
        _same_shape("history", history, history_action=action, history_age_s=age_s)
        text = self._encode(query)
        searched = tf.reduce_any(text != 0.0, axis=-1)
        u = self._behaviour(self._index.positions(history), self._actions(action), age_s) + self._model.scale_query(text)
        return u, tf.where(searched, SEARCH_BETA, self._model.beta)

    def _scores(self, u: tf.Tensor, positions: tf.Tensor, beta: tf.Tensor, wishes: Wishes) -> tf.Tensor:
        """Of the items at `positions` `[batch, n]`, -inf where that is negative."""
        at = tf.maximum(positions, 0)
        log_p = tf.gather(self._index.log_p(tf.shape(u)[0], wishes), at, batch_dims=1)
        scores = tf.linalg.matvec(self._index.vectors(at), u) + beta[:, None] * log_p
        return tf.where(positions >= 0, scores, LOWEST)

    def _encode_text(self, texts: tf.Tensor) -> tf.Tensor:
        """Text vectors `[batch, text_width]`. Empty texts cost nothing and give zero."""
        rows = tf.where(texts != "")
        size = [tf.shape(texts, out_type=tf.int64)[0], self._encoder.width]
        return tf.cond(
            tf.size(rows) > 0,
            lambda: tf.scatter_nd(rows, self._encoder(tf.gather_nd(texts, rows)), size),
            lambda: tf.zeros(size),
        )

    def _behaviour(self, position: tf.Tensor, action: tf.Tensor, age_s: tf.Tensor) -> tf.Tensor:
        """The query vector of behaviour `[batch, dim]`, newest event last; a negative position is no event."""
        # one empty place in front, so that there is one
        position, age_s = (tf.pad(x, [[0, 0], [1, 0]], constant_values=-1) for x in (position, age_s))
        action = tf.pad(action, [[0, 0], [1, 0]])
        known = position >= 0
        kept = known & (tf.cumsum(tf.cast(known, tf.int32), axis=1, reverse=True) <= self._length)
        count = tf.reduce_sum(tf.cast(kept, tf.int32), axis=1)
        width = tf.maximum(tf.reduce_max(count), 1)
        # the tower counts places from the oldest event: what is kept comes first, in its order
        place = tf.range(tf.shape(position)[1])
        order = tf.argsort(tf.where(kept, place, place + tf.size(place)), axis=1)[:, :width]
        position, action, age_s = (tf.gather(x, order, batch_dims=1) for x in (position, action, age_s))
        newest = tf.range(width) == count[:, None] - 1
        # age of the event that followed, or now
        until = tf.where(newest, tf.zeros_like(age_s), tf.pad(age_s[:, 1:], [[0, 0], [0, 1]]))
        gap = tf.where((age_s < 0) | (until < 0), tf.constant(UNKNOWN_AGE, tf.int64), tf.maximum(age_s - until, 0))
        items = self._index.vectors(position)
        u = self._model.scale_behaviour(self._model.queries(items, action, gap, at=tf.maximum(count - 1, 0))[:, 0])
        return tf.where(count[:, None] > 0, u, 0.0)


def _no_age(history: tf.Tensor) -> tf.Tensor:
    return tf.fill(tf.shape(history), tf.constant(UNKNOWN_AGE, tf.int64))


def _wishes(
    exclude: tf.Tensor, allow_tags: tf.Tensor, deny_tags: tf.Tensor, prior_items: tf.Tensor, prior_log_p: tf.Tensor
) -> Wishes:
    _same_shape("prior_items", prior_items, prior_log_p=prior_log_p)
    return Wishes(exclude, allow_tags, deny_tags, prior_items, prior_log_p)


def _same_shape(name: str, of: tf.Tensor, **beside: tf.Tensor) -> None:
    """An error to the caller, who has sent inputs that do not lie beside each other."""
    for other, tensor in beside.items():
        tf.debugging.assert_equal(tf.shape(tensor), tf.shape(of), message=f"{other} must have the shape of {name}")
