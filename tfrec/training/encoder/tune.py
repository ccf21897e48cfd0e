"""Tuning the text encoder on pairs: texts with the items that answer them in, a directory with a new encoder out.

It is a step of its own, not a part of `train`: a moved encoder means that every item is read anew. `text.encoder` then names the
directory, and training, export and serving are as before. Other items of the batch are a query's negatives (`contrastive.py`).
"""
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrec.config import Config
from tfrec.data.examples.pairs import Pairs
from tfrec.data.items.catalogue import Catalogue
from tfrec.errors import DataError
from tfrec.models.bert import peft
from tfrec.models.dropout import Noise
from tfrec.models.text_encoder import TextEncoder
from tfrec.training.encoder.augmentation import drop_tokens, mask_spans
from tfrec.training.encoder.contrastive import contrastive_loss, right_answers
from tfrec.training.encoder.new_encoder import Tuned, batches, new_encoder, parent_vectors, token_ids
from tfrec.training.encoder.tuned_model import Batch, TunedModel

RELEVANT = 64  # right answers of a query that are known not to be its negatives, at most
REPLAYED = 0.25  # texts of the parent's that are replayed in a step, for each pair


class PairModel(TunedModel):
    """Learns pairs: the vector of a query lies near that of its item, and texts that are replayed stay where they were."""

    def texts(self, batch: Batch, noise: Noise | None) -> list[tf.Tensor]:
        found = [self._thinned(batch["query_ids"], noise), self._thinned(batch["item_ids"], noise)]
        return [*found, batch["replay_ids"]] if noise is not None and "replay_ids" in batch else found

    def losses(self, batch: Batch, ids: list[tf.Tensor], states: list[tf.Tensor], noise: Noise | None) -> tf.Tensor:
        queries, items, *replayed = (self.encoder.pool_states(s, i) for s, i in zip(states, ids, strict=True))
        right = right_answers(batch["relevant"], batch["item"])
        each = contrastive_loss(queries, items, right, temperature=self.settings.temperature)
        loss = tf.math.divide_no_nan(tf.reduce_sum(each * batch["weight"]), tf.reduce_sum(batch["weight"]))
        for vectors in replayed:
            loss += self.settings.replay * tf.reduce_mean(1 - tf.reduce_sum(vectors * batch["replay_vectors"], axis=-1))
        return loss

    def _thinned(self, ids: tf.Tensor, noise: Noise | None) -> tf.Tensor:
        if noise is None:
            return ids
        tokenizer = self.encoder.tokenizer
        if self.settings.token_dropout:
            ids = drop_tokens(ids, self.settings.token_dropout, noise, tokenizer)
        return mask_spans(ids, self.settings.span_masking, noise, tokenizer) if self.settings.span_masking else ids


class PairInput:
    """Pairs as batches of token ids.

    Args:
        pairs: their items are those of `texts`, by position.
        texts: what items say.
        replay: texts whose vectors must stay, with the vectors; none where that is not asked for.
    """

    def __init__(self, encoder: TextEncoder, pairs: Pairs, texts: Sequence[str], *, config: Config,
                 replay: tuple[Sequence[str], npt.NDArray[np.float32]] | None = None) -> None:
        self._pairs, self._config = pairs, config
        used, self._row = np.unique(pairs.item, return_inverse=True)
        self._items = token_ids(encoder, [texts[i] for i in used], role="item")
        self._queries = token_ids(encoder, pairs.queries, role="query")
        place = {text: n for n, text in enumerate(texts)}  # where an item's text is the query, that item is no wrong answer
        own = np.array([place.get(query, -1) for query in pairs.queries], np.int32)
        self._relevant = np.concatenate([pairs.relevant(most=RELEVANT), own[:, None]], axis=1)
        self._replay = None if replay is None else (token_ids(encoder, replay[0], role="item"), replay[1])
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        self.batch_size = max(1, config.tuning.batch_size // replicas) * replicas
        self._replayed = max(1, int(REPLAYED * self.batch_size) // replicas) * replicas
        held_out = pairs.held_out(config.tuning.validation_share)
        self._learnt, self._held_out = np.flatnonzero(~held_out), np.flatnonzero(held_out)
        if len(self._held_out) < 2 or len(self._learnt) < 2:
            raise DataError(f"tuning needs at least 2 pairs to learn and 2 to be judged by, got {len(self._learnt)} and "
                            f"{len(self._held_out)} of {len(pairs)} pairs. Give more queries, or change tuning.validation_share.")
        self.steps = -(-len(self._learnt) // self.batch_size)

    def epoch(self, number: int) -> tf.data.Dataset:
        """The batches of one epoch, in an order that is a function of (seed, epoch)."""
        seed = (self._config.training.seed, number)
        return batches(self._arrays, self._learnt, batch_size=self.batch_size, seed=seed)

    def validation(self) -> tf.data.Dataset:
        """The held-out pairs."""
        # a constant shuffle: neighbours in a file are often of one query
        return batches(self._arrays, self._held_out, batch_size=self.batch_size, seed=(0,))

    def _arrays(self, rows: npt.NDArray[np.int64], rng: np.random.Generator) -> dict[str, np.ndarray]:
        query = self._pairs.query[rows]
        found = {"query_ids": self._queries[query], "item_ids": self._items[self._row[rows]], "item": self._pairs.item[rows],
                 "relevant": self._relevant[query], "weight": self._pairs.weight[rows]}
        if self._replay is not None:
            drawn = rng.integers(len(self._replay[0]), size=self._replayed)
            found |= {"replay_ids": self._replay[0][drawn], "replay_vectors": self._replay[1][drawn]}
        return found


def tune(config: Config, catalogue: Catalogue, pairs: Pairs, output: Path, *, replay: Sequence[str] | None = None) -> Tuned:
    """Tune `text.encoder` on pairs, by `text.tuning`, into the new directory `output`.

    Args:
        catalogue: whose items the pairs name.
        replay: texts whose vectors must stay where they are, with `tuning.replay`; None: those of the catalogue.

    Raises:
        UsageError: `text.tuning` is frozen.
        DataError: too few pairs.
    """
    def build(encoder: TextEncoder, peft_config: peft.PeftConfig) -> tuple[TunedModel, PairInput]:
        kept = parent_vectors(config, encoder, catalogue.texts if replay is None else replay)
        made = PairInput(encoder, pairs, catalogue.texts, config=config, replay=kept)
        return PairModel(encoder, peft_config, settings=config.tuning, seed=config.training.seed), made

    return new_encoder(config, build, output, examples=len(pairs), title="tuning")
