"""Scores of slates by a recommender as it is at the moment: of what was shown, of the shortlist, and by the exploring policy.

The policy is the served one (`graph/explore.py`), with the same inputs: history and query as served; the items that could come by
exclusions, tags and availability; popularity as sent with the request, or else as counted by then; the words of a search;
shortlist, temperature and epsilon. All items are compared, whatever the size of the catalogue, a few requests at a time. Training
then reads the shortlists alone.
"""
from collections.abc import Iterator
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrec.data.examples.sequences import PAD
from tfrec.data.examples.slate_arrays import SlateArrays
from tfrec.models.bayesian_head import features
from tfrec.models.lexical.lexicon import Lexicon
from tfrec.models.query_tower import HIDDEN
from tfrec.models.ranking.ranker import Ranker
from tfrec.models.recommender import Recommender
from tfrec.models.two_tower import TwoTower
from tfrec.training.slates.batches import STATE, Candidates
from tfrec.training.slates.policy_gradient import policy
from tfrec.training.slates.slate_scores import ranker_inputs

_GREEDY = 1e-6  # a temperature below that is 0, as in the served graph
_APART = 1e5  # between the logits of a greedy policy: the best left is certain
_AT_ONCE, _FLOATS = 1024, 1 << 24  # requests scored in one call, of a large catalogue fewer: a few arrays of 64 MB
_RANKED_AT_ONCE = 128  # with a second stage, which reads hundreds of numbers of each item of a shortlist

Floats = npt.NDArray[np.float32]


class PolicyScores(NamedTuple):
    """What a model says of `n` slates."""

    scores: Floats  # [n, K] of the first stage; HIDDEN where a slate is shorter
    served: Floats  # [n, K] by which items are ranked; those of the first stage where there is no second
    log_pi: Floats  # [n, K]: of the exploring policy, given the earlier positions; 0 where a slate is shorter
    candidates: Candidates


class ShownScores(NamedTuple):
    """What a model says of what `n` slates showed, whatever else could have come."""

    scores: Floats  # [n, K] of the first stage; HIDDEN where a slate is shorter
    popularity: Floats  # [n, K] log p at that time
    words: Floats  # [n, K] the match of a search with the item; 0 without a search
    features: Floats  # [n, K, dim + 1] of the bandits' head


