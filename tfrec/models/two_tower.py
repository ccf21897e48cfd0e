"""The two-tower model: an item tower, a query tower, the score between them, and the loss that trains both.

    score(u, i at time t) = <s (u - mean u), v_i> + beta log p_t(i)            u, v unit vectors, s = 1/T learnt

`p_t` is the streaming popularity just before t (`popularity_prior.py`). It stands in the training logits, so the towers learn
what popularity does not say, and serving adds the same sum. beta is 1 in training and is chosen afterwards. Three choices keep
the two parts apart:

- The mean query is subtracted. Otherwise <mean u, v_i> would be a second, stale popularity.
- An item is a negative only after its first event. Otherwise the model would learn from hindsight that later ones are not chosen.
- The residual of an item without feedback is zero (`residual_slots.py`).

The loss is a softmax over negatives that all positions of the batch share (`sampled_softmax.py`, `retrieval_task.py`). Negatives
and noise depend on (seed, step) alone: every replica has the same negatives, and a continued run draws what an uninterrupted one
would have drawn.
"""
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

import tfrec.models.bert.precision  # noqa: F401  products are in whole float32
from tfrec.models.anchor import Anchor
from tfrec.models.context.context_tower import MEAN_MOMENTUM, ContextTower
from tfrec.models.dropout import Noise
from tfrec.models.item_store import ItemStore, LiveTexts
from tfrec.models.item_tower import ItemTower
from tfrec.models.query_tower import HIDDEN, QueryTower
from tfrec.models.retrieval_task import CorrectedRetrieval
from tfrec.models.sampled_softmax import Negatives, correct_for_sampling, draw_negatives, hide_own, whole_catalogue
from tfrec.models.traced import Traced
from tfrec.models.weight_average import WeightAverage

WHOLE_CATALOGUE = 4  # times the number of negatives: to draw and look up as many costs as much as a catalogue of that size
SEARCH_WEIGHT = 0.2  # of the text-query loss beside the next-item loss
SEARCH_NOISE = 0.3  # share of text dimensions hidden when an item's own text stands in for a query
SEARCH_BETA = 0.3  # a query says more than a history does about what is wanted, so popularity says less
UNKNOWN_GAPS = 0.1  # share of windows whose times are hidden

keras = tf.keras
Batch = dict[str, tf.Tensor]
LookUp = Callable[[tf.Tensor], tf.Tensor]  # item vectors `[n, dim]` of catalogue positions `[n]`


class _Draws(NamedTuple):
    """Where the random numbers of one step come from."""

    shared_seed: tf.Tensor  # of what all replicas draw alike
    noise: Noise | None  # this replica's own; None outside of training
    replica: tf.Tensor | int  # number of this replica
    replicas: int


class _Positions(NamedTuple):
    """The M positions of a batch of windows that have a target, and what they are compared with."""

    at: tf.Tensor  # [M] of the batch * length positions, in their order
    item: tf.Tensor  # [M] the target's catalogue position
    v: tf.Tensor  # [M, dim] its vector
    log_p: tf.Tensor  # [M] its popularity just before it was chosen
    weight: tf.Tensor  # [M]
    total: tf.Tensor  # of the weights, over all replicas
    negatives: Negatives
    v_negative: tf.Tensor  # [N, dim]
    negative_log_p: tf.Tensor  # [M, N] popularity of the negatives at each target's time


