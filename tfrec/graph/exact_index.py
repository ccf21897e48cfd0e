"""The exact index: item vectors, ids, tags and popularity in the graph, and the search for the best items.

    score(i) = <u, v_i> + beta log p(i) + words(i) + boosts(i)     words: of the query, where there is one (`models/lexical`)

A search is one matrix product and one top-k over all items, in stock operators. Filters are strings and are applied before the
best items are chosen, so an answer is short only when fewer items are left. `inverted_index.py` replaces the search for large
catalogues.
"""
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfrec.client.contract import BOOSTS, FILTERS, NUMBERS
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.items.numeric_columns import numeric_table
from tfrec.data.items.tag_filters import positions_by_tag
from tfrec.errors import ModelError
from tfrec.graph.boosts import ITEM, TAG, Boosts
from tfrec.graph.numeric_filters import NumericColumns
from tfrec.graph.quantization import Storage, Vectors
from tfrec.models.lexical.lexicon import Lexicon
from tfrec.models.lexical.word_match import WordMatch

NOTHING = ""  # a position of an answer without an item, and a pad of a filter
LOWEST = -float("inf")
# of the parts of `Filters`
KINDS = {name: kind for name, kind in FILTERS.items() if name not in BOOSTS} | {"words": NUMBERS, "boosts": NUMBERS}


class Filters(NamedTuple):
    """What a request says about items besides the query vector; `""` pads, and an unknown name has no effect."""

    exclude: tf.Tensor  # [batch, E] ids that are not answered
    allow_tags: tf.Tensor  # [batch, T] an item needs one of them; when none is named, every item passes
    deny_tags: tf.Tensor  # [batch, T] an item with one of them does not pass, whatever is allowed
    bound_columns: tf.Tensor  # [batch, N] numeric columns; an item without the number does not pass
    bound_min: tf.Tensor  # [batch, N] the least number that passes
    bound_max: tf.Tensor  # [batch, N] the most that passes
    prior_items: tf.Tensor  # [batch, P] ids whose log p comes with the request
    prior_log_p: tf.Tensor  # [batch, P] that log p
    words: tf.Tensor  # [batch, n_positions] what a query's words add to each score; [batch, 0]: nothing
    boosts: tf.Tensor  # [batch, n_positions] what the request adds to each score (`boosts.py`); [batch, 0]: nothing

    @classmethod
    def of(cls, rows: tf.Tensor, **given: tf.Tensor) -> "Filters":
        """Of `rows` rows, the given parts and nothing of the others."""
        return cls(**{name: given[name] if name in given else tf.zeros(tf.stack([rows, 0]), KINDS[name].dtype)
                      for name in cls._fields})


def plus_added(scores: tf.Tensor, filters: Filters, positions: Callable[[], tf.Tensor] | None = None) -> tf.Tensor:
    """`scores`, and what words of queries and boosts add to them; `positions` says of which items, and is asked only if they do.

    By default the scores are of all items. Where a position is negative, those of the first item are added.
    """
    return _plus(_plus(scores, filters.words, positions), filters.boosts, positions)


def boosts_at(filters: Filters, positions: tf.Tensor) -> tf.Tensor:
    """The boosts of the items at `positions` `[batch, n]`."""
    return _plus(tf.zeros(tf.shape(positions)), filters.boosts, lambda: positions)


def _plus(scores: tf.Tensor, added: tf.Tensor, positions: Callable[[], tf.Tensor] | None) -> tf.Tensor:
    def with_added() -> tf.Tensor:
        return scores + (added if positions is None else tf.gather(added, tf.maximum(positions(), 0), batch_dims=1))

    return tf.cond(tf.shape(added)[1] > 0, with_added, lambda: scores)


def names_attributes(filters: Filters) -> tf.Tensor:
    """Whether each row `[batch]` names a tag or bounds a number."""
    named = [tf.reduce_any(names != NOTHING, axis=1) for names in (filters.allow_tags, filters.deny_tags, filters.bound_columns)]
    return named[0] | named[1] | named[2]


class _Table(tf.lookup.StaticHashTable):
    """A table that its initialiser fills anew each time, where TensorFlow's own keeps what it was first filled with.

    So a server can give the graph of one version the variables of the next, and run the initialisers.
    """

    def _create_resource(self) -> tf.Tensor:
        return tf.raw_ops.MutableHashTableV2(key_dtype=self._key_dtype, value_dtype=self._value_dtype,
                                             shared_name=self._shared_name, name=self._name)


class Lookup:
    """A table of the codes of names, in the graph; `unknown` is the code of every other name."""

    def __init__(self, codes: Mapping[str, int], *, unknown: int = -1) -> None:
        keys, values = tf.constant(list(codes), tf.string), tf.constant(list(codes.values()), tf.int64)
        self.table = _Table(tf.lookup.KeyValueTensorInitializer(keys, values), unknown)

    def __call__(self, names: tf.Tensor) -> tf.Tensor:
        """Codes `[...]` of `names` `[...]`."""
        return tf.cast(self.table.lookup(names), tf.int32)


