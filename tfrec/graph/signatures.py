"""The served graph: the signatures that TensorFlow Serving runs, from raw strings to item ids.

Each signature is a method of `Graph`. Its inputs and outputs, with types and ranks, are declared in `client/contract.py`. A
method takes the inputs by name; every input has the batch as its first dimension. Of the inputs,

    history, history_action, history_age_s `[batch, L]`, query `[batch]`   say who asks and for what
    exclude, allow_tags, deny_tags, bound_columns, bound_min, bound_max    hide items
    boost_kinds, boost_names, boost_values, boost_min, boost_max           add to the scores of some items
    prior_items, prior_log_p                                               replace the popularity of some items
    time `[batch]`, context_name, context_value `[batch, n]`               say what is known of person and moment (`[features]`)
    diversity, cap_prefixes, caps                                          say how the items of a slate go together
    head_names, head_weights                                               weigh the heads of the second stage

A position of an answer without an item has the id `""` and the lowest float as its score (`inputs.NO_SCORE`); so has an unknown
item. The signatures are written by hand, since Keras' own freeze `k` and call the outputs `output_1`. The graph is traced from
the functions that train and score.
"""
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfrec.client.contract import BOOSTS, FILTERS, HEADS, POLICY, TEXTS, signatures
from tfrec.client.inputs import NO_SCORE
from tfrec.graph.bandits import linucb, thompson
from tfrec.graph.boosts import Boosts
from tfrec.graph.exact_index import KINDS, LOWEST, Filters, boosts_at, plus_added
from tfrec.graph.explain import leave_one_out
from tfrec.graph.explore import Policy, explore, log_propensities
from tfrec.graph.graph_digest import graph_digest
from tfrec.graph.index_choice import Given, choose_index
from tfrec.graph.plackett_luce import Ranked, shortlisted
from tfrec.graph.request import Inputs, QueryReader, function, same_shape, tensor_specs
from tfrec.graph.reranking import Reranking, search_reranked, slate_of
from tfrec.graph.second_stage import SecondStage
from tfrec.graph.served_weights import captured, encoder_weights, tower_weights
from tfrec.models.lexical.lexicon import Lexicon
from tfrec.models.recommender import Recommender
from tfrec.models.text_encoder import TextEncoder
from tfrec.models.two_tower import SEARCH_BETA

Answer = dict[str, Any]
_OF_BOOSTS = {name: BOOSTS[f"boost_{name}"] for name in Boosts._fields}


