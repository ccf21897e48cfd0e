"""Slates that are more than a list: diverse, and with at most so many items of one brand or author, in the graph.

A slate is chosen from the shortlist of the best items, one position after the other. Diversity is the greedy maximum of a
determinantal point process (Kulesza & Taskar 2012; Chen, Zhang & Zhou 2018, arXiv:1709.05135). The next item is the one with the
highest

    (1 - diversity) relevance + diversity log d

where relevance is the score, from 0 of the last of the shortlist to 1 of the best, and d is what of the item's direction the
items above do not span: 1 for one that is like none of them, and near 0 for one that is made of them. At 0 the best items come as
ever. An item whose tag has been shown as often as its cap allows is passed over; where none is left, the slate ends.

It was chosen over maximal marginal relevance, and over calibration to the history, by measurement (docs/slates.md).
"""
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from tfrec.graph.exact_index import LOWEST, NOTHING, ExactIndex, Filters

_RIDGE = 1e-3  # of every item's direction no other spans so much: after as many items as dimensions the rest still differ


class Reranking(NamedTuple):
    """How the items of each row go together."""

    diversity: tf.Tensor  # [batch] from 0 to 1; 0 is off
    cap_prefixes: tf.Tensor  # [batch, C] beginnings of tags
    caps: tf.Tensor  # [batch, C] at most so many items with the same tag that begins so; 0 or less is off

    @property
    def asked(self) -> tf.Tensor:
        """Whether each row `[batch]` asks for more than the best items."""
        return (self.diversity > 0) | tf.reduce_any(self.caps > 0, axis=1)


class _Shortlist(NamedTuple):
    """The items that slates are chosen from, and what is not chosen anew at each position."""

    relevance: tf.Tensor  # [batch, S]
    directions: tf.Tensor  # [batch, S, dim] of length 1; dim is 0 where no row asks for diversity
    tags: tf.Tensor  # [batch, S, T] codes of the capped tags; -1 elsewhere. T is 0 where no row caps any
    caps: tf.Tensor  # [batch, S, T] the cap of each


class _Slate(NamedTuple):
    """Slates with their first positions filled."""

    columns: tf.Tensor  # [batch, K] of the shortlist, -1 where there is none
    may: tf.Tensor  # [batch, S] whether the item may still come
    left: tf.Tensor  # [batch, S] d: of its direction, what the items above do not span
    spanned: tf.Tensor  # [batch, S, K] the coordinates of the rest, one for each position (rows of a Cholesky factor)
    counts: tf.Tensor  # [batch, S, T] items above that have the tag


def search_reranked(
    index: ExactIndex, u: tf.Tensor, k: tf.Tensor, *, beta: tf.Tensor, filters: Filters, asked: Reranking, shortlist: int,
    plain: Callable[[tf.Tensor, tf.Tensor, tf.Tensor, Filters], dict[str, Any]],
) -> dict[str, Any]:
    """As `ExactIndex.search`, with the slates of rows that ask for it chosen from their `shortlist` best items.

    Args:
        index: the items.
        u: `[batch, dim]` query vectors.
        k: `[batch]` items of each slate.
        beta: `[batch]` the weight of popularity.
        filters: what may come.
        asked: how the items go together.
        shortlist: items; as many as an answer may have, or more.
        plain: answers a batch with the best items, by `u`, `k`, `beta` and `filters`. It answers all rows where none asks.
    """
    def mixed() -> dict[str, Any]:
        on, off = tf.where(asked.asked)[:, 0], tf.where(~asked.asked)[:, 0]
        width, order = index.width(k), tf.argsort(tf.concat([on, off], axis=0))
        scores, positions = index.best(
            tf.gather(u, on), tf.constant(shortlist), beta=tf.gather(beta, on), filters=_rows(filters, on))
        scores, positions = reranked(index, scores, positions, tf.gather(k, on), _rows(asked, on))
        nobody = {"items": tf.zeros([0, 0], tf.string), "scores": tf.zeros([0, 0])}
        others = tf.cond(tf.size(off) > 0, lambda: plain(tf.gather(u, off), tf.gather(k, off), tf.gather(beta, off),
                                                         _rows(filters, off)), lambda: nobody)
        items = index.names(positions, scores > LOWEST)
        return {"items": tf.gather(tf.concat([_wide(items, width, NOTHING), _wide(others["items"], width, NOTHING)], 0), order),
                "scores": tf.gather(tf.concat([_wide(scores, width, LOWEST), _wide(others["scores"], width, LOWEST)], 0), order)}

    return tf.cond(tf.reduce_any(asked.asked), mixed, lambda: plain(u, k, beta, filters))  # type: ignore[no-any-return]


def slate_of(
    index: ExactIndex, scores: tf.Tensor, positions: tf.Tensor, k: tf.Tensor, asked: Reranking
) -> dict[str, Any]:
    """Items and scores `[batch, K]` of slates from a shortlist, as `reranked`; a row that asks for nothing gets its best."""
    def best() -> tuple[tf.Tensor, tf.Tensor]:
        width = index.width(k)
        shown = tf.range(width) < k[:, None]
        return tf.where(shown, scores[:, :width], LOWEST), positions[:, :width]

    scores, positions = tf.cond(tf.reduce_any(asked.asked), lambda: reranked(index, scores, positions, k, asked), best)
    return {"items": index.names(positions, scores > LOWEST), "scores": scores}


