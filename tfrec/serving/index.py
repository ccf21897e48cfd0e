"""The index: item vectors, ids, tags and popularity in the graph; query vectors in, ids of the best items out.

    score(i) = <u, v_i> + beta log p(i)

Exact: one matrix product and one top-k over all items, in stock ops. Whatever replaces it for large catalogues keeps `search`:
filters come as strings and are applied before the best are chosen, so an answer is short only when fewer items are left.
"""
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfrec.data.catalogue import Catalogue
from tfrec.errors import ModelError

NOTHING = ""  # an answer's place without an item, and a filter's place without a name
LOWEST = -float("inf")


class Wishes(NamedTuple):
    """What a request says about items besides the query vector; `""` pads, and a name that is not known says nothing."""

    exclude: tf.Tensor  # [batch, E] ids that must not come
    allow_tags: tf.Tensor  # [batch, T] an item needs one of them; none named: every item passes
    deny_tags: tf.Tensor  # [batch, T] an item with one of them does not pass, whatever is allowed
    prior_items: tf.Tensor  # [batch, P] ids whose log p is given with the request,
    prior_log_p: tf.Tensor  # [batch, P] and what it is


class Lookup:
    """Codes 0, 1, ... of names in their order, in the graph; `unknown` for every other name."""

    def __init__(self, codes: Mapping[str, int], *, unknown: int = -1) -> None:
        keys, values = tf.constant(list(codes), tf.string), tf.constant(list(codes.values()), tf.int64)
        self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), unknown)

    def __call__(self, names: tf.Tensor) -> tf.Tensor:
        return tf.cast(self.table.lookup(names), tf.int32)


