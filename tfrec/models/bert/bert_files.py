"""The files of an encoder, as Hugging Face lays them out: read by `load_bert`, written by `write_encoder` for any BERT program.

Low-rank matrices are merged into the plain weights. Adapters and prefixes are written beside them, under names of their own that
other programs pass over, so those read the encoder without them.
"""
import json
import shutil
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfrec.errors import ModelError, UsageError
from tfrec.models.bert import peft
from tfrec.models.bert.bert import Bert
from tfrec.models.bert.weight_names import DENSE, SEGMENTS, TABLE, UNUSED, arrays, places
from tfrec.models.pretrained.checkpoint_files import Checkpoint, files_of
from tfrec.models.pretrained.weight_files import WHOLE, checked, is_weights, weights_file


def load_bert(checkpoint: Checkpoint) -> Bert:
    """Build the encoder that `checkpoint` describes and fill in its weights.

    Raises:
        ModelError: an array is missing, has another shape than the configuration says, holds no finite numbers, or belongs to an
            encoder of another size.
    """
    c = checkpoint.config
    bert = Bert(vocabulary=c.vocabulary, width=c.width, heads=c.heads, inner=c.inner, layers=c.layers, positions=c.positions,
                epsilon=c.epsilon, pad=checkpoint.tokenizer.pad, activation=c.activation, first_position=c.first_position,
                segments=c.segments > 0, name="bert")
    bert(tf.zeros([1, 3], tf.int32))
    arrays, where, left = checkpoint.weights(), weights_file(checkpoint.encoder), set(UNUSED)

    def take(name: str, *shape: int) -> np.ndarray:
        if name not in arrays:
            raise ModelError(f"{where}: expected an array {name!r}, found none. These are not the weights of this configuration.")
        left.add(name)
        return checked(name, arrays[name], shape, where)

    for layer, kind, names in places(bert, c.family):
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
    if (kept := peft.PeftConfig.of(c.said)) is not None:
        peft_config = peft.apply(bert, kept)
        for name, variable in peft_config.own.items():
            variable.assign(take(name, *variable.shape))
    # heads, such as a pooler, are for other tasks; what is inside the encoder and was not read would change its vectors
    parts = ("embeddings.", "encoder.", "transformer.", "tfrec.")
    inside = sorted(name for name in arrays.keys() - left if name.startswith(parts))
    if inside:
        raise ModelError(f"{where}: expected no more arrays than config.json has layers for, found {inside[0]!r} "
                         f"({len(inside)} in all). The files are of different checkpoints.")
    return bert


def write_encoder(
    bert: Bert, parent: Checkpoint, directory: Path, *, tuned: peft.TunedParameters, said: dict[str, object]
) -> None:
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
    peft.merge(bert)
    kept = parent.weights()  # what is not used here, such as a pooler and the second segment, stays
    new = kept | arrays(bert, parent.config.family)
    if bert.segment is not None:
        segments = kept[f"{SEGMENTS}.weight"].astype(np.float32)
        segments[0] = bert.segment.embeddings.numpy()[0]
        new[f"{SEGMENTS}.weight"] = segments
    if tuned.peft_config.method in peft.STAYS:
        new |= {name: variable.numpy() for name, variable in tuned.own.items()}
    staging = directory.with_name(f".{directory.name}.staging")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    inside = parent.encoder.relative_to(parent.directory)
    for name in files_of(parent.directory):
        if not is_weights(parent.directory / name, parent.encoder):
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(parent.directory / name, staging / name)
    config = {**parent.config.said, "dtype": "float32", **tuned.peft_config.entry()}
    (staging / inside / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (staging / "tuning.json").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    save_file(new, staging / inside / WHOLE, metadata={"format": "pt"})
    staging.replace(directory)