class _PositionTable(tf.lookup.KeyValueTensorInitializer):
    """Fills a table with the position of each name in a variable, `""` left out.

    A server runs it after it has restored the variables, so the table is the variable's, also when that came from a delta.
    """

    def __init__(self, names: tf.Variable) -> None:
        super().__init__(tf.zeros([0], tf.string), tf.zeros([0], tf.int64))
        self._names = names

    def initialize(self, table: tf.lookup.StaticHashTable) -> tf.Operation:
        """The operation that fills `table`."""
        positions = tf.where(self._names != NOTHING)[:, 0]
        keys = tf.concat([[NOTHING], tf.gather(self._names.value(), positions)], axis=0)  # the operator takes no empty list
        return tf.raw_ops.LookupTableImportV2(
            table_handle=table.resource_handle, keys=keys, values=tf.pad(positions, [[1, 0]], constant_values=-1)
        )


class PositionLookup(Lookup):
    """The position of each name in a variable of names, -1 for every other name."""

    def __init__(self, names: tf.Variable) -> None:
        self.table = _Table(_PositionTable(names), -1)


class ExactIndex:
    """All items of a catalogue, each at its own position.

    All that the catalogue brings is in `state`, variables whose first dimension is open: a later catalogue, other popularity or
    other vectors are other values of the same graph (`delta.py`).

    Args:
        catalogue: an item that is not available is never answered.
        vectors: `[n_items, dim]`.
        log_p: `[n_items]`, popularity for requests that bring none.
        max_k: an answer is at most this long.
        storage: of the vectors (`quantization.py`).
        order: `[n_positions]` the catalogue's item at each position of the index, -1 for none; by default the catalogue's order.
        lexicon: the words of the catalogue; None for an index that is not searched by words.

    Attributes:
        order: `[n_positions]`, as given.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        vectors: np.ndarray,
        log_p: np.ndarray,
        *,
        max_k: int,
        storage: Storage = "float32",
        order: np.ndarray | None = None,
        lexicon: Lexicon | None = None,
    ) -> None:
        if not len(catalogue) == len(vectors) == len(log_p):
            raise ModelError(
                f"ExactIndex: expected a vector and a log p for each of {len(catalogue)} items, got {len(vectors)}, {len(log_p)}."
            )
        order = np.arange(len(catalogue)) if order is None else order
        items = [catalogue.items[item] if item >= 0 else None for item in order]
        self._max_k = max_k
        self.state: dict[str, tf.Variable] = {}
        self._vectors = Vectors(np.where((order >= 0)[:, None], vectors[order], 0), storage, keep=self._keep)
        self._log_p = self._keep("log_p", np.where(order >= 0, log_p[order], 0).astype(np.float32))
        self._ids = self._keep("ids", np.array([item.id if item else NOTHING for item in items], object))
        self._available = self._keep("available", np.array([item is not None and item.available for item in items]))
        self.order = order
        self.words = None if lexicon is None else WordMatch(lexicon, order, keep=self._keep)
        # the exploration mass before each item, and that of all items; an item that is not available has none
        self.mass_before = self._keep("mass_before", np.zeros(len(order) + 1))
        self.weigh(np.ones(len(catalogue)))
        tagged = positions_by_tag([item.tags if item else () for item in items])
        names = sorted(tagged)
        self._tag_names = self._keep("tags", np.array(names, object))
        self._tags = PositionLookup(self._tag_names)
        # positions of the items of tag 0, of tag 1, ...; and where those of each tag begin
        self._members = self._keep("tag_members", np.array([position for tag in names for position in tagged[tag]], np.int32))
        self._begin = self._keep("tag_begin", np.cumsum([0, *(len(tagged[tag]) for tag in names)]).astype(np.int32))
        own_tags = [sorted({*item.tags} - {NOTHING}) if item else [] for item in items]
        codes = {tag: code for code, tag in enumerate(names)}
        self._own_tags = self._keep("item_tags", np.array([codes[tag] for tags in own_tags for tag in tags], np.int32))
        self._own_begin = self._keep("item_tag_begin", np.cumsum([0, *map(len, own_tags)]).astype(np.int32))
        columns, numbers = numeric_table(items)
        named = self._keep("numeric_columns", np.array(columns, object))
        column = PositionLookup(named)
        self._numbers = NumericColumns(named, self._keep("numeric_values", numbers.ravel()), column)
        self.positions = PositionLookup(self._ids)
        self.tables = [self.positions.table, self._tags.table, column.table]

    def _keep(self, name: str, value: np.ndarray) -> tf.Variable:
        """A variable of the catalogue's, of open length.

        Gather from its `.value()`: gathering from the variable itself makes every later read of the whole a copy of it.
        """
        dtype = tf.string if value.dtype == object else None
        open_length = tf.TensorShape([None, *value.shape[1:]])
        self.state[name] = tf.Variable(tf.constant(value, dtype), trainable=False, shape=open_length, name=f"catalogue_{name}")
        return self.state[name]

    def keep_rows(self, name: str, rows: np.ndarray) -> tf.Variable:
        """A variable `[n_positions, width]` of the catalogue's `rows` `[n_items, width]`, beside those of the index."""
        return self._keep(name, np.where((self.order >= 0)[:, None], rows[self.order], 0).astype(rows.dtype))

    def weigh(self, mass: np.ndarray) -> None:
        """Set the mass of the catalogue's items `[n_items]` by which exploration draws among all of them."""
        own = np.where(self._available.numpy(), mass[self.order], 0.0)
        self.mass_before.assign(np.concatenate([[0.0], np.cumsum(own, dtype=np.float64)]))

    def vectors(self, positions: tf.Tensor) -> tf.Tensor:
        """Item vectors `[..., dim]` at `positions` `[...]`; that of the first item where the position is negative."""
        return self._vectors.at(tf.maximum(positions, 0))

    def search(self, u: tf.Tensor, k: tf.Tensor, *, beta: tf.Tensor, filters: Filters | None = None) -> dict[str, tf.Tensor]:
        """The best `k` `[batch]` items for query vectors `u` `[batch, dim]`, with popularity weighed by `beta` `[batch]`.

        Returns:
            items `[batch, K]` and scores `[batch, K]`, K the largest k up to `max_k`; positions beyond a row's own k and beyond
            the eligible items hold `""` and -inf. A k of 0 or less gets an empty answer and no error, which would fail the other
            rows of a batch that the server has put together.
        """
        width = self.width(k)
        scores, positions = self.best(u, width, beta=beta, filters=filters)
        shown = (tf.range(width) < k[:, None]) & (scores > LOWEST)
        return {"items": self.names(positions, shown), "scores": tf.where(shown, scores, LOWEST)}

    def best(
        self, u: tf.Tensor, width: tf.Tensor, *, beta: tf.Tensor, filters: Filters | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Scores and positions `[batch, width]` of the best items that may come, best first; -inf at 0 where there are fewer."""
        rows = tf.shape(u)[0]
        scores = self._vectors.products(u) + beta[:, None] * self.log_p(rows, filters)
        if filters is not None:
            scores = plus_added(scores, filters)
        scores = tf.where(self.eligible(rows, filters), scores, LOWEST)
        best, positions = tf.math.top_k(scores, tf.minimum(width, tf.size(self._ids)))
        missing = [[0, 0], [0, width - tf.shape(best)[1]]]
        return tf.pad(best, missing, constant_values=LOWEST), tf.pad(positions, missing)

    def eligible(self, rows: tf.Tensor, filters: Filters | None = None) -> tf.Tensor:
        """Whether each item `[rows, n_positions]` is eligible: it is available and the row's `filters` let it pass."""
        size = tf.stack([rows, tf.size(self._ids)])
        passes = tf.broadcast_to(self._available, size)
        return passes if filters is None else passes & self._permitted(filters) & ~self._named(filters.exclude, size)

    def boosts(self, boosts: Boosts) -> tf.Tensor:
        """What is added to each score, `[rows, n_positions]`; `[rows, 0]` where no row boosts anything. Boosts add up."""
        rows, n_positions = tf.shape(boosts.names)[0], tf.size(self._ids)

        def added() -> tf.Tensor:
            none = tf.zeros(tf.stack([rows, n_positions]))
            at, item, value = boosts.known(ITEM, self.positions)
            found = tf.tensor_scatter_nd_add(none, tf.stack([at[:, 0], item], axis=1), value)
            at, tag, value = boosts.known(TAG, self._tags)
            members = tf.ragged.range(tf.gather(self._begin.value(), tag), tf.gather(self._begin.value(), tag + 1))
            one = members.value_rowids()
            position = tf.gather(self._members.value(), members.flat_values)
            found = tf.tensor_scatter_nd_add(found, tf.stack([tf.gather(at[:, 0], one), position], axis=1), tf.gather(value, one))
            return found + self._numbers.added(boosts, n_positions)

        return tf.cond(tf.reduce_any(boosts.names != NOTHING), added, lambda: tf.zeros(tf.stack([rows, 0])))

    def log_p(self, rows: tf.Tensor, filters: Filters | None = None) -> tf.Tensor:
        """Popularity `[rows, n_positions]`: the index's, and for the items that a row brings its own."""
        log_p = tf.broadcast_to(self._log_p, tf.stack([rows, tf.size(self._ids)]))
        return log_p if filters is None else self._overridden(log_p, filters.prior_items, filters.prior_log_p)

    def popularity(self, positions: tf.Tensor, beta: tf.Tensor, filters: Filters) -> tf.Tensor:
        """Its part of the scores of `positions` `[batch, n]`, beta log p; the first item's where a position is negative.

        As `log_p` has it, but for these items alone.
        """
        positions = tf.maximum(positions, 0)
        given = tf.pad(self.positions(filters.prior_items), [[0, 0], [1, 0]], constant_values=-1)  # so that there is one
        order = tf.argsort(given, axis=1, stable=True)
        given = tf.gather(given, order, batch_dims=1)
        at = tf.searchsorted(given, positions, side="right") - 1  # of an item that is named twice the last
        own = tf.gather(tf.pad(filters.prior_log_p, [[0, 0], [1, 0]]), tf.gather(order, at, batch_dims=1), batch_dims=1)
        log_p = tf.gather(self._log_p.value(), positions)
        return beta[:, None] * tf.where(tf.gather(given, at, batch_dims=1) == positions, own, log_p)

    def size(self) -> tf.Tensor:
        """How many positions there are."""
        return tf.size(self._ids)

    def count_available(self) -> tf.Tensor:
        """How many items are eligible when a request filters none."""
        return tf.math.count_nonzero(self._available, dtype=tf.int32)

    def _permitted(self, filters: Filters) -> tf.Tensor:
        """Whether the row's tags and bounds let each item pass `[rows, n_positions]`."""
        size = tf.stack([tf.shape(filters.allow_tags)[0], tf.size(self._ids)])
        allowed = self._tagged(filters.allow_tags, size) | tf.reduce_all(filters.allow_tags == NOTHING, axis=1, keepdims=True)
        passes = allowed & ~self._tagged(filters.deny_tags, size)
        bounds = (filters.bound_columns, filters.bound_min, filters.bound_max)
        return tf.cond(tf.reduce_any(filters.bound_columns != NOTHING),
                       lambda: passes & self._numbers.within(*bounds, size[1]), lambda: passes)

    def tags(self, positions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Codes of the tags of the items at `positions` `[batch, n]`, `[batch, n, T]`, -1 behind the last; and their names."""
        begin = self._own_begin.value()
        first, end = tf.gather(begin, positions), tf.gather(begin, positions + 1)
        number = tf.range(tf.reduce_max(tf.pad(tf.reshape(end - first, [-1]), [[0, 1]])))
        at = first[..., None] + number
        there = at < end[..., None]
        own = tf.pad(self._own_tags.value(), [[0, 1]])  # so that there is one
        codes = tf.where(there, tf.gather(own, tf.where(there, at, 0)), -1)
        names = tf.pad(self._tag_names.value(), [[0, 1]], constant_values=NOTHING)
        return codes, tf.where(there, tf.gather(names, tf.maximum(codes, 0)), NOTHING)

    def width(self, k: tf.Tensor) -> tf.Tensor:
        """How many positions an answer has: the largest of `k`, up to `max_k`."""
        return tf.clip_by_value(tf.reduce_max(k), 0, self._max_k)

    def names(self, positions: tf.Tensor, shown: tf.Tensor) -> tf.Tensor:
        """Ids of the items at `positions`, `""` where none is `shown`."""
        return tf.where(shown, tf.gather(self._ids.value(), positions), NOTHING)

    def _overridden(self, log_p: tf.Tensor, items: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        at, position = _known(self.positions(items))
        return tf.tensor_scatter_nd_update(log_p, tf.stack([at[:, 0], position], axis=1), tf.gather_nd(values, at))

    def _named(self, items: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """Whether each item `[batch, n_positions]` is among the row's `items`."""
        at, position = _known(self.positions(items))
        return _marked(at[:, 0], position, size)

    def _tagged(self, tags: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """Whether each item `[batch, n_positions]` has one of the row's `tags`."""
        at, tag = _known(self._tags(tags))
        members = tf.ragged.range(tf.gather(self._begin.value(), tag), tf.gather(self._begin.value(), tag + 1))
        return _marked(tf.gather(at[:, 0], members.value_rowids()), tf.gather(self._members.value(), members.flat_values), size)


def _known(codes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Where in `[batch, n]` a code is known, `[m, 2]`, and those codes `[m]`."""
    at = tf.cast(tf.where(codes >= 0), tf.int32)
    return at, tf.gather_nd(codes, at)


def _marked(row: tf.Tensor, position: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """True at each (row, position), as often as it is named."""
    return tf.tensor_scatter_nd_update(tf.zeros(size, tf.bool), tf.stack([row, position], axis=1), tf.ones_like(row, tf.bool))