def reranked(
    index: ExactIndex, scores: tf.Tensor, positions: tf.Tensor, k: tf.Tensor, asked: Reranking
) -> tuple[tf.Tensor, tf.Tensor]:
    """Slates chosen from a shortlist.

    Args:
        index: knows vectors and tags.
        scores: `[batch, S]` best first, -inf where there are fewer items.
        positions: `[batch, S]` of the items in the index.
        k: `[batch]` items of each slate.
        asked: how the items go together.

    Returns:
        Scores and positions `[batch, K]` in the order of the choice, K the largest `k` up to the index's; -inf at 0 where a slate
        is shorter.
    """
    width, there = index.width(k), scores > LOWEST
    shortlist = _shortlist(index, scores, positions, there, asked)
    rows, size = tf.unstack(tf.shape(scores))
    n_spanned = tf.where(tf.shape(shortlist.directions)[2] > 0, width, 0)
    begun = _Slate(tf.fill([rows, width], -1), there, tf.ones([rows, size]), tf.zeros(tf.stack([rows, size, n_spanned])),
                   tf.zeros_like(shortlist.tags))

    def step(position: tf.Tensor, slate: _Slate) -> tuple[tf.Tensor, _Slate]:
        return position + 1, _next(position, slate, shortlist, asked.diversity[:, None])

    columns = tf.while_loop(lambda position, _: position < width, step, [tf.constant(0), begun])[1].columns
    shown = (columns >= 0) & (tf.range(width) < k[:, None])
    column = tf.maximum(columns, 0)
    chosen = tf.where(shown, tf.gather(scores, column, batch_dims=1), LOWEST)
    return chosen, tf.where(shown, tf.gather(positions, column, batch_dims=1), 0)


def _shortlist(
    index: ExactIndex, scores: tf.Tensor, positions: tf.Tensor, there: tf.Tensor, asked: Reranking
) -> _Shortlist:
    low = tf.reduce_min(tf.where(there, scores, float("inf")), axis=1, keepdims=True)
    high = tf.reduce_max(scores, axis=1, keepdims=True)
    relevance = tf.where(there, (scores - low) / tf.maximum(high - low, 1e-9), 0.0)
    nothing = tf.concat([tf.shape(positions), [0]], axis=0)
    none = tf.zeros(nothing, tf.int32)
    tags, caps = tf.cond(tf.reduce_any(asked.caps > 0), lambda: _capped(index, positions, asked), lambda: (none, none))
    directions = tf.cond(tf.reduce_any(asked.diversity > 0), lambda: tf.math.l2_normalize(index.vectors(positions), axis=-1),
                         lambda: tf.zeros(nothing))
    return _Shortlist(relevance, directions, tags, caps)


def _capped(index: ExactIndex, positions: tf.Tensor, asked: Reranking) -> tuple[tf.Tensor, tf.Tensor]:
    """Codes of the capped tags `[batch, S, T]`, -1 elsewhere, and the cap of each, the lowest of those whose prefix it has."""
    codes, names = index.tags(positions)
    n_caps = tf.shape(asked.caps)[1]

    def lowest(number: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        prefix, cap = asked.cap_prefixes[:, number, None, None], asked.caps[:, number, None, None]
        length = tf.strings.length(prefix) + tf.zeros_like(names, tf.int32)
        begins = (tf.strings.substr(names, tf.zeros_like(length), length) == prefix) & (names != "") & (cap > 0)
        return number + 1, tf.where(begins, tf.minimum(found, cap), found)

    none = tf.fill(tf.shape(names), tf.int32.max)
    found = tf.while_loop(lambda number, _: number < n_caps, lowest, [tf.constant(0), none])[1]
    return tf.where(found < tf.int32.max, codes, -1), found


def _next(position: tf.Tensor, slate: _Slate, shortlist: _Shortlist, diversity: tf.Tensor) -> _Slate:
    full = tf.reduce_any((shortlist.tags >= 0) & (slate.counts >= shortlist.caps), axis=2)
    may = slate.may & ~full
    value = (1 - diversity) * shortlist.relevance + diversity * tf.math.log(tf.maximum(slate.left, _RIDGE))
    column = tf.argmax(tf.where(may, value, LOWEST), axis=1, output_type=tf.int32)
    some = tf.reduce_any(may, axis=1)

    def own(array: tf.Tensor) -> tf.Tensor:
        return tf.gather(array, column[:, None], batch_dims=1)

    tags = tf.where(some[:, None, None], own(shortlist.tags), -1)  # [batch, 1, T]
    same = tf.reduce_any((shortlist.tags[..., None] == tags[:, :, None]) & (tags[:, :, None] >= 0), axis=3)
    cosine = tf.linalg.matvec(shortlist.directions, own(shortlist.directions)[:, 0])
    spanned = tf.linalg.matvec(slate.spanned, own(slate.spanned)[:, 0])
    made = (1 - _RIDGE) * cosine - spanned
    made /= tf.sqrt(tf.maximum(own(slate.left), _RIDGE))
    here = tf.range(tf.shape(slate.columns)[1]) == position
    spanned_here = tf.range(tf.shape(slate.spanned)[2]) == position
    return _Slate(
        tf.where(here, tf.where(some, column, -1)[:, None], slate.columns),
        may & (tf.range(tf.shape(may)[1]) != column[:, None]),
        slate.left - made**2,
        tf.where(spanned_here, made[..., None], slate.spanned),
        slate.counts + tf.cast(same, tf.int32),
    )


def _rows(parts: Any, rows: tf.Tensor) -> Any:
    """Some rows of each part of a named tuple."""
    return type(parts)(*(tf.gather(part, rows) for part in parts))


def _wide(array: tf.Tensor, width: tf.Tensor, fill: Any) -> tf.Tensor:
    return tf.pad(array, [[0, 0], [0, width - tf.shape(array)[1]]], constant_values=fill)