class Graph:
    """The signatures of one recommender, as functions to call and as a module to save.

    Args:
        recommender: its present weights are read whenever a function is called; items, actions and popularity are fixed here.
        encoder: of the texts that `recommender` was built with.
        given: the index of the version whose graph this one shares, for a delta.
        shortlist: how many of the best items `explore`, `linucb` and a reranked slate choose among; by default what the
            configuration says.
    """

    def __init__(self, recommender: Recommender, encoder: TextEncoder, *, given: Given | None = None,
                 shortlist: int | None = None) -> None:
        lexicon = Lexicon.of(recommender.config, recommender.catalogue, encoder.tokenizer)
        self._index, self.measured = choose_index(recommender, given=given, lexicon=lexicon)
        self._index.weigh(recommender.explored_mass())
        self._reader = QueryReader(recommender, encoder, self._index)
        self._head, self.features = recommender.head, recommender.requests
        self._second = None if recommender.ranker is None else SecondStage(recommender, self._reader, self._index)
        self.catalogue_state = self._index.state  # the variables that a delta replaces
        self._recommender, self.encoder_weights = recommender, encoder_weights(encoder)
        self.tower_weights = tower_weights(recommender)
        self.shortlist = shortlist or recommender.config.serving.shortlist
        # traced once each, however many signatures call them
        vectors, k, beta = (tf.TensorSpec(shape, dtype) for shape, dtype in (
            ([None, recommender.config.model.dim], tf.float32), ([None], tf.int32), ([None], tf.float32)))
        self._search: Callable[[tf.Tensor, tf.Tensor, tf.Tensor, Filters], Answer] = function(
            self._searched, input_signature=[vectors, k, beta, Filters(**tensor_specs(KINDS))]
        )
        self._boosts = function(self._index.boosts, input_signature=[Boosts(**tensor_specs(_OF_BOOSTS))])
        self._words = function(self._reader.words, input_signature=[tf.TensorSpec([None], tf.string)])
        self.functions = {
            name: function(getattr(self, name), input_signature=[tensor_specs(inputs)])
            for name, (inputs, _) in signatures(context=bool(recommender.requests.width)).items()
        }
        # no signature: off-policy evaluation calls it in memory
        judged = tensor_specs(self._reader.kinds | FILTERS | POLICY | HEADS | {"slate": TEXTS})
        self.log_propensities = function(self._log_propensities, input_signature=[judged])

    def plain_words(self) -> dict[str, Any] | None:
        """What a gateway needs, beside the weights, to search by words while nobody serves this; None where words do not count.

        It is what `release.words.word_files.write_words` writes.
        """
        if self._index.words is None:
            return None
        return {"scale": float(self._recommender.model.query_scale()), "beta": SEARCH_BETA, "order": self._index.order,
                "tokenizer": self._reader.encoder.tokenizer.plain()}

    def signatures(self) -> dict[str, Any]:
        """The functions to save, already traced: saving a function that is not traced would trace it twice."""
        return {name: function.get_concrete_function() for name, function in self.functions.items()}

    @property
    def digest(self) -> str:
        """Equal for recommenders that one graph can serve; only the values of its variables differ then."""
        return graph_digest(
            self._recommender, self.encoder_weights | self.tower_weights, self.catalogue_state, shortlist=self.shortlist,
            index=type(self._index).__name__, signatures=list(self.functions))

    def module(self) -> tf.Module:
        """What to save with `signatures`: variables and tables, and nothing that Keras would trace again."""
        graphs = [signature.graph for signature in self.signatures().values()]
        module = tf.Module()
        variables = {id(variable): variable for graph in graphs for variable in graph.variables}
        module.catalogue = self.catalogue_state
        captured(self.catalogue_state, variables)
        module.encoder, module.towers = (captured(named, variables) for named in (self.encoder_weights, self.tower_weights))
        module.weights = list(variables.values())  # none, as long as `served_weights` names all
        module.tables = [*self._index.tables, *self._reader.tables]
        return module

    # -- one method a signature

    def serving_default(self, inputs: Inputs) -> Answer:
        """The best `k` items by history and query alone: items, scores `[batch, K]`."""
        u, beta = self._reader.read(inputs)
        return _finite(self._index.search(u, inputs["k"], beta=beta, filters=self._filters(inputs)))

    def recommend(self, inputs: Inputs) -> Answer:
        """The best `k` items that the filters let pass, or a slate of them (`reranking.py`): items, scores `[batch, K]`."""
        u, beta = self._reader.read(inputs)
        same_shape("cap_prefixes", inputs["cap_prefixes"], caps=inputs["caps"])
        asked, filters = Reranking(*(inputs[name] for name in Reranking._fields)), self._filters(inputs)
        if (ranked := self._ranked(inputs, u, filters)) is not None:
            best = shortlisted(self._index, u, beta=beta, filters=filters, size=self.shortlist, ranked=ranked)
            return _finite(slate_of(self._index, *best, inputs["k"], asked))
        return _finite(search_reranked(self._index, u, inputs["k"], beta=beta, filters=filters, asked=asked,
                                       shortlist=self.shortlist, plain=self._search))

    def explore(self, inputs: Inputs) -> Answer:
        """A slate drawn at random by temperature, epsilon and seed: items, scores, log_propensities `[batch, K]`."""
        u, beta = self._reader.read(inputs)
        filters = self._filters(inputs)
        ranked = self._ranked(inputs, u, filters)
        slate, log_pi = explore(
            self._index, u, inputs["k"], beta=beta, filters=filters, policy=_policy(inputs), seed=inputs["seed"],
            shortlist=self.shortlist, ranked=ranked,
        )
        scores = self._scores(u, slate, beta, filters)
        return _finite({
            "items": self._index.names(tf.maximum(slate, 0), slate >= 0),
            "scores": scores if ranked is None else ranked(scores, slate),
            "log_propensities": log_pi,
        })

    def thompson(self, inputs: Inputs) -> Answer:
        """The best items by one draw of the head, `alpha` times as wide as its posterior: items, scores `[batch, K]`."""
        u, beta = self._reader.read(inputs)
        drawn, popularity = thompson(self._head, u, beta, alpha=inputs["alpha"], seed=inputs["seed"])
        return self._search(drawn, inputs["k"], popularity, self._filters(inputs))

    def linucb(self, inputs: Inputs) -> Answer:
        """The best items by mean plus `alpha` standard deviations: items, and these sums as scores `[batch, K]`."""
        u, beta = self._reader.read(inputs)
        return _finite(linucb(self._index, self._head, u, inputs["k"], beta=beta, filters=self._filters(inputs),
                              alpha=inputs["alpha"], shortlist=self.shortlist))

    def rank(self, inputs: Inputs) -> Answer:
        """The scores of given candidates `[batch, C]`, the names of the heads `[batch, H]` and their P `[batch, C, H]`."""
        u, beta = self._reader.read(inputs)
        filters, positions = self._filters(inputs), self._index.positions(inputs["candidates"])
        scores, (batch, n) = self._scores(u, positions, beta, filters), tf.unstack(tf.shape(positions))
        if self._second is None:
            return {"scores": scores, "heads": tf.zeros([batch, 0], tf.string), "head_scores": tf.zeros([batch, n, 0])}
        asked, names = self._second.read(inputs, u), tf.constant(self._second.names)
        return {"scores": self._second.scores(asked, positions, scores, filters),
                "heads": tf.broadcast_to(names, tf.stack([batch, tf.size(names)])),
                "head_scores": self._second.probabilities(asked, positions, filters)}

    def explain(self, inputs: Inputs) -> Answer:
        """Why one item has its score: scores, popularity `[batch]`, history_weights `[batch, L]`, tokens and token_weights."""
        u, beta = self._reader.read(inputs)
        filters, position = self._filters(inputs), self._index.positions(inputs["item"])[:, None]
        known = tf.cast(position >= 0, tf.float32)  # about an item that is not known there is nothing to say
        v = self._index.vectors(position)[:, 0] * known
        weights = leave_one_out(self._reader, inputs, v)
        return {
            "scores": self._scores(u, position, beta, filters)[:, 0],
            "popularity": (self._index.popularity(position, beta, filters) * known)[:, 0],
            "history_weights": weights.history,
            "tokens": weights.tokens,
            "token_weights": weights.query + self._reader.words_of_pieces(weights.pieces, position[:, 0]),
        }

    def similar(self, inputs: Inputs) -> Answer:
        """The items whose vectors are nearest to that of one item: items, cosines as scores `[batch, K]`."""
        item = inputs["item"]
        position = self._index.positions(item)
        filters = Filters.of(tf.shape(item)[0], exclude=item[:, None])
        k = tf.where(position >= 0, inputs["k"], 0)
        return self._search(self._index.vectors(position), k, tf.zeros_like(position, tf.float32), filters)

    def embed_query(self, inputs: Inputs) -> Answer:
        """The query vector of a history and a query: vectors `[batch, dim]`."""
        u, _ = self._reader.read(inputs)
        return {"vectors": u}

    def embed_item(self, inputs: Inputs) -> Answer:
        """The vector of an item that has nothing but a text: vectors `[batch, dim]`, of length 1."""
        text = self._reader.encode["item"](inputs["text"])
        return {"vectors": tf.math.l2_normalize(self._reader.model.items.text_part(text), axis=-1)}

    # -- what signatures share

    def _log_propensities(self, inputs: Inputs) -> tf.Tensor:
        """What `explore` would report of slates that were drawn before `[batch, K]`."""
        u, beta = self._reader.read(inputs)
        filters = self._filters(inputs)
        return log_propensities(self._index, u, self._index.positions(inputs["slate"]), beta=beta, filters=filters,
                                policy=_policy(inputs), shortlist=self.shortlist, ranked=self._ranked(inputs, u, filters))

    def _ranked(self, inputs: Inputs, u: tf.Tensor, filters: Filters) -> Ranked | None:
        """Gives a shortlist the scores of the second stage; None where there is no such stage."""
        second = self._second
        if second is None:
            return None
        asked = second.read(inputs, u)

        def ranked(scores: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
            boosts = boosts_at(filters, positions)
            return second.scores(asked, positions, scores - boosts, filters) + boosts

        return ranked

    def _filters(self, inputs: Inputs) -> Filters:
        """The filters of a request; a signature without such inputs hides no item."""
        if "prior_items" in inputs:
            same_shape("prior_items", inputs["prior_items"], prior_log_p=inputs["prior_log_p"])
        if "bound_columns" in inputs:
            same_shape("bound_columns", inputs["bound_columns"], bound_min=inputs["bound_min"], bound_max=inputs["bound_max"])
        added = {"words": self._words(inputs["query"])}
        if "boost_names" in inputs:
            of_boosts = {name: inputs[f"boost_{name}"] for name in Boosts._fields}
            same_shape("boost_names", of_boosts["names"], **{f"boost_{name}": given for name, given in of_boosts.items()})
            added["boosts"] = self._boosts(Boosts(**of_boosts))
        return Filters.of(tf.shape(inputs["query"])[0], **inputs, **added)

    def _searched(self, u: tf.Tensor, k: tf.Tensor, beta: tf.Tensor, filters: Filters) -> Answer:
        return _finite(self._index.search(u, k, beta=beta, filters=filters))

    def _scores(self, u: tf.Tensor, positions: tf.Tensor, beta: tf.Tensor, filters: Filters) -> tf.Tensor:
        """Scores of the items at `positions` `[batch, n]`; `NO_SCORE` where a position is negative."""
        scores = tf.linalg.matvec(self._index.vectors(positions), u) + self._index.popularity(positions, beta, filters)
        scores = plus_added(scores, filters, lambda: positions)
        return tf.where(positions >= 0, scores, NO_SCORE)


def _policy(inputs: Inputs) -> Policy:
    return Policy(**{name: inputs[name] for name in Policy._fields})


def _finite(answer: Answer) -> Answer:
    """`answer` with `NO_SCORE` for minus infinity; anything else that is not finite stays, so that it is seen."""
    return {
        name: tf.where(values == LOWEST, NO_SCORE, values) if values.dtype.is_floating else values
        for name, values in answer.items()
    }
