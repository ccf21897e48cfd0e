"""The names of the arrays in a checkpoint, by family, for each layer of `Bert`. Reading and writing share this list.

PyTorch stores a matrix as `[out, in]`, Keras as `[in, out]`. Queries, keys and values are three arrays in PyTorch and one here.
"""
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfrec.models.bert.bert import Bert
from tfrec.models.bert.peft import plain


@dataclass(frozen=True)
class FamilyNames:
    """The prefix of a family's layers, and the names of their parts."""

    layers: str
    qkv: tuple[str, str, str]
    attention_output: str
    attention_norm: str
    intermediate: str
    output: str
    output_norm: str


BERT = FamilyNames("encoder.layer", ("attention.self.query", "attention.self.key", "attention.self.value"),
                   "attention.output.dense", "attention.output.LayerNorm", "intermediate.dense", "output.dense",
                   "output.LayerNorm")
DISTILBERT = FamilyNames("transformer.layer", ("attention.q_lin", "attention.k_lin", "attention.v_lin"), "attention.out_lin",
                   "sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm")
NAMES = {"bert": BERT, "distilbert": DISTILBERT, "xlm-roberta": BERT}

TABLE, DENSE, NORM = "table", "dense", "norm"
SEGMENTS = "embeddings.token_type_embeddings"
UNUSED = ("embeddings.position_ids", "embeddings.token_type_ids")  # buffers that older versions of transformers saved


def named_layers(bert: Bert, family: str) -> Iterator[tuple[Any, str, tuple[str, ...]]]:
    """Yield each layer of `bert`, its kind, and the names of its arrays in a checkpoint, without `.weight`."""
    names = NAMES[family]
    yield bert.words, TABLE, ("embeddings.word_embeddings",)
    yield bert.positions, TABLE, ("embeddings.position_embeddings",)
    yield bert.norm, NORM, ("embeddings.LayerNorm",)
    for i, block in enumerate(bert.blocks):
        prefix = f"{names.layers}.{i}."
        yield block.qkv, DENSE, tuple(prefix + name for name in names.qkv)
        yield plain(block.attention_output), DENSE, (prefix + names.attention_output,)
        yield block.attention_norm, NORM, (prefix + names.attention_norm,)
        yield block.intermediate, DENSE, (prefix + names.intermediate,)
        yield plain(block.output_dense), DENSE, (prefix + names.output,)
        yield block.output_norm, NORM, (prefix + names.output_norm,)


def arrays(bert: Bert, family: str) -> dict[str, np.ndarray]:
    """Return the plain weights, except segment embeddings, by their names in a checkpoint of the family."""
    found: dict[str, np.ndarray] = {}
    for layer, kind, names in named_layers(bert, family):
        weights = layer.get_weights()
        if kind == DENSE:
            parts = zip(names, *(np.split(array, len(names), axis=-1) for array in weights), strict=True)
            for name, kernel, bias in parts:
                found[f"{name}.weight"], found[f"{name}.bias"] = np.ascontiguousarray(kernel.T), np.ascontiguousarray(bias)
        else:
            found |= {f"{names[0]}.{part}": array for part, array in zip(("weight", "bias"), weights, strict=False)}
    return found
