"""What `tune` and `pretrain` share: the parent loaded, a part of it trained, and the new encoder written into a directory.

Inputs are batches of token ids of one shape, in an order that is a function of the seed.
"""
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrec import terminal
from tfrec.config import Config
from tfrec.errors import UsageError
from tfrec.models.bert import peft
from tfrec.models.bert.bert_files import write_encoder
from tfrec.models.pretrained.prompts import Role
from tfrec.models.text_encoder import STEP, TextEncoder
from tfrec.training.devices import choose_strategy, describe
from tfrec.training.encoder import tuning_loop
from tfrec.training.encoder.tuned_model import TunedModel
from tfrec.training.generated_dataset import dataset
from tfrec.training.progress import bar

log = logging.getLogger(__name__)


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


def token_ids(encoder: TextEncoder, texts: Sequence[str], *, role: Role) -> npt.NDArray[np.int32]:
    """`[len(texts), tokens]`, as wide as the longest text, in steps that keep shapes few."""
    ids: npt.NDArray[np.int32] = encoder.token_ids(texts, role=role)
    longest = int((ids != encoder.tokenizer.pad).sum(1).max(initial=2))
    return ids[:, : min(-(-longest // STEP) * STEP, ids.shape[1])]


def peft_config_of(config: Config, encoder: TextEncoder) -> peft.PeftConfig:
    """What the configuration asks to be trained of this encoder.

    Raises:
        UsageError: nothing would be trained.
    """
    method = config.text.tuning
    if method == "frozen":
        raise UsageError("text.tuning is frozen: nothing would be trained. Choose prefix, adapters, lora, top or full: "
                         "--set text.tuning=lora.")
    first = peft.first_layer(method, config.tuning.layers, of=len(encoder.bert.blocks))
    if method == "full" and first:
        raise UsageError(f"text.tuning is full, which tunes every layer, but tuning.layers is {config.tuning.layers}. For the "
                         "topmost layers alone: --set text.tuning=top.")
    return peft.PeftConfig(method, config.tuning.rank or peft.RANKS.get(method, 0), first)


def batches(arrays: Callable[[npt.NDArray[np.int64], np.random.Generator], dict[str, np.ndarray]], order: npt.NDArray[np.int64],
            *, batch_size: int, seed: Sequence[int]) -> tf.data.Dataset:
    """Batches of one shape, of the rows in `order`; the last is filled up with rows of weight 0.

    Args:
        arrays: the arrays of some rows, among them `weight`.
    """
    rows = np.random.default_rng(list(seed)).permutation(order)

    def batch(step: int) -> dict[str, np.ndarray]:
        part = rows[step * batch_size : (step + 1) * batch_size]
        made = arrays(np.resize(part, batch_size), np.random.default_rng([*seed, step]))
        return made | {"weight": np.where(np.arange(batch_size) < len(part), made["weight"], 0).astype(np.float32)}

    signature = {name: tf.TensorSpec(array.shape, array.dtype)
                 for name, array in arrays(np.resize(order, batch_size), np.random.default_rng(0)).items()}
    return dataset(batch, signature, steps=-(-len(order) // batch_size))


def parent_vectors(config: Config, encoder: TextEncoder,
                   texts: Sequence[str]) -> tuple[Sequence[str], npt.NDArray[np.float32]] | None:
    """Texts and their vectors before tuning, where `tuning.replay` asks for them."""
    if not config.tuning.replay:
        return None
    with bar("reading texts to keep", total=len(texts)) as advance:
        return texts, encoder.encode(texts, role="item", batch_size=config.text.batch_size, advance=advance)


def new_encoder(config: Config, build: Callable[[TextEncoder, peft.PeftConfig], tuple[TunedModel, Any]], output: Path, *,
                examples: int, title: str, prepare: Callable[[TunedModel, Any], None] | None = None) -> Tuned:
    """Load the parent, tune it by the model and the input that `build` makes, write what comes of it.

    Args:
        prepare: called with both before the epochs.

    Raises:
        UsageError: `output` exists or cannot be written, which is found before any work; or nothing would be trained.
    """
    began = time.monotonic()
    terminal.new_file(output)
    strategy = choose_strategy(config.training.device)
    with strategy.scope():
        encoder = TextEncoder(config.text.encoder, max_tokens=config.text.max_tokens, query_prompt=config.text.query_prompt,
                              item_prompt=config.text.item_prompt)
        parameters = sum(int(np.prod(weight.shape)) for weight in encoder.bert.weights)
        peft_config = peft_config_of(config, encoder)
        model, data = build(encoder, peft_config)
        trained = model.tuned.parameters
        log.info("%s on %s: %s trains %s of %s parameters (%.2f%%); %d examples, %d steps an epoch", title, describe(strategy),
                 peft_config.method, f"{trained:,}", f"{parameters:,}", 100 * trained / parameters, examples, data.steps)
        if prepare is not None:
            prepare(model, data)
        course = tuning_loop.run(model, data.epoch, data.validation(), config, steps=data.steps, title=title)
    said = {"by": title, "parent": config.text.encoder, "trained_parameters": trained,
            "held_out_loss": course.losses, "text": config.text.model_dump(mode="json"),
            "tuning": config.tuning.model_dump(mode="json")}
    write_encoder(encoder.bert, encoder.files, output, tuned=model.tuned, said=said)
    return Tuned(output, peft_config.method, trained, parameters, trained / parameters, examples, course.best, course.steps,
                 course.losses[0], min(course.losses), time.monotonic() - began)
