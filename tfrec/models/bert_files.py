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
from tfrec.models.bert_names import SEGMENTS, arrays
from tfrec.models.checkpoint_files import Checkpoint, files_of
from tfrec.models.checkpoint_weights import WHOLE, is_weights


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
    kept = parent.weights()  # what is not used here, such as a pooler and the second segment, stays
    new = kept | arrays(bert, parent.config.family)
    if bert.segment is not None:
        segments = kept[f"{SEGMENTS}.weight"].astype(np.float32)
        segments[0] = bert.segment.embeddings.numpy()[0]
        new[f"{SEGMENTS}.weight"] = segments
    if changed.change.way in adapters.STAYS:
        new |= {name: variable.numpy() for name, variable in changed.own.items()}
    staging = directory.with_name(f".{directory.name}.staging")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    inside = parent.encoder.relative_to(parent.directory)
    for name in files_of(parent.directory):
        if not is_weights(parent.directory / name, parent.encoder):
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(parent.directory / name, staging / name)
    config = {**parent.config.said, "dtype": "float32", **changed.change.entry()}
    (staging / inside / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (staging / "tuning.json").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    save_file(new, staging / inside / WHOLE, metadata={"format": "pt"})
    staging.replace(directory)
