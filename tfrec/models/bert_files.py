"""An encoder in memory in, its directory out, as Hugging Face lays it out: what `load_bert` reads, and any other BERT program.

Low-rank matrices are merged into the plain weights. Adapters and prefixes are written beside them, under names of their own that
other programs pass over, so those read the encoder without them.
"""
import json
import shutil
from pathlib import Path

import numpy as np

from tfrec.errors import UsageError
from tfrec.models import adapters
from tfrec.models.bert import Bert
from tfrec.models.checkpoint_files import FILES, Checkpoint

ALSO = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json")  # for sentence-transformers
SEGMENTS = "embeddings.token_type_embeddings.weight"


def arrays(bert: Bert) -> dict[str, np.ndarray]:
    """Arrays by the name that a BertModel gives them: `encoder.layer.0.output.dense.weight` `[out, in]`, ..."""
    found: dict[str, np.ndarray] = {
        "embeddings.word_embeddings.weight": bert.words.embeddings.numpy(),
        "embeddings.position_embeddings.weight": bert.positions.embeddings.numpy(),
    }

    def dense(weights: list[np.ndarray], *names: str) -> None:
        kernels, biases = (np.split(array, len(names), axis=-1) for array in weights)
        for name, kernel, bias in zip(names, kernels, biases, strict=True):
            found[f"{name}.weight"], found[f"{name}.bias"] = np.ascontiguousarray(kernel.T), np.ascontiguousarray(bias)

    def norm(weights: list[np.ndarray], name: str) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = weights

    norm(bert.norm.get_weights(), "embeddings.LayerNorm")
    for i, block in enumerate(bert.blocks):
        p = f"encoder.layer.{i}"
        dense(block.qkv.get_weights(), *(f"{p}.attention.self.{n}" for n in ("query", "key", "value")))
        dense(adapters.plain(block.attention_output).get_weights(), f"{p}.attention.output.dense")
        norm(block.attention_norm.get_weights(), f"{p}.attention.output.LayerNorm")
        dense(block.intermediate.get_weights(), f"{p}.intermediate.dense")
        dense(adapters.plain(block.output_dense).get_weights(), f"{p}.output.dense")
        norm(block.output_norm.get_weights(), f"{p}.output.LayerNorm")
    return found


def write_encoder(bert: Bert, parent: Checkpoint, directory: Path, *, changed: adapters.Changed, said: dict[str, object]) -> None:
    """Write the encoder that was made of `parent`; the directory appears whole or not at all.

    Args:
        bert: its low-rank matrices are merged, in place.
        parent: gives vocabulary, tokenizer, pooling and what its weights hold beyond the encoder that is used here.
        changed: what `bert` was changed by.
        said: how it was made, for `tuning.json`.

    Raises:
        UsageError: something is there already.
    """
    from safetensors.numpy import save_file

    if directory.exists():
        raise UsageError(f"{directory} exists already. Name another output, or remove it.")
    adapters.merge(bert)
    new = arrays(bert)
    kept = parent.weights()  # what is not used here, such as a pooler and the second segment, stays
    kept[SEGMENTS] = kept[SEGMENTS].astype(np.float32)
    kept[SEGMENTS][0] = bert.segment.embeddings.numpy()[0]
    new = kept | new
    if changed.change.way in adapters.STAYS:
        new |= {name: variable.numpy() for name, variable in changed.own.items()}
    staging = directory.with_name(f".{directory.name}.staging")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    for name in (*FILES, *ALSO):
        if name != "model.safetensors" and (parent.directory / name).is_file():
            (staging / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(parent.directory / name, staging / name)
    config = json.loads((parent.directory / "config.json").read_text(encoding="utf-8"))
    config = {**config, "dtype": "float32", **changed.change.entry()}
    (staging / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (staging / "tuning.json").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    save_file(new, staging / "model.safetensors", metadata={"format": "pt"})
    staging.replace(directory)
