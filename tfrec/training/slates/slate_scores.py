"""What the towers say of a batch of requests, as the served graph would: scores, and the exploring policy that they make."""
from typing import NamedTuple

import tensorflow as tf

from tfrec.models.query_tower import HIDDEN
from tfrec.models.ranking.ranker import Behaviour, RankerInputs
from tfrec.models.two_tower import Batch, TwoTower
from tfrec.training.slates.policy_gradient import LogPolicy, policy


class SlateScores(NamedTuple):
    """Scores of a batch of requests, as served."""

    u: tf.Tensor  # [batch, dim], scaled
    v: tf.Tensor  # [batch, K, dim] of the shown items
    own: tf.Tensor  # [batch, K]: <u, v> + beta log p; HIDDEN where a slate is shorter
    w: tf.Tensor  # [batch, S, dim] of the shortlist
    listed: tf.Tensor  # [batch, S] of the shortlist; HIDDEN where it is shorter


def slate_scores(towers: TwoTower, batch: Batch) -> SlateScores:
    """Scores of what was shown and of a shortlist, without noise.

    Args:
        towers: The model.
        batch: What `TwoTower.request_vectors` reads; `item` `[batch, K]` and `shortlist` `[batch, S]`, catalogue positions,
            negative where there is none; `log_p` `[batch, K]` and `shortlist_log_p` `[batch, S]`, popularity at that time.
    """
    requests, length = batch["history"].shape
    positions, listed = batch["item"].shape[1], batch["shortlist"].shape[1]
    look_up = towers.item_lookup(None if requests is None else requests * (length + positions + listed))
    u, beta = towers.request_vectors(batch, look_up)

    def score(item: tf.Tensor, log_p: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        flat = look_up(tf.reshape(tf.maximum(item, 0), [-1]))
        v = tf.reshape(flat, [tf.shape(item)[0], item.shape[1], u.shape[-1]])
        return v, tf.where(item >= 0, tf.einsum("bd,bkd->bk", u, v) + beta * log_p, HIDDEN)

    return SlateScores(u, *score(batch["item"], batch["log_p"]), *score(batch["shortlist"], batch["shortlist_log_p"]))


def ranker_inputs(towers: TwoTower, batch: Batch, u: tf.Tensor, item: tf.Tensor, v: tf.Tensor, *, log_p: tf.Tensor,
                  words: tf.Tensor, columns: tf.Tensor) -> RankerInputs:
    """What the second stage reads of the requests of a batch and of items, as the served graph reads it.

    Args:
        towers: The first stage.
        batch: `history`, `gap` `[batch, L]` and `context` `[batch, features]` of `SlateArrays`.
        u: `[batch, dim]`, scaled query vectors.
        item: `[batch, n]`, catalogue positions, negative where there is none.
        v: `[batch, n, dim]`, their vectors.
        log_p: `[batch, n]`, their popularity.
        words: `[batch, n]`, the match of a search with each.
        columns: `[batch, n, columns]`, of `Ranker.item_columns`.
    """
    behaviour = Behaviour(batch["history"], batch["gap"])
    return RankerInputs(u * tf.exp(-towers.log_scale), behaviour, batch["context"], item, v, log_p, words * towers.search_scale,
                        columns)


def shown_mask(batch: Batch) -> tf.Tensor:
    """`[batch, K]`: where an item was shown, in a request that does not only fill up the batch."""
    return (batch["item"] >= 0) & (batch["weight"] > 0)[:, None]


def exploring_policy(batch: Batch, own: tf.Tensor, listed: tf.Tensor, *, epsilon: float) -> LogPolicy:
    """The exploring policy on the slates of a batch.

    Args:
        batch: `item`, `shortlist`, `weight`, `mass` and `total_mass` of `SlateBatches`.
        own: `[batch, K]`, logits of the shown items.
        listed: `[batch, S]`, logits of the shortlist.
        epsilon: Share that is left to chance.
    """
    same = batch["item"][:, :, None] == batch["shortlist"][:, None, :]
    return policy(own, listed, same, shown_mask(batch), epsilon=epsilon, mass=(batch["mass"], batch["total_mass"]))