class PolicyScorer:
    """Scores slates by the weights that the recommender has whenever it is called.

    Args:
        recommender: The model; its configuration gives the exploring policy.
        log_p: `[S, n_items]`, popularity, of which each slate knows its snapshot.
        epsilon: Share that the policy leaves to chance; by default the one that the configuration begins with.
        shortlist: How many of the best items the policy chooses among; by default as many as an export would take.
    """

    def __init__(
        self, recommender: Recommender, log_p: Floats, *, epsilon: float | None = None, shortlist: int | None = None
    ) -> None:
        config = recommender.config
        self._recommender, self._log_p = recommender, tf.constant(log_p, tf.float32)
        self.epsilon = config.gateway.epsilon if epsilon is None else epsilon
        self._shortlist = min(shortlist or config.serving.shortlist, len(recommender.catalogue))
        length, width, dim = config.model.history, recommender.text.shape[1], config.model.dim
        shapes = {"history": [None, length], "action": [None, length], "gap": [None, length], "query": [None, width],
                  "context": [None, recommender.requests.width],
                  "item": [None, None], "snapshot": [None], "may_come": [None, None], "live_at": [None, 2],
                  "live_log_p": [None], "words": [None, None], "boosts": [None, None],
                  "head_weights": [None, len(config.ranker.names)]}
        floats = dict.fromkeys(("query", "context", "live_log_p", "words", "boosts", "head_weights"), tf.float32)
        kinds = floats | {"gap": tf.int64, "may_come": tf.bool}
        signature = {name: tf.TensorSpec(shape, kinds.get(name, tf.int32), name) for name, shape in shapes.items()}
        self._signature = [signature, *(tf.TensorSpec(shape) for shape in ([None, dim], [None, None], [None], [None, None]))]

    @property
    def covers_all(self) -> bool:
        """Whether a shortlist holds all items that may come: then it does not change with the weights."""
        return self._shortlist == len(self._recommender.catalogue)

    def __call__(self, slates: SlateArrays, *, as_served: bool = False) -> PolicyScores:
        """Scores of all slates at once; `as_served` ranks shortlists by the second stage, as what is served does."""
        recommender, gateway = self._recommender, self._recommender.config.gateway
        ranker = recommender.ranker if as_served else None
        scored = recommender.model.traced.of(
            ("policy", self._shortlist, gateway.temperature, self.epsilon, ranker is not None),
            partial(_score, recommender.model, ranker, self._shortlist, gateway.temperature, self.epsilon), self._signature)
        choice = tf.constant(recommender.explored_mass()), tf.constant(recommender.ranker_columns())
        found = [scored(batch, table, self._log_p, *choice)
                 for _, batch, table in self._batches(slates, at_once=_AT_ONCE if ranker is None else _RANKED_AT_ONCE)]
        scores, served, log_pi, *candidates = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        return PolicyScores(scores, served, log_pi, Candidates(*candidates))

    def shown(self, slates: SlateArrays) -> Iterator[tuple[SlateArrays, ShownScores]]:
        """Yields some slates after others, with the scores of what they showed; nothing is compared with other items."""
        scored = self._recommender.model.traced.of("shown", partial(_score_shown, self._recommender.model), self._signature[:3])
        for part, batch, table in self._batches(slates, at_once=_AT_ONCE):
            yield part, ShownScores(*(array.numpy() for array in scored(batch, table, self._log_p)))

    def _batches(self, slates: SlateArrays, *, at_once: int) -> Iterator[tuple[SlateArrays, dict[str, tf.Tensor], tf.Tensor]]:
        """Yields at most `at_once` slates after others, as inputs of what is traced, with the vectors of all items."""
        table = self._recommender.model.item_vectors()[: len(self._recommender.catalogue)]
        rows = max(1, min(at_once, _FLOATS // table.shape[0]))
        for start in range(0, max(len(slates), 1), rows):
            part = slates.take(np.arange(start, min(start + rows, len(slates))))
            yield part, self._batch(part, table.shape[0]), table

    @cached_property
    def _lexicon(self) -> Lexicon | None:
        return Lexicon.of(self._recommender.config, self._recommender.catalogue)

    def _words(self, part: SlateArrays) -> Floats:
        """The match of each search with each item, `[rows, n_items]`; `[rows, 0]` where no request is a search."""
        if not part.searched.any() or self._lexicon is None:
            return np.zeros((len(part), 0), np.float32)
        return self._lexicon.matches(part.searched.tolist())

    def _batch(self, part: SlateArrays, n_items: int) -> dict[str, tf.Tensor]:
        batch = {name: getattr(part, name) for name in (*STATE, "item", "snapshot", "head_weights")}
        batch["may_come"] = part.may_come(n_items)
        batch["live_at"] = np.stack([part.live_item.row, part.live_item.values], axis=1).astype(np.int32)
        batch["boosts"] = part.boosts.added(n_items)
        batch["live_log_p"], batch["words"] = part.live_log_p.values, self._words(part)
        return {name: tf.constant(array) for name, array in batch.items()}


def _score(model: TwoTower, ranker: Ranker | None, shortlist: int, temperature: float, epsilon: float,
           batch: dict[str, tf.Tensor], table: tf.Tensor, log_p: tf.Tensor, mass: tf.Tensor, columns: tf.Tensor,
           ) -> tuple[tf.Tensor, ...]:
    u, beta = model.request_vectors(batch, lambda rows: tf.gather(table, rows))
    popularity, words = _popularity(batch, log_p), batch["words"]
    as_popularity = tf.math.divide_no_nan(model.query_scale(), beta)
    log_p = tf.cond(tf.shape(words)[1] > 0, lambda: popularity + as_popularity * words, lambda: popularity)
    scores = tf.matmul(u, table, transpose_b=True) + beta * log_p
    mask, shown = batch["item"] >= 0, tf.maximum(batch["item"], 0)
    own = tf.where(mask, tf.gather(scores, shown, batch_dims=1), HIDDEN)
    may_come = batch["may_come"] & (mass > 0)
    boosts = batch["boosts"]  # move what comes, and not what a model says of it
    boosted = tf.cond(tf.shape(boosts)[1] > 0, lambda: scores + boosts, lambda: scores)
    listed, listed_items = tf.math.top_k(tf.where(may_come, boosted, HIDDEN), shortlist)
    listed_items = tf.where(listed > HIDDEN, listed_items, PAD)
    own_boost, listed_boost = (_of_items(boosts, items) for items in (batch["item"], listed_items))
    shown_mass = tf.where(mask, tf.gather(mass, shown), 0.0)
    total_mass = tf.linalg.matvec(tf.cast(may_come, tf.float32), mass)
    served, ranked, ranked_items = own, listed, listed_items
    if ranker is not None:
        def rank(items: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
            return tf.where(items >= 0, _ranked(model, ranker, batch, u, items, table, popularity, columns, first), first)

        served = rank(batch["item"], own)
        ranked, order = tf.math.top_k(rank(listed_items, listed - listed_boost) + listed_boost, shortlist)
        ranked_items = tf.gather(listed_items, order, batch_dims=1)
    same = batch["item"][:, :, None] == ranked_items[:, None, :]
    logits = _logits(served + own_boost, ranked, same, temperature)
    found = policy(*logits, same, mask, epsilon=epsilon, mass=(shown_mass, total_mass))
    shown_log_p, listed_log_p = (tf.gather(log_p, tf.maximum(items, 0), batch_dims=1) for items in (shown, listed_items))
    candidates = shown_log_p, shown_mass, total_mass, listed_items, listed_log_p, own_boost, listed_boost
    return own, served, found.log_pi, *candidates


def _score_shown(model: TwoTower, batch: dict[str, tf.Tensor], table: tf.Tensor, log_p: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """The parts of `ShownScores`."""
    u, beta = model.request_vectors(batch, lambda rows: tf.gather(table, rows))
    shown = tf.maximum(batch["item"], 0)
    popularity = tf.gather(_popularity(batch, log_p), shown, batch_dims=1)
    words = _words_of(batch, shown)
    phi = features(u[:, None], tf.gather(table, shown), beta * popularity)
    own = tf.where(batch["item"] >= 0, tf.reduce_sum(phi, axis=-1) + model.query_scale() * words, HIDDEN)
    return own, popularity, words, phi


def _popularity(batch: dict[str, tf.Tensor], log_p: tf.Tensor) -> tf.Tensor:
    """Of all items at each request `[rows, n_items]`."""
    return tf.tensor_scatter_nd_update(tf.gather(log_p, batch["snapshot"]), batch["live_at"], batch["live_log_p"])


def _words_of(batch: dict[str, tf.Tensor], items: tf.Tensor) -> tf.Tensor:
    """The match of each search with `items` `[rows, n]`; 0 where no request is a search."""
    return _of_items(batch["words"], items)


def _of_items(values: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    """The values `[rows, n_items]` of `items` `[rows, n]`; 0 where there is no item, and where there are none `[rows, 0]`."""
    return tf.cond(tf.shape(values)[1] > 0,
                   lambda: tf.where(items >= 0, tf.gather(values, tf.maximum(items, 0), batch_dims=1), 0.0),
                   lambda: tf.zeros(tf.shape(items)))


def _ranked(model: TwoTower, ranker: Ranker, batch: dict[str, tf.Tensor], u: tf.Tensor, items: tf.Tensor, table: tf.Tensor,
            popularity: tf.Tensor, columns: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
    """The scores of the second stage for `items` `[rows, n]`, whose first scores are `first`."""
    at = tf.maximum(items, 0)
    inputs = ranker_inputs(model, batch, u, items, tf.gather(table, at), log_p=tf.gather(popularity, at, batch_dims=1),
                           words=_words_of(batch, at), columns=tf.gather(columns, at))
    given = batch["head_weights"]
    weights = tf.where(tf.math.is_nan(given), ranker.weights_of_heads, given)
    return ranker.score(inputs, weights, first)


def _logits(own: tf.Tensor, listed: tf.Tensor, same: tf.Tensor, temperature: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Logits of the shown items and of the shortlist at the policy's temperature."""
    if temperature >= _GREEDY:
        return own / temperature, listed / temperature
    apart = -_APART * tf.range(tf.cast(tf.shape(listed)[1], tf.float32))
    return tf.reduce_sum(tf.where(same, apart, 0.0), axis=2), tf.where(listed > HIDDEN, apart, HIDDEN)
