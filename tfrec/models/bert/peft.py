"""Tuning of BERT by few parameters (PEFT): which layers a method changes, and which variables are trained.

LoRA, adapters and prefixes add layers (`peft_layers.py`). The methods `top` and `full` train the plain weights of the topmost
layers, or of all layers and the embeddings. LoRA ends as plain weights (`W + s A B`). Adapters and prefixes stay: their variables
are saved beside BERT's under the names in `TunedParameters.added`, and config.json has their `PeftConfig`.
"""
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfrec.errors import ModelError
from tfrec.models.bert.bert import Bert, BertLayer
from tfrec.models.bert.peft_config import RANKS, UNMERGEABLE, PeftConfig
from tfrec.models.bert.peft_layers import Adapted, LowRank, Prefix

DENSE_LAYERS = ("qkv", "attention_output", "intermediate", "output_dense")  # of a `BertLayer`
ADAPTED_LAYERS = ("attention_output", "output_dense")


@dataclass(frozen=True)
class TunedParameters:
    """The variables to train in a BERT, and those that the PEFT method has added, by their names in a checkpoint."""

    peft_config: PeftConfig
    trained: list[tf.Variable]
    added: dict[str, tf.Variable]

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return sum(int(np.prod(variable.shape)) for variable in self.trained)


def apply(bert: Bert, peft_config: PeftConfig) -> TunedParameters:
    """Add the layers of a PEFT method to `bert`, in place, and return what to train.

    A BERT that has adapters or a prefix already keeps them, and their training goes on.

    Raises:
        ModelError: `bert` has adapters or a prefix of another configuration. They can neither be merged, nor trained beside new
            ones.
    """
    present = bert.peft_config
    if present is not None and present != peft_config:
        raise ModelError(f"The encoder has {present}, which cannot be merged into its weights, and was to be tuned by "
                         f"{peft_config}. Choose the same method and sizes, or tune the encoder that it was made from.")
    first, blocks = peft_config.first, bert.blocks[peft_config.first :]
    if present is None and peft_config.method in RANKS:
        for block in blocks:
            _add_layers(block, peft_config)
        if peft_config.method in UNMERGEABLE:
            bert.peft_config = peft_config
    added = {f"tfrec.layer.{first + i}.{name}": variable
             for i, block in enumerate(blocks) for name, variable in _added_variables(block)}
    if peft_config.method == "full":
        return TunedParameters(peft_config, list(bert.trainable_weights), added)
    if peft_config.method == "top":
        return TunedParameters(peft_config, [variable for block in blocks for variable in block.trainable_weights], added)
    trained = list(added.values())
    if peft_config.method == "adapters":  # the paper trains the layer norms with them
        trained += [v for block in blocks for norm in (block.attention_norm, block.output_norm) for v in norm.trainable_weights]
    return TunedParameters(peft_config, trained, added)


def merge(bert: Bert) -> None:
    """Turn low-rank matrices into plain weights, in place."""
    for block in bert.blocks:
        for name in DENSE_LAYERS:
            if isinstance(layer := getattr(block, name), LowRank):
                setattr(block, name, layer.merged())


def plain(layer: tf.keras.layers.Layer) -> tf.keras.layers.Dense:
    """Return the dense layer itself, without its adapter."""
    return layer.dense if isinstance(layer, Adapted) else layer


def _add_layers(block: BertLayer, peft_config: PeftConfig) -> None:
    if peft_config.method == "prefix":
        block.prefix = Prefix(length=peft_config.rank, heads=block.heads, size=block.width // block.heads, name="prefix")
    elif peft_config.method == "lora":
        for name in DENSE_LAYERS:
            setattr(block, name, LowRank(getattr(block, name), peft_config.rank, name=f"{name}_low_rank"))
    else:
        for name in ADAPTED_LAYERS:
            setattr(block, name, Adapted(getattr(block, name), peft_config.rank, name=f"{name}_adapted"))


def _added_variables(block: BertLayer) -> Iterator[tuple[str, tf.Variable]]:
    """The variables that a PEFT method has added to a layer, by name. Checkpoints use the names, so they must not change."""
    if block.prefix is not None:
        yield from ((f"prefix.{name}", getattr(block.prefix, name)) for name in ("keys", "values", "logits"))
    for name in DENSE_LAYERS:
        layer = getattr(block, name)
        if isinstance(layer, LowRank):
            yield from ((f"{name}.a", layer.a), (f"{name}.b", layer.b))
        elif isinstance(layer, Adapted):
            for part, dense in (("down", layer.down), ("up", layer.up)):
                yield from ((f"{name}.{part}.kernel", dense.kernel), (f"{name}.{part}.bias", dense.bias))
