"""Why an item has its score: what the score would lose without each event of the history and each word piece of the query.

    weight of a part = <u, v> - <u without it, v>

This is leave-one-out, the occlusion of Zeiler & Fergus (2014, arXiv:1311.2901). Each part is removed and the model is asked
again, in one batch, so a weight is what the model does and no approximation of it. Weights need not add up to the score: of two
events that say the same, neither alone makes much difference. When an event is removed, an older one may be read instead, as it
would be in a request without that event.

Of the words, each piece has its own share of the match (`models/lexical`): removing it would change what the others share.
"""
from typing import NamedTuple

import tensorflow as tf

from tfrec.graph.request import Events, Inputs, QueryReader, newest


class Weights(NamedTuple):
    """What the parts of a request add to the score."""

    history: tf.Tensor  # [batch, L] of each event; 0 for those that are not read: pads, unknown items, those that are too old
    tokens: tf.Tensor  # [batch, T] word pieces of the query, "" pads
    pieces: tf.Tensor  # [batch, T] ids of the word pieces, -1 for pads and pieces that the vocabulary lacks
    query: tf.Tensor  # [batch, T] of each word piece


def leave_one_out(reader: QueryReader, inputs: Inputs, v: tf.Tensor) -> Weights:
    """What each event and each word piece of a request adds to `<u, v>`, for item vectors `v` `[batch, dim]`."""
    events = newest(reader.events(inputs), reader.length + 1)  # with one removed, one more is read; older ones never are
    return Weights(_of_events(reader, events, v, tf.shape(inputs["history"])), *_of_tokens(reader, inputs["query"], v))


def _of_events(reader: QueryReader, events: Events, v: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Weights `shape`, `[batch, L]`."""
    at = tf.where(events.item >= 0)
    row = at[:, 0]
    reduced = Events(*(tf.gather(part, row) for part in events))
    removed = tf.range(tf.shape(events.item, out_type=tf.int64)[1]) == at[:, 1:]
    reduced = reduced._replace(item=tf.where(removed, -1, reduced.item))
    both = reader.behaviour(Events(*(tf.concat(parts, axis=0) for parts in zip(events, reduced, strict=True))))
    whole, without = tf.split(both, [tf.shape(v)[0], -1])
    weight = _lost(tf.gather(whole, row), without, tf.gather(v, row))
    target = tf.stack([tf.cast(row, tf.int32), tf.gather_nd(events.column, at)], axis=1)
    return tf.scatter_nd(target, weight, shape)


def _of_tokens(reader: QueryReader, query: tf.Tensor, v: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Word pieces, their ids and their weights, `[batch, T]` each."""
    tokenizer = reader.encoder.tokenizer
    before = 1 + tokenizer.prompt_length("query")  # [CLS] and the prompt, which stay
    ids = tokenizer(query, role="query", pad_to_max=False)
    pieces = tf.maximum(tf.shape(ids)[1] - before - 1, 0)  # to [SEP]
    count = tf.math.count_nonzero(ids != tokenizer.pad, axis=1, keepdims=True, dtype=tf.int32) - before - 1
    there = tf.range(pieces) < count
    at = tf.where(there)

    def weights() -> tf.Tensor:
        row, own = at[:, 0], tf.gather(ids, at[:, 0])
        column = tf.range(tf.shape(ids, out_type=tf.int64)[1] - 1)
        last_kept = at[:, 1:] + before - 1  # before the removed token: piece j is token j + before
        rest = tf.gather(own, column + tf.cast(column > last_kept, tf.int64), axis=1, batch_dims=1)
        rest = tf.pad(rest, [[0, 0], [0, 1]], constant_values=tokenizer.pad)
        # without its only piece a query is empty, and an empty query has no prompt
        alone = (tf.gather(count, row) == 1) & (rest != tokenizer.start) & (rest != tokenizer.end)
        rest = tf.where(alone, tokenizer.pad, rest)
        texts = reader.model.scale_query(reader.pool(tf.concat([ids, rest], axis=0)))
        whole, without = tf.split(texts, [tf.shape(ids)[0], -1])
        return tf.scatter_nd(at, _lost(tf.gather(whole, row), without, tf.gather(v, row)), tf.shape(there, out_type=tf.int64))

    found = tf.cond(tf.size(at) > 0, weights, lambda: tf.zeros(tf.shape(there)))
    own = ids[:, before:-1]
    return tf.where(there, tokenizer.pieces(own), ""), tf.where(there & (own != tokenizer.unknown), own, -1), found


def _lost(whole: tf.Tensor, without: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum((whole - without) * v, axis=-1)
