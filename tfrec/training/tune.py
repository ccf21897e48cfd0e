"""Tuning the text encoder on pairs: texts with the items that answer them in, a directory with a new encoder out.

It is a step of its own, not a part of `train`: a moved encoder means that every item is read anew. `text.encoder` then names the
directory, and training, export and serving are as before. Other items of the batch are a query's negatives (`contrastive.py`).
"""
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrec.config import Config
from tfrec.data.catalogue import Catalogue
from tfrec.data.pairs import Pairs
from tfrec.errors import DataError, UsageError
from tfrec.models import adapters
from tfrec.models.bert_files import write_encoder
from tfrec.models.noise import Noise
from tfrec.models.text_encoder import STEP, TextEncoder
from tfrec.training import tuning_loop
from tfrec.training.augmentation import drop_tokens, mask_spans
from tfrec.training.contrastive import contrastive_loss, right_answers
from tfrec.training.devices import choose_strategy, describe
from tfrec.training.progress import bar
from tfrec.training.tuned_model import Batch, TunedModel

log = logging.getLogger(__name__)

RELEVANT = 64  # right answers of a query that are known not to be its negatives, at most
REPLAYED = 0.25  # texts of the parent's that are replayed in a step, for each pair


@dataclass(frozen=True)
class Tuned:
    """A new encoder, and what it took."""

    encoder: Path
    tuning: str
    trained_parameters: int
    parameters: int  # of the whole encoder
    trained_share: float
    examples: int  # pairs or texts
    epochs: int  # whose weights were kept
    steps: int
    held_out_loss_before: float
    held_out_loss: float
    seconds: float


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


def token_ids(encoder: TextEncoder, texts: Sequence[str]) -> npt.NDArray[np.int32]:
    """`[len(texts), tokens]`, as wide as the longest text, in steps that keep shapes few."""
    ids: npt.NDArray[np.int32] = encoder.tokenizer(tf.constant(texts, tf.string, [len(texts)]), pad_to_max=True).numpy()
    longest = int((ids != encoder.tokenizer.pad).sum(1).max(initial=2))
    return ids[:, : min(-(-longest // STEP) * STEP, ids.shape[1])]


def change_of(config: Config, encoder: TextEncoder) -> adapters.Change:
    """What the configuration asks to be trained of this encoder.

    Raises:
        UsageError: nothing would be trained.
    """
    way = config.text.tuning
    if way == "frozen":
        raise UsageError("text.tuning is frozen: nothing would be trained. Choose prefix, adapters, lora, top or full: "
                         "--set text.tuning=lora.")
    first = adapters.first_layer(way, config.tuning.layers, of=len(encoder.bert.blocks))
    if way == "full" and first:
        raise UsageError(f"text.tuning is full, which tunes every layer, but tuning.layers is {config.tuning.layers}. For the "
                         "topmost layers alone: --set text.tuning=top.")
    return adapters.Change(way, config.tuning.rank or adapters.RANKS.get(way, 0), first)


def batches(arrays: Callable[[npt.NDArray[np.int64], np.random.Generator], dict[str, np.ndarray]], order: npt.NDArray[np.int64],
            *, batch_size: int, seed: Sequence[int], shuffle: bool = True) -> tf.data.Dataset:
    """Batches of one shape, of the rows in `order`; the last is filled up with rows of weight 0.

    Args:
        arrays: the arrays of some rows, among them `weight`.
    """
    def each() -> Iterator[dict[str, np.ndarray]]:
        rng = np.random.default_rng(list(seed))
        rows = rng.permutation(order) if shuffle else order
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            batch = arrays(np.resize(part, batch_size), rng)
            batch["weight"] = np.where(np.arange(batch_size) < len(part), batch["weight"], 0).astype(np.float32)
            yield batch

    signature = {name: tf.TensorSpec(array.shape, array.dtype)
                 for name, array in arrays(np.resize(order, batch_size), np.random.default_rng(0)).items()}
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    data = tf.data.Dataset.from_generator(each, output_signature=signature)
    return data.apply(tf.data.experimental.assert_cardinality(-(-len(order) // batch_size))).prefetch(2).with_options(options)


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
        self._items = token_ids(encoder, [texts[i] for i in used])
        self._queries = token_ids(encoder, pairs.queries)
        place = {text: n for n, text in enumerate(texts)}  # where an item's text is the query, that item is no wrong answer
        own = np.array([place.get(query, -1) for query in pairs.queries], np.int32)
        self._relevant = np.concatenate([pairs.relevant(most=RELEVANT), own[:, None]], axis=1)
        self._replay = None if replay is None else (token_ids(encoder, replay[0]), replay[1])
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
    def build(encoder: TextEncoder, change: adapters.Change) -> tuple[TunedModel, PairInput]:
        kept = parent_vectors(config, encoder, catalogue.texts if replay is None else replay)
        made = PairInput(encoder, pairs, catalogue.texts, config=config, replay=kept)
        return PairModel(encoder, change, settings=config.tuning, seed=config.training.seed), made

    return new_encoder(config, build, output, examples=len(pairs), title="tuning")


def parent_vectors(config: Config, encoder: TextEncoder,
                   texts: Sequence[str]) -> tuple[Sequence[str], npt.NDArray[np.float32]] | None:
    """Texts and their vectors before tuning, where `tuning.replay` asks for them."""
    if not config.tuning.replay:
        return None
    with bar("reading texts to keep", total=len(texts)) as advance:
        return texts, encoder.encode(texts, batch_size=config.text.batch_size, advance=advance)


def new_encoder(config: Config, build: Callable[[TextEncoder, adapters.Change], tuple[TunedModel, Any]], output: Path, *,
                examples: int, title: str, prepare: Callable[[TunedModel, Any], None] | None = None) -> Tuned:
    """Load the parent, tune it by the model and the input that `build` makes, write what comes of it.

    Args:
        prepare: called with both before the epochs.
    """
    began = time.monotonic()
    strategy = choose_strategy()
    with strategy.scope():
        encoder = TextEncoder(config.text.encoder, max_tokens=config.text.max_tokens)
        parameters = sum(int(np.prod(weight.shape)) for weight in encoder.bert.weights)
        change = change_of(config, encoder)
        model, data = build(encoder, change)
        trained = model.changed.parameters
        log.info("%s on %s: %s trains %s of %s parameters (%.2f%%); %d examples, %d steps an epoch", title, describe(strategy),
                 change.way, f"{trained:,}", f"{parameters:,}", 100 * trained / parameters, examples, data.steps)
        if prepare is not None:
            prepare(model, data)
        course = tuning_loop.run(model, data.epoch, data.validation(), config, steps=data.steps, title=title)
    said = {"by": title, "parent": config.text.encoder, "trained_parameters": trained,
            "held_out_loss": course.losses, "text": config.text.model_dump(mode="json"),
            "tuning": config.tuning.model_dump(mode="json")}
    write_encoder(encoder.bert, encoder.files, output, changed=model.changed, said=said)
    return Tuned(output, change.way, trained, parameters, trained / parameters, examples, course.best, course.steps,
                 course.losses[0], min(course.losses), time.monotonic() - began)