class TwoTower(tfrs.Model):
    """The towers and the scale between them.

    Args:
        items: The item tower.
        queries: The query tower.
        temperature: T at the start.
        negatives: Number of negatives that a step draws. A catalogue of up to `WHOLE_CATALOGUE` times as many is used whole.
        seed: Seed of noise and negatives.
        search_weight: Weight of the text-query loss beside the next-item loss.
        context: What person and moment add to a query vector; None for a model that does not read them.

    Attributes:
        store: The arrays that the catalogue and the prior bring.
        average: The moving average of weights.
        anchor: L2-SP; without effect until its `hold` is called.
        steps: Optimiser steps since the first training, which seed all noise.
        traced: Functions that were traced with the model.
    """

    def __init__(self, items: ItemTower, queries: QueryTower, *, temperature: float, negatives: int, seed: int,
                 search_weight: float = SEARCH_WEIGHT, context: ContextTower | None = None) -> None:
        super().__init__()
        self.items, self.queries, self.context = items, queries, context
        self.negatives, self.seed, self.search_weight = negatives, seed, search_weight
        dim = items.sizes["dim"]
        first = tf.VariableAggregation.ONLY_FIRST_REPLICA
        constant = keras.initializers.Constant
        self.log_scale = self.add_weight(name="log_scale", shape=[], initializer=constant(-np.log(temperature)))
        self.search_scale = self.add_weight(name="search_scale", shape=[], initializer=constant(2.0))
        self.mean_query = self.add_weight(name="mean_query", shape=[dim], initializer="zeros", trainable=False, aggregation=first)
        self.beta = self.add_weight(name="beta", shape=[], initializer="ones", trainable=False)
        self.steps = self.add_weight(name="steps", shape=[], dtype=tf.int64, initializer="zeros", trainable=False,
                                     aggregation=first)
        self.task = CorrectedRetrieval()
        self.traced = Traced()
        queries(tf.zeros([1, 1, dim]), tf.zeros([1, 1], tf.int32), tf.zeros([1, 1], tf.int64))  # makes its weights
        towers = [*items.trainable_weights, *queries.trainable_weights, *([] if context is None else context.trainable_weights)]
        self.store = ItemStore()
        self.average = WeightAverage([*towers, self.log_scale, self.search_scale, self.mean_query,
                                      *([] if context is None else [context.mean])])
        self.anchor = Anchor(towers)

    @property
    def uses_whole_catalogue(self) -> bool:
        """Whether a step uses the whole catalogue in place of drawn negatives."""
        return self.store.n_items <= WHOLE_CATALOGUE * self.negatives

    @property
    def constants(self) -> str:
        """What a traced step has as constants: where it differs, a step must be traced anew."""
        return f"{self.anchor.strength} {self.uses_whole_catalogue} {self.store.generation}"

    # -- vectors and scores

    def item_vectors(self, rows: tf.Tensor | None = None, noise: Noise | None = None,
                     live: LiveTexts | None = None) -> tf.Tensor:
        """Item vectors `[n, dim]` of catalogue positions `[n]`, by default of all rows of the item arrays."""
        arrays = (self.store.features, self.store.slot)
        features, slot = (tf.convert_to_tensor(a) if rows is None else tf.gather(a, rows) for a in arrays)
        return self.items(self.store.text_vectors(rows, live), features, slot, noise)

    def item_lookup(self, count: int | None) -> LookUp:
        """How a step looks up `count` item vectors without noise: in a table of all items where that is not more work."""
        if self.uses_whole_catalogue or count is None or count >= self.store.rows:
            table = self.item_vectors()
            return lambda positions: tf.gather(table, positions)
        return self.item_vectors

    def scale_behaviour(self, hidden: tf.Tensor) -> tf.Tensor:
        """The query vector of a history `[..., dim]`, centred and scaled, so that its product with an item vector is a score."""
        return (hidden - self.mean_query) * tf.exp(self.log_scale)

    def scale_query(self, text: tf.Tensor) -> tf.Tensor:
        """What a query text `[n, text_width]` adds to the query vector of a history, `[n, dim]`; zero for an empty text."""
        present = tf.cast(tf.reduce_any(text != 0.0, axis=-1, keepdims=True), tf.float32)
        v = tf.math.l2_normalize(self.items.text_part(text), axis=-1)
        return v * present * self.query_scale()

    def query_scale(self) -> tf.Tensor:
        """What a cosine of 1 between a query and an item counts in a score."""
        return self.search_scale * tf.exp(self.log_scale)

    def sharpen(self, factor: float) -> None:
        """Multiply the scores of histories, popularity included, by `factor`; what a query says keeps its size.

        No ranking of a history changes. A slate that is drawn by score is drawn more widely if `factor` is below 1.
        """
        self.log_scale.assign_add(np.log(factor))
        self.search_scale.assign(self.search_scale / factor)
        self.beta.assign(self.beta * factor)

    def scale_context(self, positions: tf.Tensor) -> tf.Tensor:
        """What person and moment add to a query vector, `[n, dim]`, of `positions` `[n, features]`; zero without features."""
        if self.context is None:
            return tf.zeros([tf.shape(positions)[0], self.items.sizes["dim"]])
        return self.context(positions) * tf.exp(self.log_scale)

    def request_vectors(self, inputs: Batch, look_up: LookUp) -> tuple[tf.Tensor, tf.Tensor]:
        """The query vectors of requests `[batch, dim]`, scaled, and popularity's weight in their scores `[batch, 1]`; no noise.

        Args:
            inputs: `history`, `action`, `gap` `[batch, L]`, `query` `[batch, text_width]` and `context` `[batch, features]` of
                `SlateArrays`.
            look_up: Gives the vectors of catalogue positions.
        """
        batch, length = tf.unstack(tf.shape(inputs["history"]))
        flat = look_up(tf.reshape(tf.maximum(inputs["history"], 0), [-1]))
        history = tf.reshape(flat, [batch, length, self.items.sizes["dim"]])
        count = tf.reduce_sum(tf.cast(inputs["history"] >= 0, tf.int32), axis=1)
        newest = self.queries(history, inputs["action"], inputs["gap"], at=tf.maximum(count - 1, 0))[:, 0]
        u = tf.where(count[:, None] > 0, self.scale_behaviour(newest), 0.0) + self.scale_query(inputs["query"])
        if self.context is not None:
            u += self.scale_context(inputs["context"])
        searched = tf.reduce_any(inputs["query"] != 0.0, axis=1, keepdims=True)
        return u, tf.where(searched, SEARCH_BETA, self.beta)

    def history_scores(self, items: tf.Tensor, item: tf.Tensor, action: tf.Tensor, gap: tf.Tensor, count: tf.Tensor,
                       context: tf.Tensor) -> tf.Tensor:
        """`<u, v>` `[batch, n_items]` of histories and all items; traced once, for batches and catalogues of any size.

        Args:
            items: `[n_items, dim]`, the vectors of all items.
            item: `[batch, length]`, positions among them, oldest first.
            action: `[batch, length]`, codes.
            gap: `[batch, length]`, seconds to the following event.
            count: `[batch]`, events of each history.
            context: `[batch, features]`, positions of `RequestFeatures`.
        """
        words = tf.TensorSpec([None, None], tf.int64)
        signature = [tf.TensorSpec([None, self.items.sizes["dim"]], tf.float32), words, words, words,
                     tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, None], tf.float32)]
        of = self.traced.of("history_scores", self._scored_histories, signature)
        found: tf.Tensor = of(items, item, action, gap, count, context)
        return found

    def _scored_histories(self, items: tf.Tensor, item: tf.Tensor, action: tf.Tensor, gap: tf.Tensor,
                          count: tf.Tensor, context: tf.Tensor) -> tf.Tensor:
        at = tf.cast(tf.maximum(count - 1, 0), tf.int32)
        newest = self.queries(tf.gather(items, item), tf.cast(action, tf.int32), gap, at=at)[:, 0]
        u = tf.where(count[:, None] > 0, self.scale_behaviour(newest), 0.0) + self.scale_context(context)
        return tf.matmul(u, items, transpose_b=True)

    # -- training

    @tf.autograph.experimental.do_not_convert  # nothing below branches on a tensor, and to look for that is most of tracing
    def train_step(self, inputs: Batch) -> dict[str, tf.Tensor]:
        """One optimiser step, then the moving average of weights."""
        metrics = super().train_step(inputs)
        self.count_step()
        return metrics

    def count_step(self) -> None:
        """Count an optimiser step: the next one draws other noise, and the moving average of weights moves."""
        self.steps.assign_add(1)
        self.average.update()

    def compute_loss(self, inputs: Batch, training: bool = False, live: LiveTexts | None = None) -> tf.Tensor:
        """Mean loss of the targets in the batch, by weight, over all replicas.

        Args:
            inputs: Arrays `[batch, length]`: those of `sequences.Windows`; `snapshot`, the newest snapshot of the prior before
                each target; `log_p`, the target's own popularity then; and of a model with features `context`
                `[batch, length, features]`, what was known when each target was chosen.
            training: Whether noise is on, and the anchor.
            live: Texts that have a gradient.
        """
        draws = self._draws(training)
        look_up, negatives = self._candidates(draws, live)
        positions = self._positions(inputs, look_up, negatives)
        u = tf.gather(self._queries(inputs, look_up, draws.noise), positions.at)
        u = self._centred(u, positions) if training else self.scale_behaviour(u)
        if self.context is not None:
            u += self._of_context(self.context, inputs["context"], positions, draws.noise)
        loss = self._next_item_loss(inputs, u, positions) + self._search_loss(inputs, u, positions, draws, live)
        return loss + self.anchor.penalty() if training else loss

    def _draws(self, training: bool) -> _Draws:
        fold_in = tf.random.experimental.stateless_fold_in
        step = tf.cast(tf.stack([tf.constant(self.seed, tf.int64), self.steps]), tf.int32)
        context = tf.distribute.get_replica_context()
        replica, replicas = (context.replica_id_in_sync_group, context.num_replicas_in_sync) if context else (0, 1)
        return _Draws(fold_in(step, 0), Noise(fold_in(step, 1 + replica)) if training else None, replica, replicas)

    def _candidates(self, draws: _Draws, live: LiveTexts | None) -> tuple[LookUp, Negatives]:
        """How item vectors are looked up in this step, with its noise, and the negatives."""
        store, noise = self.store, draws.noise
        if self.uses_whole_catalogue:
            table = self.item_vectors(None, noise, live)
            return (lambda rows: tf.gather(table, rows)), whole_catalogue(store.rows)
        negatives = draw_negatives(store.q, store.q_below, draws.shared_seed, count=self.negatives, n_items=store.size)
        return (lambda rows: self.item_vectors(rows, noise, live)), negatives

    def _queries(self, inputs: Batch, look_up: LookUp, noise: Noise | None) -> tf.Tensor:
        """The unit query vector of each position, `[batch * length, dim]`."""
        batch, length = tf.unstack(tf.shape(inputs["item"]))
        dim, gap = self.items.sizes["dim"], inputs["gap"]
        if noise is not None:  # a caller need not know when things happened: that must be learnt as well
            gap = tf.where(noise.keep_rows(batch, UNKNOWN_GAPS) > 0, gap, -1)
        history = look_up(tf.reshape(tf.maximum(inputs["item"], 0), [-1]))
        hidden = self.queries(tf.reshape(history, [batch, length, dim]), inputs["action"], gap, noise)
        return tf.reshape(tf.gather(hidden, inputs["read_at"], batch_dims=1), [batch * length, dim])

    def _positions(self, inputs: Batch, look_up: LookUp, negatives: Negatives) -> _Positions:
        # a third of the positions have no target, and most of a step is to compare positions with items
        at = tf.where(tf.reshape(inputs["weight"], [-1]) > 0)[:, 0]
        item, own_log_p, weight, snapshot = (tf.gather(tf.reshape(inputs[name], [-1]), at)
                                             for name in ("target", "log_p", "weight", "snapshot"))
        # an item is hidden in the snapshots before its first event
        log_p = self.store.log_p if negatives.is_catalogue else tf.gather(self.store.log_p, negatives.item, axis=1)
        return _Positions(at, item, look_up(item), own_log_p, weight, sum_over_replicas(tf.reduce_sum(weight)),
                          negatives, look_up(negatives.item), tf.gather(log_p, snapshot))

    def _centred(self, u: tf.Tensor, positions: _Positions) -> tf.Tensor:
        """`u` `[M, dim]` less the mean of the batch, scaled; the moving mean query moves towards that mean."""
        summed = tf.reduce_sum(u * positions.weight[:, None], axis=0)
        mean = sum_over_replicas(summed) / tf.maximum(positions.total, 1e-6)
        moved = MEAN_MOMENTUM * self.mean_query + (1 - MEAN_MOMENTUM) * mean
        self.mean_query.assign(tf.where(positions.total > 0, moved, self.mean_query))
        return (u - mean) * tf.exp(self.log_scale)

    def _of_context(self, tower: ContextTower, at: tf.Tensor, positions: _Positions, noise: Noise | None) -> tf.Tensor:
        """What the context `at` `[batch, length, features]` adds to each query `[M, dim]`; in training less the batch's means."""
        at = tf.gather(tf.reshape(tower.hidden(at, noise), [-1, len(tower.rows)]), positions.at)
        if noise is None:
            return self.scale_context(at)
        known, parts = tower.parts(at)
        weight = known * positions.weight[:, None, None]
        count = sum_over_replicas(tf.reduce_sum(weight, axis=0))
        mean = sum_over_replicas(tf.reduce_sum(parts * weight, axis=0)) / tf.maximum(count, 1e-6)
        moved = MEAN_MOMENTUM * tower.mean + (1 - MEAN_MOMENTUM) * mean
        tower.mean.assign(tf.where(count > 0, moved, tower.mean))
        return tf.reduce_sum((parts - mean) * known, axis=1) * tf.exp(self.log_scale)

    def _next_item_loss(self, inputs: Batch, u: tf.Tensor, positions: _Positions) -> tf.Tensor:
        """The mean loss of queries `u` `[M, dim]`, each against the item that was chosen next."""
        own = hide_own(tf.concat([inputs["item"], inputs["target"]], axis=1), positions.negatives)
        window = positions.at // tf.shape(inputs["item"], tf.int64)[1]
        bias = positions.negative_log_p + tf.gather(correct_for_sampling(own, positions.negatives.log_q), window)
        loss = self.task(u, positions.v, negative_embeddings=positions.v_negative, candidate_bias=positions.log_p,
                         negative_bias=bias, sample_weight=positions.weight)
        return loss / tf.maximum(positions.total, 1e-6)

    def _search_loss(self, inputs: Batch, u: tf.Tensor, positions: _Positions, draws: _Draws,
                     live: LiveTexts | None) -> tf.Tensor:
        """The weighted mean loss of one target a window, whose own text, thinned, is the query. A target without one is no query.

        So search works before there are logged queries.
        """
        batch, length = tf.unstack(tf.shape(inputs["item"], tf.int64))
        # drawn for the whole batch, of which a replica takes its part
        chance = tf.random.stateless_uniform([draws.replicas, batch, length], draws.shared_seed)[draws.replica]
        chosen = tf.argmax(chance * tf.cast(inputs["weight"] > 0, tf.float32), axis=1) + tf.range(batch) * length
        chosen = tf.boolean_mask(chosen, tf.reduce_any(inputs["weight"] > 0, axis=1))
        at = tf.searchsorted(positions.at, chosen)
        text = self.store.text_vectors(tf.gather(positions.item, at), live)
        has_text = tf.reduce_any(text != 0.0, axis=1)
        at, text = tf.boolean_mask(at, has_text), tf.boolean_mask(text, has_text)
        item, weight = tf.gather(positions.item, at), tf.gather(positions.weight, at)
        if draws.noise is not None:
            text = draws.noise.dropout(text, SEARCH_NOISE)
            u = tf.gather(u, at) * draws.noise.keep_rows(tf.size(at), 0.5) + self.scale_query(text)
        else:
            u = self.scale_query(text)
        bias = correct_for_sampling(SEARCH_BETA * tf.gather(positions.negative_log_p, at), positions.negatives.log_q)
        bias += tf.where(positions.negatives.item[None, :] == item[:, None], HIDDEN, 0.0)
        loss = self.task(u, tf.gather(positions.v, at), negative_embeddings=positions.v_negative,
                         candidate_bias=SEARCH_BETA * tf.gather(positions.log_p, at), negative_bias=bias, sample_weight=weight)
        return self.search_weight * loss / tf.maximum(sum_over_replicas(tf.reduce_sum(weight)), 1e-6)

    # -- weights

    def follow(self, other: "TwoTower") -> None:
        """Take over the weights of `other` and share its catalogue: a target network is a copy that stands still."""
        for mine, theirs in zip([*self.average.weights, self.beta], [*other.average.weights, other.beta], strict=True):
            mine.assign(theirs)
        self.store = other.store

    def clear_residuals(self, slots: np.ndarray) -> None:
        """Set the residuals of `slots` to zero, in the weights and in their average."""
        rows, zeros = tf.constant(slots[:, None]), tf.zeros([len(slots), self.items.sizes["dim"]])
        for variable in (self.items.residual, self.average.of(self.items.residual)):
            variable.assign(tf.tensor_scatter_nd_update(variable, rows, zeros))


def sum_over_replicas(value: tf.Tensor) -> tf.Tensor:
    """The sum of `value` over all replicas."""
    replica = tf.distribute.get_replica_context()
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, value) if replica and tf.distribute.has_strategy() else value
