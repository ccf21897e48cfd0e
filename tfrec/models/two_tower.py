"""The model: windows of behaviour in, the loss of the next item out; item and query vectors for everything that asks.

    score(u, i at time t) = <s (u - mean u), v_i> + beta log p_t(i)            u, v unit vectors, s = 1/T learnt

`p_t` is the streaming popularity just before t (`popularity_prior.py`). It stands in the training logits, so the towers learn
what popularity does not say, and the same sum serves; beta is 1 while the towers are trained, and chosen afterwards. Three
choices keep it so: the mean query is taken off, or <mean u, v_i> would be a second, stale popularity; an item is a negative only
once it has been touched, or the model would learn from hindsight that what came later is never chosen; the residual of an item
without feedback is zero (`residual_slots.py`).

The loss is a softmax over negatives that all positions of the batch share, each corrected by -log q (Bengio & Senecal 2008; Yi et
al. 2019, doi:10.1145/3298689.3346996), through a `tfrs.tasks.Retrieval` (`retrieval_task.py`). A catalogue up to `WHOLE` times
`negatives` is used whole (q = 1). Negatives and noise depend on (seed, step) alone, so every replica has the same negatives and a
continued run draws what an uninterrupted one would have drawn.
"""
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

import tfrec.models.bert.precision  # noqa: F401  products are in whole float32
from tfrec.models.dropout import Noise
from tfrec.models.item_tower import ItemTower
from tfrec.models.query_tower import HIDDEN, QueryTower
from tfrec.models.retrieval_task import CorrectedRetrieval

WHOLE = 4  # times `negatives`: to draw as many anew in each step, and look each up, costs as much as a catalogue of that size
CAPACITY_STEP = 1024  # rows of the item arrays grow in such steps: few shapes to compile while a catalogue grows
SEARCH_WEIGHT = 0.2  # of the text-query loss beside the next-item loss
SEARCH_NOISE = 0.3  # share of text dimensions hidden when an item's own text stands in for a query
SEARCH_BETA = 0.3  # a query says more than a history does about what is wanted, so popularity says less
UNKNOWN_GAPS = 0.1  # share of windows whose times are hidden
AVERAGE = 0.99  # of the moving average of weights, over about 100 steps
MEAN_MOMENTUM = 0.98  # of the moving mean query

keras = tf.keras
Batch = dict[str, tf.Tensor]


class SlateScores(NamedTuple):
    """Scores of a batch of requests, as served."""

    u: tf.Tensor  # [batch, dim], scaled
    v: tf.Tensor  # [batch, K, dim] of the shown items
    own: tf.Tensor  # [batch, K]: <u, v> + beta log p; HIDDEN where a slate is shorter
    w: tf.Tensor  # [batch, S, dim] of the shortlist
    listed: tf.Tensor  # [batch, S] of the shortlist; HIDDEN where it is shorter


