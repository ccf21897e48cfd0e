"""The files of an encoder in the layout of Hugging Face: `load_bert` reads them, `write_encoder` writes them.

Any program that runs BERT can read what is written. Low-rank matrices are merged into the plain weights. Adapters and prefixes
are saved beside them, under names that other programs ignore, so those programs read the encoder without them.
"""
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.data.staging import staging
from tfrec.errors import ModelError, UsageError
from tfrec.models.bert import peft
from tfrec.models.bert.bert import Bert
from tfrec.models.bert.peft_config import UNMERGEABLE, PeftConfig
from tfrec.models.bert.weight_names import DENSE, SEGMENTS, TABLE, UNUSED, arrays, named_layers
from tfrec.models.pretrained.checkpoint_files import Checkpoint, checkpoint_files
from tfrec.models.pretrained.weight_files import WEIGHTS_FILE, float32_array, is_weights, weights_file

PROVENANCE = "tuning.json"  # how an encoder was made
TRAINING = "training"  # who made it, where it was trained together with the towers


def load_bert(checkpoint: Checkpoint) -> Bert:
    """Build the encoder that `checkpoint` describes, and fill in its weights.

    Raises:
        ModelError: an array is missing, left over, not finite, or of another shape than the configuration says.
    """
    c = checkpoint.config
    bert = Bert(vocabulary=c.vocabulary, width=c.width, heads=c.heads, inner=c.inner, layers=c.layers, positions=c.positions,
                epsilon=c.epsilon, pad=checkpoint.tokenizer.pad, activation=c.activation, first_position=c.first_position,
                segments=c.segments > 0, name="bert")
    bert(tf.zeros([1, 3], tf.int32))
    arrays, path, known = checkpoint.weights(), weights_file(checkpoint.encoder), set(UNUSED)

    def take(name: str, *shape: int) -> np.ndarray:
        if name not in arrays:
            raise ModelError(f"{path}: expected an array {name!r}, found none. These are not the weights of this configuration.")
        known.add(name)
        return float32_array(name, arrays[name], shape, path)

    for layer, kind, names in named_layers(bert, c.family):
        if kind == DENSE:
            into, columns = layer.kernel.shape
            out = columns // len(names)
            kernels, biases = [take(f"{n}.weight", out, into).T for n in names], [take(f"{n}.bias", out) for n in names]
            layer.set_weights([np.concatenate(kernels, axis=1), np.concatenate(biases)])
        elif kind == TABLE:
            layer.set_weights([take(f"{names[0]}.weight", *layer.embeddings.shape)])
        else:
            layer.set_weights([take(f"{names[0]}.weight", c.width), take(f"{names[0]}.bias", c.width)])
    if bert.segment is not None:
        bert.segment.set_weights([take(f"{SEGMENTS}.weight", c.segments, c.width)[:1]])
    if (peft_config := PeftConfig.from_encoder_config(c.raw)) is not None:
        for name, variable in peft.apply(bert, peft_config).added.items():
            variable.assign(take(name, *variable.shape))
    # heads, such as a pooler, are for other tasks; an unread array inside the encoder would change its vectors
    parts = ("embeddings.", "encoder.", "transformer.", "tfrec.")
    inside = sorted(name for name in arrays.keys() - known if name.startswith(parts))
    if inside:
        raise ModelError(f"{path}: expected no more arrays than config.json has layers for, found {inside[0]!r} "
                         f"({len(inside)} in all). The files are of different checkpoints.")
    return bert


def trained_from(encoder: str) -> str | None:
    """What `text.encoder` named when `tfrec train` trained an encoder together with the towers; None of any other encoder."""
    path = Path(encoder) / PROVENANCE
    made: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return made["parent"] if made.get("by") == TRAINING else None


def write_encoder(
    bert: Bert, parent: Checkpoint, directory: Path, *, tuned: peft.TunedParameters, provenance: dict[str, object],
    finish: Callable[[Path], None] | None = None,
) -> None:
    """Write an encoder that was tuned. The directory appears whole or not at all.

    Args:
        bert: its low-rank matrices are merged, in place.
        parent: what it was made from; its tokenizer, pooling and unused weights, such as a pooler, are copied.
        directory: of the new encoder.
        tuned: the PEFT method of `bert`, and the variables that it has added.
        provenance: how the encoder was made; written to `PROVENANCE`.
        finish: may add files to the directory that it is given, in which the encoder is complete, before `directory` appears.

    Raises:
        UsageError: `directory` exists already.
    """
    from safetensors.numpy import save_file

    if directory.exists():
        raise UsageError(f"{directory} exists already. Name another output, or remove it.")
    peft.merge(bert)
    old = parent.weights()
    new = old | arrays(bert, parent.config.family)
    if bert.segment is not None:
        segments = old[f"{SEGMENTS}.weight"].astype(np.float32)  # only the first one is used
        segments[0] = bert.segment.embeddings.numpy()[0]
        new[f"{SEGMENTS}.weight"] = segments
    if tuned.peft_config.method in UNMERGEABLE:
        new |= {name: variable.numpy() for name, variable in tuned.added.items()}
    directory.parent.mkdir(parents=True, exist_ok=True)
    with staging(directory.parent, f".{directory.name}.staging-") as staged:
        for name in checkpoint_files(parent.directory):
            if not is_weights(parent.directory / name, parent.encoder):
                (staged / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(parent.directory / name, staged / name)
        encoder = staged / parent.encoder.relative_to(parent.directory)
        config = {**parent.config.raw, "dtype": "float32", **tuned.peft_config.encoder_config()}
        (encoder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        (staged / PROVENANCE).write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")
        save_file(new, encoder / WEIGHTS_FILE, metadata={"format": "pt"})
        if finish is not None:
            finish(staged)
        staged.rename(directory)