class ExactIndex:
    """All items of a catalogue.

    Args:
        catalogue: an item that is not available is never answered.
        vectors: `[n_items, dim]`.
        log_p: `[n_items]`, popularity for requests that bring none.
        max_k: an answer is at most this long.
    """

    def __init__(self, catalogue: Catalogue, vectors: np.ndarray, log_p: np.ndarray, *, max_k: int) -> None:
        if not len(catalogue) == len(vectors) == len(log_p):
            raise ModelError(
                f"ExactIndex: expected a vector and a log p for each of {len(catalogue)} items, got {len(vectors)}, {len(log_p)}."
            )
        self.vectors = tf.Variable(vectors, trainable=False, dtype=tf.float32, name="item_vectors")
        self.positions = Lookup(catalogue.index)
        self._log_p = tf.Variable(log_p, trainable=False, dtype=tf.float32, name="log_p")
        self._ids = tf.constant(catalogue.ids.tolist(), tf.string)
        self._available = tf.constant([item.available for item in catalogue.items])
        self._max_k = max_k
        tagged: dict[str, list[int]] = {}
        for position, item in enumerate(catalogue.items):
            for tag in set(item.tags) - {NOTHING}:
                tagged.setdefault(tag, []).append(position)
        names = sorted(tagged)
        self._tags = Lookup({tag: code for code, tag in enumerate(names)} or {NOTHING: -1})
        # positions of the items of tag 0, of tag 1, ...; and where those of each tag begin
        self._members = tf.constant([position for tag in names for position in tagged[tag]], tf.int32)
        self._begin = tf.constant(np.cumsum([0, *(len(tagged[tag]) for tag in names)]).astype(np.int32))
        self.tables = [self.positions.table, self._tags.table]

    def search(self, u: tf.Tensor, k: tf.Tensor, *, beta: tf.Tensor, wishes: Wishes | None = None) -> dict[str, tf.Tensor]:
        """The best `k` `[batch]` items for query vectors `u` `[batch, dim]`, with popularity weighed by `beta` `[batch]`.

        Returns:
            items `[batch, K]` and scores `[batch, K]`, K the largest k up to `max_k`; places beyond a row's own k and beyond the
            items that may come hold `""` and -inf. A k of 0 or less is an empty answer and no error, which would fail the other
            rows of a batch that the server has put together.
        """
        width = self.width(k)
        scores, positions = self.best(u, width, beta=beta, wishes=wishes)
        shown = (tf.range(width) < k[:, None]) & (scores > LOWEST)
        return {"items": self.names(positions, shown), "scores": tf.where(shown, scores, LOWEST)}

    def best(
        self, u: tf.Tensor, width: tf.Tensor, *, beta: tf.Tensor, wishes: Wishes | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Scores and positions `[batch, width]` of the best items that may come, best first; -inf at 0 where there are fewer."""
        rows = tf.shape(u)[0]
        scores = tf.matmul(u, self.vectors, transpose_b=True) + beta[:, None] * self.log_p(rows, wishes)
        scores = tf.where(self.eligible(rows, wishes), scores, LOWEST)
        best, positions = tf.math.top_k(scores, tf.minimum(width, tf.size(self._ids)))
        missing = [[0, 0], [0, width - tf.shape(best)[1]]]
        return tf.pad(best, missing, constant_values=LOWEST), tf.pad(positions, missing)

    def eligible(self, rows: tf.Tensor, wishes: Wishes | None = None) -> tf.Tensor:
        """Whether each item may come `[rows, n_items]`: it is available and the row's `wishes` let it pass."""
        size = tf.stack([rows, tf.size(self._ids)])
        passes = tf.broadcast_to(self._available, size)
        if wishes is None:
            return passes
        allowed = self._tagged(wishes.allow_tags, size) | tf.reduce_all(wishes.allow_tags == NOTHING, axis=1, keepdims=True)
        return passes & allowed & ~self._tagged(wishes.deny_tags, size) & ~self._named(wishes.exclude, size)

    def log_p(self, rows: tf.Tensor, wishes: Wishes | None = None) -> tf.Tensor:
        """Popularity `[rows, n_items]`: the index's, and for the items that a row brings its own."""
        log_p = tf.broadcast_to(self._log_p, tf.stack([rows, tf.size(self._ids)]))
        return log_p if wishes is None else self._overridden(log_p, wishes.prior_items, wishes.prior_log_p)

    def width(self, k: tf.Tensor) -> tf.Tensor:
        """How many places an answer has: the largest of `k`, up to `max_k`."""
        return tf.clip_by_value(tf.reduce_max(k), 0, self._max_k)

    def names(self, positions: tf.Tensor, shown: tf.Tensor) -> tf.Tensor:
        """Ids of the items at `positions`, `""` where none is `shown`."""
        return tf.where(shown, tf.gather(self._ids, positions), NOTHING)

    def _overridden(self, log_p: tf.Tensor, items: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        at, position = _known(self.positions(items))
        return tf.tensor_scatter_nd_update(log_p, tf.stack([at[:, 0], position], axis=1), tf.gather_nd(values, at))

    def _named(self, items: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """Whether each item `[batch, n_items]` is among the row's `items`."""
        at, position = _known(self.positions(items))
        return _marked(at[:, 0], position, size)

    def _tagged(self, tags: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """Whether each item `[batch, n_items]` has one of the row's `tags`."""
        at, tag = _known(self._tags(tags))
        members = tf.ragged.range(tf.gather(self._begin, tag), tf.gather(self._begin, tag + 1))
        return _marked(tf.gather(at[:, 0], members.value_rowids()), tf.gather(self._members, members.flat_values), size)


def _known(codes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Where in `[batch, n]` a code is known, `[m, 2]`, and those codes `[m]`."""
    at = tf.cast(tf.where(codes >= 0), tf.int32)
    return at, tf.gather_nd(codes, at)


def _marked(row: tf.Tensor, position: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """True at each (row, position), as often as it is named."""
    return tf.tensor_scatter_nd_update(tf.zeros(size, tf.bool), tf.stack([row, position], axis=1), tf.ones_like(row, tf.bool))
