"""Tuning of the text encoder on pairs of a query and an item that answers it; `tune` writes a directory with a new encoder.

It also fits what the words of each text field count beside the vectors of the new encoder, and writes that into the directory.

Tuning is a step of its own before `train`, since a changed encoder means that every item is encoded anew; `joint.py` does both
at once. Afterwards `text.encoder` names the directory, and training, export and serving are as before. The other items of a batch
are the negatives of a query (`contrastive.py`).
"""
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrec.config import Config
from tfrec.data.examples.pairs import Pairs
from tfrec.data.items.catalogue import Catalogue
from tfrec.errors import DataError
from tfrec.models.bert.peft_config import PeftConfig
from tfrec.models.dropout import Noise
from tfrec.models.lexical.lexicon import FIELDS_FILE
from tfrec.models.recommender import with_encoder
from tfrec.models.text_encoder import TextEncoder
from tfrec.training.encoder.augmentation import drop_tokens, mask_spans
from tfrec.training.encoder.contrastive import contrastive_loss, cosine_distance, right_answers
from tfrec.training.encoder.example_batches import ExampleBatches, multiple_of_replicas, token_ids
from tfrec.training.encoder.field_weights import fit_field_weights
from tfrec.training.encoder.new_encoder import Tuned, new_encoder, parent_vectors
from tfrec.training.encoder.tuned_model import Batch, TunedModel

RELEVANT = 64  # right answers of a query that are known not to be its negatives, at most
REPLAYED = 0.25  # replayed texts in a step, for each pair


class PairModel(TunedModel):
    """Learns that the vector of a query is near that of its item, and that replayed texts keep the vectors of the parent."""

    def encoder_inputs(self, batch: Batch, noise: Noise | None) -> tuple[list[tf.Tensor], Batch]:
        """Queries and items, augmented in training; in training also the replayed texts, as they are."""
        ids = [self._augmented(batch["query_ids"], noise), self._augmented(batch["item_ids"], noise)]
        return [*ids, batch["replay_ids"]] if noise is not None and "replay_ids" in batch else ids, batch

    def batch_loss(self, batch: Batch, ids: list[tf.Tensor], states: list[tf.Tensor], *, training: bool) -> tf.Tensor:
        """The mean contrastive loss by weight, and `tuning.replay` times the cosine distance of replayed texts."""
        queries, items, *replayed = (self.encoder.pool_states(s, i) for s, i in zip(states, ids, strict=True))
        right = right_answers(batch["relevant"], batch["item"])
        each = contrastive_loss(queries, items, right, temperature=self.settings.temperature)
        loss = tf.math.divide_no_nan(tf.reduce_sum(each * batch["weight"]), tf.reduce_sum(batch["weight"]))
        for vectors in replayed:
            loss += self.settings.replay * cosine_distance(vectors, batch["replay_vectors"])
        return loss

    def _augmented(self, ids: tf.Tensor, noise: Noise | None) -> tf.Tensor:
        if noise is None:
            return ids
        tokenizer = self.encoder.tokenizer
        if self.settings.token_dropout:
            ids = drop_tokens(ids, self.settings.token_dropout, noise, tokenizer)
        return mask_spans(ids, self.settings.span_masking, noise, tokenizer) if self.settings.span_masking else ids


def pair_batches(encoder: TextEncoder, pairs: Pairs, texts: Sequence[str], *, config: Config,
                 replay: Sequence[str] | None = None) -> ExampleBatches:
    """Return batches of pairs as token ids. Call it before the encoder is changed: it reads the vectors to replay.

    Args:
        encoder: the parent.
        pairs: their items are positions in `texts`.
        texts: of the items.
        config: its `tuning` section has sizes and shares.
        replay: texts that keep their vectors, if `tuning.replay` is on; by default `texts`.

    Raises:
        DataError: there are too few pairs.
    """
    used, row_of_pair = np.unique(pairs.item, return_inverse=True)
    item_ids = token_ids(encoder, [texts[i] for i in used], role="item")
    query_ids = token_ids(encoder, pairs.queries, role="query")
    position = {text: n for n, text in enumerate(texts)}  # an item whose text is the query itself is no wrong answer
    same_text = np.array([position.get(query, -1) for query in pairs.queries], np.int32)
    relevant = np.concatenate([pairs.relevant(most=RELEVANT), same_text[:, None]], axis=1)
    replay = texts if replay is None else replay
    replay_vectors = parent_vectors(config, encoder, replay)
    replay_ids = None if replay_vectors is None else token_ids(encoder, replay, role="item")
    batch_size = multiple_of_replicas(config.tuning.batch_size)
    replayed = multiple_of_replicas(int(REPLAYED * batch_size))
    is_held_out = pairs.held_out(config.tuning.validation_share)
    training, held_out = np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
    if len(held_out) < 2 or len(training) < 2:
        raise DataError(f"tuning needs at least 2 pairs to learn and 2 to validate, got {len(training)} and {len(held_out)} of "
                        f"{len(pairs)} pairs. Give more queries, or change tuning.validation_share.")

    def arrays(rows: npt.NDArray[np.int64], rng: np.random.Generator) -> dict[str, np.ndarray]:
        query = pairs.query[rows]
        batch = {"query_ids": query_ids[query], "item_ids": item_ids[row_of_pair[rows]], "item": pairs.item[rows],
                 "relevant": relevant[query], "weight": pairs.weight[rows]}
        if replay_ids is not None and replay_vectors is not None:
            drawn = rng.integers(len(replay_ids), size=replayed)
            batch |= {"replay_ids": replay_ids[drawn], "replay_vectors": replay_vectors[drawn]}
        return batch

    return ExampleBatches(arrays, training=training, held_out=held_out, batch_size=batch_size, seed=config.training.seed)


def tune(config: Config, catalogue: Catalogue, pairs: Pairs, output: Path, *, replay: Sequence[str] | None = None) -> Tuned:
    """Tune `text.encoder` on pairs by the method `text.tuning`.

    Args:
        config: of the run.
        catalogue: the items that the pairs name.
        pairs: queries with items that answer them.
        output: directory of the new encoder; it must not exist.
        replay: texts that keep their vectors, if `tuning.replay` is on; by default those of the catalogue.

    Raises:
        UsageError: `text.tuning` is frozen, or `output` exists.
        DataError: there are too few pairs.
    """
    def build(encoder: TextEncoder, peft_config: PeftConfig) -> tuple[TunedModel, ExampleBatches]:
        batches = pair_batches(encoder, pairs, catalogue.texts, config=config, replay=replay)
        return PairModel(encoder, peft_config, settings=config.tuning, seed=config.training.seed), batches

    def fit_words(made: Path) -> None:
        held_out = pairs.take(pairs.held_out(config.tuning.validation_share))
        weights = fit_field_weights(with_encoder(config, str(made)), catalogue, held_out)
        if weights:
            (made / FIELDS_FILE).write_text(json.dumps(weights, indent=2) + "\n", encoding="utf-8")

    return new_encoder(config, build, output, examples=len(pairs), title="tuning", finish=fit_words)
