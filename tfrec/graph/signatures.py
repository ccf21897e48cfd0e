"""The model as a graph that any TensorFlow Serving runs: raw strings in, item ids out, every input with the batch in front.

    serving_default   history [B, L], query [B], k [B]                                    -> items, scores [B, K]
    recommend         + history_action [B, L], history_age_s [B, L], exclude [B, E],
                      allow_tags [B, T], deny_tags [B, U], prior_items, prior_log_p [B, P] -> items, scores [B, K]
    explore           + temperature [B], epsilon [B], seed [B]             -> items, scores, log_propensities [B, K]
    rank              history, history_action, history_age_s, query, candidates [B, C],
                      prior_items, prior_log_p                                             -> scores [B, C]
    similar           item [B], k [B]                                                     -> items, scores [B, K]
    thompson          recommend + alpha [B], seed [B]                                     -> items, scores [B, K]
    linucb            recommend + alpha [B]                                               -> items, scores [B, K]
    explain           rank with item [B] for candidates            -> scores, popularity [B], history_weights [B, L],
                                                                      tokens, token_weights [B, T]
    embed_query       history [B, L], query [B]                                           -> vectors [B, dim]
    embed_item        text [B]                                                            -> vectors [B, dim]

A place without an item has the id `""` and the lowest float for a score (`inputs.NO_SCORE`), the score of an unknown item too.
Signatures are written by hand, since Keras' own freeze k and name outputs `output_1`. The graph is traced from the functions that
train and score.
"""
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfrec.client.inputs import NO_SCORE, UNKNOWN_AGE
from tfrec.graph.bandits import linucb, thompson
from tfrec.graph.exact_index import LOWEST, Filters
from tfrec.graph.explain import leave_one_out
from tfrec.graph.explore import Policy, explore, log_propensities
from tfrec.graph.index_choice import Given, choose_index
from tfrec.graph.request import SECONDS, TEXT, TEXTS, QueryReader, function, same_shape
from tfrec.models.recommender import Recommender
from tfrec.models.text_encoder import TextEncoder

Answer = dict[str, Any]

_COUNT, _SEED, _NUMBER = (tf.TensorSpec([None], dtype) for dtype in (tf.int32, tf.int64, tf.float32))
_BEHAVIOUR = [TEXTS, TEXTS, SECONDS, TEXT]
_PRIOR = [TEXTS, tf.TensorSpec([None, None], tf.float32)]
_WANTED = [*_BEHAVIOUR, _COUNT, TEXTS, TEXTS, TEXTS, *_PRIOR]


