"""The modules of a sentence-transformers checkpoint: what comes after the encoder, and what is done to a text before it.

    modules.json  ->  Transformer, Pooling, then any of Dense and Normalize

Without modules.json, an encoder is followed by the pooling in 1_Pooling, or by the mean. A module or setting that is not
supported is refused by name.
"""
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
    """Scales a vector to unit length."""


@dataclass(frozen=True)
class Dense:
    """Computes y = activation(x W^T + b)."""

    directory: Path
    into: int
    out: int
    bias: bool
    activation: str

    def weights(self) -> list[np.ndarray]:
        """Read the kernel `[into, out]` and, if there is one, the bias `[out]`.

        Raises:
            ModelError: an array is missing, or has another shape than the configuration says.
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
    """What sentence-transformers does with an encoder."""

    encoder: Path  # the directory with config.json and the weights
    pooling: str  # "mean", "mean_sqrt_len" or "cls"
    post_pooling: tuple[Dense | Normalize, ...]
    prompts: Prompts
    max_tokens: int | None  # None: no limit
    lower_case: bool  # whether texts are lower-cased before the tokenizer

    def width(self, width: int) -> int:
        """Return the width of a text's vector, given the width of the encoder."""
        return next((module.out for module in reversed(self.post_pooling) if isinstance(module, Dense)), width)


def read_modules(directory: Path) -> SentenceModules:
    """Read modules.json and the configurations that belong to it.

    Raises:
        ModelError: a file is broken, or has a module or a setting that is not supported.
    """
    prompts = read_prompts(directory / "config_sentence_transformers.json")
    encoder, pooling, include_prompt = directory, None, True
    post_pooling: list[Dense | Normalize] = []
    if (listing := directory / "modules.json").is_file():
        for module in read_objects(listing):
            kind, path = str(module.get("type", "")).rsplit(".", 1)[-1], directory / str(module.get("path", ""))
            if kind == "Transformer" and pooling is None:
                encoder = path
            elif kind == "Pooling" and pooling is None:
                pooling, include_prompt = _read_pooling(path / "config.json")
            elif kind == "Dense" and pooling is not None:
                post_pooling.append(_read_dense(path))
            elif kind == "Normalize" and pooling is not None:
                post_pooling.append(Normalize())
            elif kind != "Dropout":
                raise ModelError(f"{listing}: expected Transformer, Pooling, and then Dense or Normalize, got "
                                 f"{module.get('type')!r}, which is not supported. Choose another checkpoint.")
        if pooling is None:
            raise ModelError(f"{listing}: expected a module Pooling, got none. Choose another checkpoint.")
    elif (directory / "1_Pooling" / "config.json").is_file():
        pooling, include_prompt = _read_pooling(directory / "1_Pooling" / "config.json")
    if not include_prompt and (prompts.query or prompts.item):
        raise ModelError(f"{directory}: include_prompt is false: prompts are encoded but left out of the mean, which is not "
                         "supported. Choose another checkpoint.")
    _warn_of_unused_similarity(directory)
    max_tokens, lower_case = _read_text_settings(encoder)
    return SentenceModules(encoder, pooling or "mean", tuple(post_pooling), prompts, max_tokens, lower_case)


def _warn_of_unused_similarity(directory: Path) -> None:
    path = directory / "config_sentence_transformers.json"
    if path.is_file() and (similarity := read_json(path).get("similarity_fn_name")) not in ("cosine", None):
        log.warning("%s: vectors were trained for similarity %r. Here they have unit length: their lengths are not used.",
                    path, similarity)


def _read_text_settings(encoder: Path) -> tuple[int | None, bool]:
    """The limit of tokens, and whether texts are lower-cased, in sentence_bert_config.json."""
    path = encoder / "sentence_bert_config.json"
    settings = read_json(path) if path.is_file() else {}
    max_tokens, lower_case = settings.get("max_seq_length"), settings.get("do_lower_case", False)
    if not (max_tokens is None or (isinstance(max_tokens, int) and not isinstance(max_tokens, bool) and max_tokens > 2)):
        raise ModelError(f"{path}: expected max_seq_length to be a whole number above 2, got {max_tokens!r}.")
    if not isinstance(lower_case, bool):
        raise ModelError(f"{path}: expected do_lower_case to be true or false, got {lower_case!r}.")
    return max_tokens, lower_case


def _read_pooling(path: Path) -> tuple[str, bool]:
    """The pooling, and whether the tokens of a prompt count; as sentence-transformers 5.4 writes them, or earlier versions."""
    settings = read_json(path)
    chosen = settings.get("pooling_mode")
    if chosen is None:
        chosen = [key.removeprefix("pooling_mode_") for key, on in settings.items()
                  if key.startswith("pooling_mode_") and on is True]
    chosen = [chosen] if isinstance(chosen, str) else chosen
    if not isinstance(chosen, list) or len(chosen) != 1 or chosen[0] not in POOLING:
        named = ", ".join(map(str, chosen)) if isinstance(chosen, list) else repr(chosen)
        raise ModelError(f"{path}: expected pooling by one of {', '.join(POOLING)}, got {named or 'none'}. "
                         "Choose another checkpoint.")
    return POOLING[chosen[0]], settings.get("include_prompt", True) is not False


def _read_dense(directory: Path) -> Dense:
    path = directory / "config.json"
    settings = read_json(path)
    activation = str(settings.get("activation_function", "torch.nn.modules.activation.Tanh"))
    known = activation.startswith("torch.nn.") and activation.rsplit(".", 1)[-1] in DENSE_ACTIVATIONS
    if not known:
        raise ModelError(f"{path}: expected activation_function to be torch's {', '.join(DENSE_ACTIVATIONS)}, "
                         f"got {activation!r}.")
    _require(path, settings, "module_input_name", "sentence_embedding")
    _require(path, settings, "module_output_name", "sentence_embedding")
    _require(path, settings, "use_residual", False)
    for key in ("in_features", "out_features"):
        if not isinstance(settings.get(key), int) or settings[key] < 1:
            raise ModelError(f"{path}: expected {key} to be a whole number above 0, got {settings.get(key)!r}.")
    return Dense(directory, settings["in_features"], settings["out_features"], settings.get("bias", True) is not False,
                 DENSE_ACTIVATIONS[activation.rsplit(".", 1)[-1]])


def _require(path: Path, settings: dict[str, Any], key: str, value: object) -> None:
    if settings.get(key) not in (None, value):
        raise ModelError(f"{path}: expected {key} {value!r}, got {settings[key]!r}, which is not supported. "
                         "Choose another checkpoint.")