def capacity_for(n_items: int) -> int:
    """Rows of the item arrays: `n_items` rounded up, with room for one more."""
    return (n_items // CAPACITY_STEP + 1) * CAPACITY_STEP


class TwoTower(tfrs.Model):
    """Item tower, query tower and the scale between them.

    Args:
        items, queries: the towers.
        temperature: where T starts.
        negatives: items drawn a step.
        seed: of noise and negatives.
    """

    def __init__(self, items: ItemTower, queries: QueryTower, *, temperature: float, negatives: int, seed: int) -> None:
        super().__init__()
        self.items, self.queries = items, queries
        self.negatives, self.seed = negatives, seed
        dim = items.sizes["dim"]
        first = tf.VariableAggregation.ONLY_FIRST_REPLICA
        constant = keras.initializers.Constant
        self.log_scale = self.add_weight(name="log_scale", shape=[], initializer=constant(-np.log(temperature)))
        self.search_scale = self.add_weight(name="search_scale", shape=[], initializer=constant(2.0))
        self.mean_query = self.add_weight(name="mean_query", shape=[dim], initializer="zeros", trainable=False, aggregation=first)
        self.beta = self.add_weight(name="beta", shape=[], initializer="ones", trainable=False)
        self.task = CorrectedRetrieval()
        queries(tf.zeros([1, 1, dim]), tf.zeros([1, 1], tf.int32), tf.zeros([1, 1], tf.int64))
        self.average = [tf.Variable(w, trainable=False, aggregation=first) for w in self._averaged()]
        counter = {"shape": [], "dtype": tf.int64, "initializer": "zeros", "trainable": False, "aggregation": first}
        self.steps = self.add_weight(name="steps", **counter)  # since the first training: seeds all noise
        self.averaged = self.add_weight(name="averaged", **counter)  # since the average began
        self._anchored = 0.0  # how strongly the towers are pulled
        self._anchor: tuple[tf.Tensor, ...] = ()  # to these weights

    # -- what the catalogue and the prior bring; not weights, so not in a checkpoint of weights

    def set_catalogue(self, text: np.ndarray, features: np.ndarray, slot: np.ndarray) -> None:
        """Item arrays by catalogue position, padded to `capacity_for`: the shapes of all later calls."""
        rows = capacity_for(len(text))
        self.n_items = len(text)
        padded = [np.concatenate([a, np.zeros((rows - len(a), *a.shape[1:]), a.dtype)]) for a in (text, features, slot)]
        for name, array in zip(("_text", "_features", "_slot"), padded, strict=True):
            self._hold(name, array)
        self.whole = self.n_items <= WHOLE * self.negatives

    def set_prior(self, log_p: np.ndarray, first_touch: np.ndarray) -> None:
        """Snapshots of log p `[S, n_items]` and the first in which each item has been touched `[n_items]`, S for never."""
        rows = int(self._slot.shape[0])
        visible = np.where(first_touch[None, :] <= np.arange(len(log_p))[:, None], log_p, HIDDEN).astype(np.float32)
        self._hold("_log_p", np.pad(visible, [(0, 0), (0, rows - self.n_items)], constant_values=HIDDEN))
        # negatives: half by popularity at the end of the snapshots, half uniform; a row beyond the catalogue is never drawn
        q = 0.5 * np.exp(log_p[-1] - np.logaddexp.reduce(log_p[-1])) + 0.5 / self.n_items
        beyond = (0, rows - self.n_items)
        self._hold("_q", np.pad(q, beyond).astype(np.float32))
        self._hold("_q_below", np.pad(np.cumsum(q), beyond, mode="edge").astype(np.float32))

    def _hold(self, name: str, array: np.ndarray) -> None:
        """Keep `array` in a variable; in the one that there is, when it fits, as a step that was traced reads that one."""
        if array.dtype == np.int32:  # such a variable stays on the CPU, where a step that XLA compiled for a GPU cannot read it
            array = array.astype(np.int64)
        held = getattr(self, name, None)
        if held is not None and held.shape == array.shape and held.dtype == array.dtype:
            held.assign(array)
        else:
            setattr(self, name, tf.Variable(array, trainable=False))

    # -- vectors

    def item_vectors(self, rows: tf.Tensor | None = None, noise: Noise | None = None) -> tf.Tensor:
        """`[rows, dim]` of catalogue positions, all of them by default."""
        arrays = (self._text, self._features, self._slot)
        text, features, slot = (tf.convert_to_tensor(a) if rows is None else tf.gather(a, rows) for a in arrays)
        return self.items(text, features, slot, noise)

    def scale_behaviour(self, hidden: tf.Tensor) -> tf.Tensor:
        """s (u - mean u): what is multiplied with item vectors; zero for a user without history."""
        return (hidden - self.mean_query) * tf.exp(self.log_scale)

    def scale_query(self, text: tf.Tensor) -> tf.Tensor:
        """The part that a query text `[n, text_width]` adds to the behaviour's: zero for an empty one."""
        present = tf.cast(tf.reduce_any(text != 0.0, axis=-1, keepdims=True), tf.float32)
        v = tf.math.l2_normalize(self.items.text_part(text), axis=-1)
        return v * present * self.search_scale * tf.exp(self.log_scale)

    # -- training

    def compute_loss(self, inputs: Batch, training: bool = False) -> tf.Tensor:
        """Mean loss of the targets in the batch, by weight, over all replicas.

        Args:
            inputs: arrays `[batch, length]` of `sequences.Windows` and `snapshot`, the newest prior snapshot before each
                target, and `log_p`, the target's own log p then.
            training: whether noise is on.
        """
        step_seed = tf.cast(tf.stack([tf.constant(self.seed, tf.int64), self.steps]), tf.int32)
        replica = tf.distribute.get_replica_context()
        negative_seed = tf.random.experimental.stateless_fold_in(step_seed, 0)
        number = replica.replica_id_in_sync_group if replica else 0
        replicas = replica.num_replicas_in_sync if replica else 1
        noise = Noise(tf.random.experimental.stateless_fold_in(step_seed, 1 + number)) if training else None
        batch, length = tf.unstack(tf.shape(inputs["item"]))
        places = batch * length
        look_up, negative, log_q = self._candidates(noise, negative_seed, whole=self.whole)

        v_width = self.items.sizes["dim"]
        gap = inputs["gap"]
        if noise is not None:  # a caller need not know when things happened: that must be learnt as well
            gap = tf.where(noise.keep_rows(batch, UNKNOWN_GAPS) > 0, gap, -1)
        history = look_up(tf.reshape(tf.maximum(inputs["item"], 0), [-1]))
        hidden = self.queries(tf.reshape(history, [batch, length, v_width]), inputs["action"], gap, noise)
        u = tf.reshape(tf.gather(hidden, inputs["read_at"], batch_dims=1), [places, v_width])
        weight = tf.reshape(inputs["weight"], [-1])
        total = self.all_replicas(tf.reduce_sum(weight))
        if training:
            mean = self.all_replicas(tf.reduce_sum(u * weight[:, None], axis=0)) / tf.maximum(total, 1e-6)
            moved = MEAN_MOMENTUM * self.mean_query + (1 - MEAN_MOMENTUM) * mean
            self.mean_query.assign(tf.where(total > 0, moved, self.mean_query))
            u = (u - mean) * tf.exp(self.log_scale)
        else:
            u = self.scale_behaviour(u)
        target = tf.maximum(tf.reshape(inputs["target"], [-1]), 0)
        snapshot = tf.reshape(inputs["snapshot"], [-1])
        v_target, v_negative = look_up(target), look_up(negative)

        own_prior = tf.reshape(inputs["log_p"], [-1])
        # log p of the negatives at each target's time, with what had not been touched by then hidden
        prior = tf.gather(self._log_p if self.whole else tf.gather(self._log_p, negative, axis=1), snapshot)
        count = tf.shape(negative)[0]
        # a user's own items are no negatives for them
        own_items = self._hide(tf.concat([inputs["item"], inputs["target"]], axis=1), negative)
        bias = tf.reshape(prior, [batch, length, count]) + (own_items - log_q)[:, None]
        loss = self.task(u, v_target, negative_embeddings=v_negative, candidate_bias=own_prior,
                         negative_bias=tf.reshape(bias, [places, count]), sample_weight=weight)

        # an item's own text, thinned, as the query of one target a window: search works before there are logged queries
        # drawn for the whole batch, of which a replica takes its part
        chance = tf.random.stateless_uniform([replicas, batch, length], negative_seed)[number]
        chance *= tf.cast(inputs["weight"] > 0, tf.float32)
        at = tf.range(batch) * length + tf.argmax(chance, axis=1, output_type=tf.int32)
        wanted = tf.gather(target, at)
        text = tf.gather(self._text, wanted)
        if noise is not None:
            text = noise.dropout(text, SEARCH_NOISE)
            u_search = tf.gather(u, at) * noise.keep_rows(batch, 0.5) + self.scale_query(text)
        else:
            u_search = self.scale_query(text)
        hidden_self = tf.where(negative[None, :] == wanted[:, None], HIDDEN, 0.0)
        search = self.task(u_search, tf.gather(v_target, at), negative_embeddings=v_negative,
                           candidate_bias=SEARCH_BETA * tf.gather(own_prior, at),
                           negative_bias=SEARCH_BETA * tf.gather(prior, at) - log_q + hidden_self,
                           sample_weight=tf.gather(weight, at))
        search_total = self.all_replicas(tf.reduce_sum(tf.gather(weight, at)))
        loss = loss / tf.maximum(total, 1e-6) + SEARCH_WEIGHT * search / tf.maximum(search_total, 1e-6)
        return loss + self.distance() if training else loss

    def slate_scores(self, inputs: Batch) -> SlateScores:
        """Scores of what was shown and of a shortlist, without noise: as the graph would serve them, beta included.

        Args:
            inputs: what `request_vectors` reads; `item` `[batch, K]` and `shortlist` `[batch, S]`, catalogue positions, negative
                where there is none; `log_p` `[batch, K]` and `shortlist_log_p` `[batch, S]`, popularity at that time.
        """
        batch, length = inputs["history"].shape
        places, listed = inputs["item"].shape[1], inputs["shortlist"].shape[1]
        look_up = self._look_up(None if batch is None else batch * (length + places + listed))
        u, beta = self.request_vectors(inputs, look_up)

        def score(rows: tf.Tensor, log_p: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            flat = look_up(tf.reshape(tf.maximum(rows, 0), [-1]))
            v = tf.reshape(flat, [tf.shape(rows)[0], rows.shape[1], self.items.sizes["dim"]])
            return v, tf.where(rows >= 0, tf.einsum("bd,bkd->bk", u, v) + beta * log_p, HIDDEN)

        return SlateScores(u, *score(inputs["item"], inputs["log_p"]), *score(inputs["shortlist"], inputs["shortlist_log_p"]))

    def request_vectors(self, inputs: Batch, look_up: Callable[[tf.Tensor], tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """What is multiplied with item vectors `[batch, dim]`, and the weight of popularity beside it `[batch, 1]`; no noise.

        Args:
            inputs: `history`, `action`, `gap` `[batch, L]` and `query` `[batch, text_width]` of `slate_arrays.SlateArrays`.
            look_up: gives the vectors of catalogue positions.
        """
        batch, length = tf.unstack(tf.shape(inputs["history"]))
        flat = look_up(tf.reshape(tf.maximum(inputs["history"], 0), [-1]))
        history = tf.reshape(flat, [batch, length, self.items.sizes["dim"]])
        count = tf.reduce_sum(tf.cast(inputs["history"] >= 0, tf.int32), axis=1)
        newest = self.queries(history, inputs["action"], inputs["gap"], at=tf.maximum(count - 1, 0))[:, 0]
        u = tf.where(count[:, None] > 0, self.scale_behaviour(newest), 0.0) + self.scale_query(inputs["query"])
        searched = tf.reduce_any(inputs["query"] != 0.0, axis=1, keepdims=True)
        return u, tf.where(searched, SEARCH_BETA, self.beta)

    def _look_up(self, rows: int | None) -> Callable[[tf.Tensor], tf.Tensor]:
        """How to look up as many item vectors as `rows` in a step: through a table of all where that is not more work."""
        if self.whole or rows is None or rows >= int(self._slot.shape[0]):
            table = self.item_vectors()
            return lambda positions: tf.gather(table, positions)
        return self.item_vectors

    def _hide(self, rows: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
        """`[batch, N]`: 0, or HIDDEN for candidates that are among positions `rows` `[batch, n]`; -1 hides nothing."""
        if candidates.shape[0] != self._slot.shape[0]:
            return tf.where(tf.reduce_any(rows[:, :, None] == candidates[None, None, :], axis=1), HIDDEN, 0.0)
        batch, places = tf.unstack(tf.shape(rows))
        flat = tf.reshape(rows, [-1])
        at = tf.stack([tf.repeat(tf.range(batch), places), tf.maximum(flat, 0)], axis=1)
        return tf.scatter_nd(at, tf.cast(flat >= 0, tf.float32), [batch, candidates.shape[0]]) * HIDDEN

    def _candidates(self, noise: Noise | None, seed: tf.Tensor, *, whole: bool) -> tuple[Any, tf.Tensor, tf.Tensor]:
        """How to look item vectors up in this step, the negatives' positions `[N]` and log q `[N]`."""
        if whole:
            table = self.item_vectors(None, noise)
            rows = int(self._slot.shape[0])
            return (lambda i: tf.gather(table, i)), tf.range(rows), tf.zeros([rows])
        draw = tf.random.stateless_uniform([self.negatives], seed) * self._q_below[-1]
        negative = tf.searchsorted(tf.convert_to_tensor(self._q_below), draw, side="right")
        negative = tf.minimum(negative, self.n_items - 1)
        # drawn with replacement: each draw stands for 1 / (N q) items
        return (lambda i: self.item_vectors(i, noise)), negative, tf.math.log(tf.gather(self._q, negative) * self.negatives)

    @tf.autograph.experimental.do_not_convert  # nothing below branches on a tensor, and to look for that is most of tracing
    def train_step(self, inputs: Batch) -> dict[str, tf.Tensor]:
        """One optimiser step, then the moving average of weights."""
        metrics = super().train_step(inputs)
        self.count_step()
        return metrics

    def count_step(self) -> None:
        """After an optimiser step: the next one draws other noise, and the moving average of weights moves."""
        self.steps.assign_add(1)
        self.averaged.assign_add(1)
        done = tf.cast(self.averaged, tf.float32)
        keep = tf.minimum(AVERAGE, done / (done + 10.0))  # the first steps are forgotten fast
        for average, weight in zip(self.average, self._averaged(), strict=True):
            average.assign(keep * average + (1 - keep) * weight)

    def anchor(self, strength: float) -> None:
        """From now on training pulls the towers back to the weights that they have now (`distance`); 0 lets them go.

        What was compiled before goes on without: `compile` after it, as `Trainer.run` does.
        """
        self._anchored = strength
        self._anchor = tuple(tf.identity(w) for w in self._towers()) if strength else ()

    def distance(self) -> tf.Tensor:
        """strength / 2 * ||w - w_0||^2 over the weights of both towers: L2-SP (Li et al. 2018, arXiv:1802.01483).

        A replica's part of it, since the losses of replicas are summed; 0 when nothing is anchored.
        """
        if not self._anchored:
            return tf.zeros([])
        pairs = zip(self._towers(), self._anchor, strict=True)
        squares = tf.add_n([tf.reduce_sum(tf.math.squared_difference(w, start)) for w, start in pairs])
        return self._anchored / 2 * squares / tf.distribute.get_strategy().num_replicas_in_sync

    def restart_average(self) -> None:
        """Let the moving average begin anew at the present weights."""
        self.averaged.assign(0)
        for average, weight in zip(self.average, self._averaged(), strict=True):
            average.assign(weight)

    def swap_average(self) -> None:
        """Exchange the weights and their moving average; again to change back."""
        for average, weight in zip(self.average, self._averaged(), strict=True):
            kept = tf.identity(weight)
            weight.assign(average)
            average.assign(kept)

    def follow(self, other: "TwoTower") -> None:
        """Take over another's weights and catalogue: a target network is a copy that stands still."""
        for mine, theirs in zip([*self._averaged(), self.beta], [*other._averaged(), other.beta], strict=True):
            mine.assign(theirs)
        self.n_items, self.whole = other.n_items, other.whole
        for name in ("_text", "_features", "_slot"):
            setattr(self, name, getattr(other, name))

    def clear_residuals(self, slots: np.ndarray) -> None:
        """Set the residuals of `slots` to zero, in the weights and in their average."""
        rows, zeros = tf.constant(slots[:, None]), tf.zeros([len(slots), self.items.sizes["dim"]])
        table = self.items.residual
        for variable in (table, next(a for a, w in zip(self.average, self._averaged(), strict=True) if w is table)):
            variable.assign(tf.tensor_scatter_nd_update(variable, rows, zeros))

    def _averaged(self) -> list[tf.Variable]:
        return [*self._towers(), self.log_scale, self.search_scale, self.mean_query]

    def _towers(self) -> list[tf.Variable]:
        return [*self.items.trainable_weights, *self.queries.trainable_weights]

    @staticmethod
    def all_replicas(value: tf.Tensor) -> tf.Tensor:
        """The sum of `value` over all replicas."""
        replica = tf.distribute.get_replica_context()
        return replica.all_reduce(tf.distribute.ReduceOp.SUM, value) if replica and tf.distribute.has_strategy() else value
