"""The steps that `tune` and `pretrain` share: load the parent encoder, train a part of it, and write the new encoder."""
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tfrec import terminal
from tfrec.config import Config
from tfrec.errors import UsageError
from tfrec.models.bert.bert_files import write_encoder
from tfrec.models.bert.peft_config import RANKS, PeftConfig, first_layer
from tfrec.models.text_encoder import TextEncoder
from tfrec.training.devices import choose_strategy, describe
from tfrec.training.encoder import tuning_loop
from tfrec.training.encoder.example_batches import ExampleBatches
from tfrec.training.encoder.tuned_model import TunedModel
from tfrec.training.progress import bar

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tuned:
    """A new encoder, and what it took to make it."""

    encoder: Path
    tuning: str
    trained_parameters: int
    parameters: int  # of the whole encoder
    trained_share: float
    examples: int  # pairs or texts
    epochs: int  # after which the weights were the best; 0: before the first
    steps: int
    held_out_loss_before: float
    held_out_loss: float
    seconds: float


def peft_config_of(config: Config, encoder: TextEncoder) -> PeftConfig:
    """Return the PEFT method that the configuration asks for, with the sizes and layers for this encoder.

    Raises:
        UsageError: nothing would be trained, or the settings contradict one another.
    """
    method = config.text.tuning
    if method == "frozen":
        raise UsageError("text.tuning is frozen: nothing would be trained. Choose prefix, adapters, lora, top or full: "
                         "--set text.tuning=lora.")
    first = first_layer(method, config.tuning.layers, layers=len(encoder.bert.blocks))
    if method == "full" and first:
        raise UsageError(f"text.tuning is full, which tunes every layer, but tuning.layers is {config.tuning.layers}. For the "
                         "topmost layers alone: --set text.tuning=top.")
    return PeftConfig(method, config.tuning.rank or RANKS.get(method, 0), first)


def parent_vectors(config: Config, encoder: TextEncoder, texts: Sequence[str]) -> npt.NDArray[np.float32] | None:
    """Return the vectors of `texts` before tuning, `[len(texts), width]`; None where `tuning.replay` is off."""
    if not config.tuning.replay:
        return None
    with bar("reading texts to replay", total=len(texts)) as advance:
        return encoder.encode(texts, role="item", batch_size=config.text.batch_size, advance=advance)


def new_encoder(config: Config, build: Callable[[TextEncoder, PeftConfig], tuple[TunedModel, ExampleBatches]], output: Path, *,
                examples: int, title: str, finish: Callable[[Path], None] | None = None) -> Tuned:
    """Tune `text.encoder` and write the new encoder.

    Args:
        config: names the encoder and the PEFT method, and holds the settings of tuning.
        build: makes the model to train and its batches, in the scope of the strategy.
        output: directory of the new encoder.
        examples: their number, for the log and the result.
        title: what is done, for people.
        finish: may add files to the directory that it is given, in which the encoder is complete, before `output` appears.

    Raises:
        UsageError: `output` exists or cannot be written, which is checked before any work; or nothing would be trained.
    """
    began = time.monotonic()
    terminal.new_file(output)
    strategy = choose_strategy(config.training.device)
    with strategy.scope():
        encoder = TextEncoder(config.text.encoder, max_tokens=config.text.max_tokens, query_prompt=config.text.query_prompt,
                              item_prompt=config.text.item_prompt)
        parameters = sum(int(np.prod(weight.shape)) for weight in encoder.bert.weights)
        peft_config = peft_config_of(config, encoder)
        model, batches = build(encoder, peft_config)
        trained = model.tuned.parameters
        log.info("%s on %s: %s trains %s of %s parameters (%.2f%%); %d examples, %d steps an epoch", title, describe(strategy),
                 peft_config.method, f"{trained:,}", f"{parameters:,}", 100 * trained / parameters, examples, batches.steps)
        result = tuning_loop.run(model, batches, config, title=title)
    provenance = {"by": title, "parent": config.text.encoder, "trained_parameters": trained, "held_out_loss": result.losses,
                  "text": config.text.model_dump(mode="json"), "tuning": config.tuning.model_dump(mode="json")}
    write_encoder(encoder.bert, encoder.files, output, tuned=model.tuned, provenance=provenance, finish=finish)
    return Tuned(output, peft_config.method, trained, parameters, trained / parameters, examples, result.best, result.steps,
                 result.losses[0], result.losses[result.best], time.monotonic() - began)
