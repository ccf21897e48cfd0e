"""Why an item has its score: what the score would lose without each event of the history and each word piece of the query.

    weight of a part = <u, v> - <u without it, v>

Leave-one-out (the occlusion of Zeiler & Fergus 2014, arXiv:1311.2901): each part is really taken out and the model asked again,
in one batch, so a weight is what the model does and no approximation of it. Weights need not add up to the score: two events that
say the same have little to lose each. A missing event lets an older one be read in its place, as it would be.
"""
from typing import NamedTuple

import tensorflow as tf

from tfrec.graph.request import Events, QueryReader, newest


class Weights(NamedTuple):
    """Of the parts of a request, in units of the score."""

    history: tf.Tensor  # [batch, L]; 0 for what is not read: pads, unknown items, what is too old
    tokens: tf.Tensor  # [batch, T] word pieces of the query, "" pads
    query: tf.Tensor  # [batch, T] of each


def leave_one_out(
    reader: QueryReader, history: tf.Tensor, action: tf.Tensor, age_s: tf.Tensor, query: tf.Tensor, v: tf.Tensor
) -> Weights:
    """What each event and each word piece adds to `<u, v>`, for item vectors `v` `[batch, dim]`."""
    events = newest(reader.events(history, action, age_s), reader.length + 1)  # what is older is not read without one either
    return Weights(_of_events(reader, events, v, tf.shape(history)), *_of_tokens(reader, query, v))


def _of_events(reader: QueryReader, events: Events, v: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    at = tf.where(events.item >= 0)
    row = at[:, 0]
    others = Events(*(tf.gather(part, row) for part in events))
    taken = tf.range(tf.shape(events.item, out_type=tf.int64)[1]) == at[:, 1:]
    others = others._replace(item=tf.where(taken, -1, others.item))
    both = reader.behaviour(Events(*(tf.concat(parts, axis=0) for parts in zip(events, others, strict=True))))
    whole, without = tf.split(both, [tf.shape(v)[0], -1])
    weight = _lost(tf.gather(whole, row), without, tf.gather(v, row))
    place = tf.stack([tf.cast(row, tf.int32), tf.gather_nd(events.place, at)], axis=1)
    return tf.scatter_nd(place, weight, shape)


def _of_tokens(reader: QueryReader, query: tf.Tensor, v: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
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
        gone = at[:, 1:] + before - 1  # piece j is token j + before
        rest = tf.gather(own, column + tf.cast(column > gone, tf.int64), axis=1, batch_dims=1)
        rest = tf.pad(rest, [[0, 0], [0, 1]], constant_values=tokenizer.pad)
        # a query without its only piece is none, and none has no prompt
        alone = (tf.gather(count, row) == 1) & (rest != tokenizer.start) & (rest != tokenizer.end)
        rest = tf.where(alone, tokenizer.pad, rest)
        texts = reader.model.scale_query(reader.pool(tf.concat([ids, rest], axis=0)))
        whole, without = tf.split(texts, [tf.shape(ids)[0], -1])
        return tf.scatter_nd(at, _lost(tf.gather(whole, row), without, tf.gather(v, row)), tf.shape(there, out_type=tf.int64))

    found = tf.cond(tf.size(at) > 0, weights, lambda: tf.zeros(tf.shape(there)))
    return tf.where(there, tokenizer.pieces(ids[:, before:-1]), ""), found


def _lost(whole: tf.Tensor, without: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum((whole - without) * v, axis=-1)
