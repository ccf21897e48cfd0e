"""What sentence-transformers says of a checkpoint: which modules come after the encoder, and what is done to a text before it.

    modules.json  ->  Transformer, Pooling, then any of Dense and Normalize

Without modules.json there are an encoder and 1_Pooling, or the mean. A module or setting that is not computed here is refused by
name. """
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfrec.errors import ModelError
from tfrec.models.pretrained.json_files import read_json, read_objects
from tfrec.models.pretrained.prompts import Prompts, read_prompts
from tfrec.models.pretrained.weight_files import float32_array, read_arrays

log = logging.getLogger(__name__)

POOLING = {"mean": "mean", "mean_tokens": "mean", "mean_sqrt_len_tokens": "mean_sqrt_len", "cls": "cls", "cls_token": "cls"}
DENSE_ACTIVATIONS = {"Identity": "linear", "Tanh": "tanh", "ReLU": "relu", "GELU": "gelu", "Sigmoid": "sigmoid", "SiLU": "silu"}


@dataclass(frozen=True)
class Normalize:
    """Vectors of unit length."""


@dataclass(frozen=True)
class Dense:
    """y = activation(x W^T + b)."""

    directory: Path
    into: int
    out: int
    bias: bool
    activation: str

    def weights(self) -> list[np.ndarray]:
        """Kernel `[into, out]` and, where there is one, bias `[out]`.

        Raises:
            ModelError: an array is missing, or is not what the configuration says.
        """
        path = self.directory / "model.safetensors"
        if not path.is_file():
            raise ModelError(f"{self.directory}: expected model.safetensors, found none. Load the checkpoint with "
                             "sentence-transformers and save it again.")
        arrays = read_arrays(path)
        shapes: dict[str, tuple[int, ...]] = {"linear.weight": (self.out, self.into)}
        if self.bias:
            shapes["linear.bias"] = (self.out,)
        if missing := [name for name in shapes if name not in arrays]:
            raise ModelError(f"{path}: expected an array {missing[0]!r}, found none. The file is not the weights of this module.")
        kernel, *bias = (float32_array(name, arrays[name], shape, path) for name, shape in shapes.items())
        return [kernel.T, *bias]


@dataclass(frozen=True)
class SentenceModules:
    """A checkpoint as sentence-transformers would use it."""

    encoder: Path  # the directory of config.json and the weights
    pooling: str  # "mean", "mean_sqrt_len" or "cls"
    after: tuple[Dense | Normalize, ...]
    prompts: Prompts
    most_tokens: int | None
    lower_case: bool  # before the tokenizer

    def width(self, width: int) -> int:
        """Of a text's vector, for an encoder of this width."""
        return next((module.out for module in reversed(self.after) if isinstance(module, Dense)), width)


def read_modules(directory: Path) -> SentenceModules:
    """Read modules.json, the configurations that it names, and the two beside it.

    Raises:
        ModelError: one of them is broken, or says something that is not computed here.
    """
    prompts = read_prompts(directory / "config_sentence_transformers.json")
    encoder, pooling, include = directory, None, True
    after: list[Dense | Normalize] = []
    if (listing := directory / "modules.json").is_file():
        for module in read_objects(listing):
            kind, path = str(module.get("type", "")).rsplit(".", 1)[-1], directory / str(module.get("path", ""))
            if kind == "Transformer" and pooling is None:
                encoder = path
            elif kind == "Pooling" and pooling is None:
                pooling, include = _pooling(path / "config.json")
            elif kind == "Dense" and pooling is not None:
                after.append(_dense(path))
            elif kind == "Normalize" and pooling is not None:
                after.append(Normalize())
            elif kind != "Dropout":
                raise ModelError(f"{listing}: expected Transformer, Pooling, and then Dense or Normalize, got "
                                 f"{module.get('type')!r}, which is not computed here. Choose another checkpoint.")
        if pooling is None:
            raise ModelError(f"{listing}: expected a module Pooling, got none. Choose another checkpoint.")
    elif (directory / "1_Pooling" / "config.json").is_file():
        pooling, include = _pooling(directory / "1_Pooling" / "config.json")
    if not include and (prompts.query or prompts.item):
        raise ModelError(f"{directory}: include_prompt is false, so that prompts are read and left out of the mean, which is not "
                         "computed here. Choose another checkpoint.")
    said = _beside(directory, encoder)
    return SentenceModules(encoder, pooling or "mean", tuple(after), prompts, *said)


def _beside(directory: Path, encoder: Path) -> tuple[int | None, bool]:
    """The limit of tokens and whether texts are lower-cased, of sentence_bert_config.json; and a word on what is not used."""
    whole = directory / "config_sentence_transformers.json"
    if whole.is_file() and (similarity := read_json(whole).get("similarity_fn_name")) not in ("cosine", None):
        log.warning("%s: vectors were trained for similarity %r. Here they have unit length: their lengths are not used.",
                    whole, similarity)
    path = encoder / "sentence_bert_config.json"
    said = read_json(path) if path.is_file() else {}
    most, lower_case = said.get("max_seq_length"), said.get("do_lower_case", False)
    if not (most is None or (isinstance(most, int) and not isinstance(most, bool) and most > 2)):
        raise ModelError(f"{path}: expected max_seq_length to be a whole number above 2, got {most!r}.")
    if not isinstance(lower_case, bool):
        raise ModelError(f"{path}: expected do_lower_case to be true or false, got {lower_case!r}.")
    return most, lower_case


def _pooling(path: Path) -> tuple[str, bool]:
    """How tokens become a vector, and whether those of a prompt count; in the spelling of sentence-transformers 5.4, or
    before."""
    said = read_json(path)
    chosen = said.get("pooling_mode")
    if chosen is None:
        chosen = [key.removeprefix("pooling_mode_") for key, on in said.items() if key.startswith("pooling_mode_") and on is True]
    chosen = [chosen] if isinstance(chosen, str) else chosen
    if not isinstance(chosen, list) or len(chosen) != 1 or chosen[0] not in POOLING:
        named = ", ".join(map(str, chosen)) if isinstance(chosen, list) else repr(chosen)
        raise ModelError(f"{path}: expected pooling by one of {', '.join(POOLING)}, got {named or 'none'}. "
                         "Choose another checkpoint.")
    return POOLING[chosen[0]], said.get("include_prompt", True) is not False


def _dense(directory: Path) -> Dense:
    path = directory / "config.json"
    said = read_json(path)
    activation = str(said.get("activation_function", "torch.nn.modules.activation.Tanh"))
    known = activation.startswith("torch.nn.") and activation.rsplit(".", 1)[-1] in DENSE_ACTIVATIONS
    if not known:
        raise ModelError(f"{path}: expected activation_function to be torch's {', '.join(DENSE_ACTIVATIONS)}, "
                         f"got {activation!r}.")
    _only(path, said, "module_input_name", "sentence_embedding")
    _only(path, said, "module_output_name", "sentence_embedding")
    _only(path, said, "use_residual", False)
    for key in ("in_features", "out_features"):
        if not isinstance(said.get(key), int) or said[key] < 1:
            raise ModelError(f"{path}: expected {key} to be a whole number above 0, got {said.get(key)!r}.")
    return Dense(directory, said["in_features"], said["out_features"], said.get("bias", True) is not False,
                 DENSE_ACTIVATIONS[activation.rsplit(".", 1)[-1]])


def _only(path: Path, said: dict[str, Any], key: str, value: object) -> None:
    if said.get(key) not in (None, value):
        raise ModelError(f"{path}: expected {key} {value!r}, got {said[key]!r}, which is not computed here. "
                         "Choose another checkpoint.")