class Graph:
    """The signatures of one recommender, as functions to call and as a module to save.

    Args:
        recommender: its present weights are read whenever a function is called; items, actions and popularity are fixed here.
        encoder: of the texts that `recommender` was built with.
        given: the index of the version whose graph this one shares, for a delta.
        shortlist: of how many of the best `explore` draws; what the configuration says by default.
    """

    def __init__(self, recommender: Recommender, encoder: TextEncoder, *, given: Given | None = None,
                 shortlist: int | None = None) -> None:
        self._index, self.measured = choose_index(recommender, given=given)
        self._index.weigh(recommender.explored_mass())
        self._reader = QueryReader(recommender, encoder, self._index)
        self._head = recommender.head
        # traced once, however many signatures call it
        filters = Filters(TEXTS, TEXTS, TEXTS, *_PRIOR)
        vectors = tf.TensorSpec([None, recommender.config.model.dim])
        self._search: Callable[[tf.Tensor, tf.Tensor, tf.Tensor, Filters], Answer] = function(
            self._searched, input_signature=[vectors, _COUNT, _NUMBER, filters]
        )
        self.catalogue_state = self._index.state  # the variables that a delta replaces
        self.shortlist = shortlist or recommender.config.serving.shortlist
        self.functions = {
            "serving_default": function(self._serving_default, input_signature=[TEXTS, TEXT, _COUNT]),
            "recommend": function(self._recommend, input_signature=_WANTED),
            "explore": function(self._explore, input_signature=[*_WANTED, _NUMBER, _NUMBER, _SEED]),
            "thompson": function(self._thompson, input_signature=[*_WANTED, _NUMBER, _SEED]),
            "linucb": function(self._linucb, input_signature=[*_WANTED, _NUMBER]),
            "rank": function(self._rank, input_signature=[*_BEHAVIOUR, TEXTS, *_PRIOR]),
            "explain": function(self._explain, input_signature=[*_BEHAVIOUR, TEXT, *_PRIOR]),
            "similar": function(self._similar, input_signature=[TEXT, _COUNT]),
            "embed_query": function(self._embed_query, input_signature=[TEXTS, TEXT]),
            "embed_item": function(self._embed_item, input_signature=[TEXT]),
        }

        # not for a server: what `explore` would say of slates that were drawn before (`ope.py`)
        judged = [*_BEHAVIOUR, TEXTS, TEXTS, TEXTS, *_PRIOR, TEXTS, _NUMBER, _NUMBER]
        self.log_propensities = function(self._log_propensities, input_signature=judged)

    def signatures(self) -> dict[str, Any]:
        """The functions as they are to be saved: traced, since saving a function that is not would trace it once more."""
        return {name: function.get_concrete_function() for name, function in self.functions.items()}

    def module(self) -> tf.Module:
        """What to save with `signatures`: variables and tables, and nothing that Keras would trace again."""
        graphs = [signature.graph for signature in self.signatures().values()]
        module = tf.Module()
        module.catalogue = self.catalogue_state
        of_catalogue = {id(variable) for variable in self.catalogue_state.values()}
        variables = {id(variable): variable for graph in graphs for variable in graph.variables}
        module.weights = [variable for key, variable in variables.items() if key not in of_catalogue]
        module.tables = [*self._index.tables, *self._reader.tables]
        return module

    # -- signatures: the names of the arguments are those of the inputs

    def _serving_default(self, history: tf.Tensor, query: tf.Tensor, k: tf.Tensor) -> Answer:
        u, beta = self._reader.read(history, tf.zeros_like(history), _no_age(history), query)
        return _finite(self._index.search(u, k, beta=beta))

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
        u, beta = self._reader.read(history, history_action, history_age_s, query)
        filters = _wishes(exclude, allow_tags, deny_tags, prior_items, prior_log_p)
        return self._search(u, k, beta, filters)

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
        u, beta = self._reader.read(history, history_action, history_age_s, query)
        filters = _wishes(exclude, allow_tags, deny_tags, prior_items, prior_log_p)
        policy = Policy(temperature, epsilon, seed)
        slate, log_propensities = explore(self._index, u, k, beta=beta, filters=filters, policy=policy, shortlist=self.shortlist)
        return _finite({
            "items": self._index.names(tf.maximum(slate, 0), slate >= 0),
            "scores": self._scores(u, slate, beta, filters),
            "log_propensities": log_propensities,
        })

    def _thompson(
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
        alpha: tf.Tensor,
        seed: tf.Tensor,
    ) -> Answer:
        u, beta = self._reader.read(history, history_action, history_age_s, query)
        filters = _wishes(exclude, allow_tags, deny_tags, prior_items, prior_log_p)
        drawn, popularity = thompson(self._head, u, beta, alpha=alpha, seed=seed)
        return self._search(drawn, k, popularity, filters)

    def _linucb(
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
        alpha: tf.Tensor,
    ) -> Answer:
        u, beta = self._reader.read(history, history_action, history_age_s, query)
        filters = _wishes(exclude, allow_tags, deny_tags, prior_items, prior_log_p)
        answer = linucb(self._index, self._head, u, k, beta=beta, filters=filters, alpha=alpha, shortlist=self.shortlist)
        return _finite(answer)

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
        u, beta = self._reader.read(history, history_action, history_age_s, query)
        filters = _prior_alone(prior_items, prior_log_p)
        return {"scores": self._scores(u, self._index.positions(candidates), beta, filters)}

    def _explain(
        self,
        history: tf.Tensor,
        history_action: tf.Tensor,
        history_age_s: tf.Tensor,
        query: tf.Tensor,
        item: tf.Tensor,
        prior_items: tf.Tensor,
        prior_log_p: tf.Tensor,
    ) -> Answer:
        u, beta = self._reader.read(history, history_action, history_age_s, query)
        filters, position = _prior_alone(prior_items, prior_log_p), self._index.positions(item)[:, None]
        known = tf.cast(position >= 0, tf.float32)  # about an item that is not known there is nothing to say
        v = self._index.vectors(position)[:, 0] * known
        history_weights, tokens, token_weights = leave_one_out(self._reader, history, history_action, history_age_s, query, v)
        return {
            "scores": self._scores(u, position, beta, filters)[:, 0],
            "popularity": (self._index.popularity(position, beta, filters) * known)[:, 0],
            "history_weights": history_weights,
            "tokens": tokens,
            "token_weights": token_weights,
        }

    def _similar(self, item: tf.Tensor, k: tf.Tensor) -> Answer:
        position = self._index.positions(item)
        none = tf.zeros([tf.shape(item)[0], 0], tf.string)
        filters = Filters(item[:, None], none, none, none, tf.zeros(tf.shape(none)))
        u = self._index.vectors(position)
        return self._search(u, tf.where(position >= 0, k, 0), tf.zeros_like(position, tf.float32), filters)

    def _embed_query(self, history: tf.Tensor, query: tf.Tensor) -> Answer:
        u, _ = self._reader.read(history, tf.zeros_like(history), _no_age(history), query)
        return {"vectors": u}

    def _embed_item(self, text: tf.Tensor) -> Answer:
        return {"vectors": tf.math.l2_normalize(self._reader.model.items.text_part(self._reader.encode["item"](text)), axis=-1)}

    def _log_propensities(
        self,
        history: tf.Tensor,
        history_action: tf.Tensor,
        history_age_s: tf.Tensor,
        query: tf.Tensor,
        exclude: tf.Tensor,
        allow_tags: tf.Tensor,
        deny_tags: tf.Tensor,
        prior_items: tf.Tensor,
        prior_log_p: tf.Tensor,
        slate: tf.Tensor,
        temperature: tf.Tensor,
        epsilon: tf.Tensor,
    ) -> tf.Tensor:
        u, beta = self._reader.read(history, history_action, history_age_s, query)
        filters = _wishes(exclude, allow_tags, deny_tags, prior_items, prior_log_p)
        policy, positions = Policy(temperature, epsilon, tf.zeros_like(epsilon, tf.int64)), self._index.positions(slate)
        return log_propensities(self._index, u, positions, beta=beta, filters=filters, policy=policy, shortlist=self.shortlist)

    # -- what signatures share

    def _searched(self, u: tf.Tensor, k: tf.Tensor, beta: tf.Tensor, filters: Filters) -> Answer:
        return _finite(self._index.search(u, k, beta=beta, filters=filters))

    def _scores(self, u: tf.Tensor, positions: tf.Tensor, beta: tf.Tensor, filters: Filters) -> tf.Tensor:
        """Of the items at `positions` `[batch, n]`, `NO_SCORE` where that is negative."""
        scores = tf.linalg.matvec(self._index.vectors(positions), u) + self._index.popularity(positions, beta, filters)
        return tf.where(positions >= 0, scores, NO_SCORE)


def _finite(answer: Answer) -> Answer:
    """`answer` with `NO_SCORE` for minus infinity; what else is not finite stays, to be seen."""
    return {
        name: tf.where(values == LOWEST, NO_SCORE, values) if values.dtype.is_floating else values
        for name, values in answer.items()
    }


def _no_age(history: tf.Tensor) -> tf.Tensor:
    return tf.fill(tf.shape(history), tf.constant(UNKNOWN_AGE, tf.int64))


def _wishes(
    exclude: tf.Tensor, allow_tags: tf.Tensor, deny_tags: tf.Tensor, prior_items: tf.Tensor, prior_log_p: tf.Tensor
) -> Filters:
    same_shape("prior_items", prior_items, prior_log_p=prior_log_p)
    return Filters(exclude, allow_tags, deny_tags, prior_items, prior_log_p)


def _prior_alone(prior_items: tf.Tensor, prior_log_p: tf.Tensor) -> Filters:
    none = tf.zeros([tf.shape(prior_items)[0], 0], tf.string)
    return _wishes(none, none, none, prior_items, prior_log_p)
