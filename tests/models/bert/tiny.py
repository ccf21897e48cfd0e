"""A BERT checkpoint of random weights in the layout of Hugging Face: 2 layers, width 16, a piece for every letter; 40 kB."""
import json
import string
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

LETTERS = string.ascii_lowercase + string.digits
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "##ing", *LETTERS, *(f"##{c}" for c in LETTERS), *string.punctuation]
CONFIG = {"model_type": "bert", "vocab_size": len(PIECES), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
          "intermediate_size": 32, "max_position_embeddings": 64, "type_vocab_size": 2, "hidden_act": "gelu", "pad_token_id": 0}


def arrays(*, seed: int = 0) -> dict[str, np.ndarray]:
    """What a BertModel of CONFIG saves."""
    rng = np.random.default_rng(seed)
    width, inner = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    out = {}

    def matrix(name: str, rows: int, columns: int) -> None:
        out[f"{name}.weight"] = rng.normal(0, 0.3, (rows, columns)).astype(np.float32)

    def dense(name: str, into: int, out_of: int) -> None:
        matrix(name, into, out_of)
        out[f"{name}.bias"] = rng.normal(0, 0.1, into).astype(np.float32)

    def norm(name: str) -> None:
        out[f"{name}.weight"] = rng.normal(1, 0.1, width).astype(np.float32)
        out[f"{name}.bias"] = rng.normal(0, 0.1, width).astype(np.float32)

    for name, rows in (("word", CONFIG["vocab_size"]), ("position", CONFIG["max_position_embeddings"]), ("token_type", 2)):
        matrix(f"embeddings.{name}_embeddings", rows, width)
    norm("embeddings.LayerNorm")
    for i in range(CONFIG["num_hidden_layers"]):
        for name in ("query", "key", "value"):
            dense(f"encoder.layer.{i}.attention.self.{name}", width, width)
        dense(f"encoder.layer.{i}.attention.output.dense", width, width)
        norm(f"encoder.layer.{i}.attention.output.LayerNorm")
        dense(f"encoder.layer.{i}.intermediate.dense", inner, width)
        dense(f"encoder.layer.{i}.output.dense", width, inner)
        norm(f"encoder.layer.{i}.output.LayerNorm")
    return out


def write_bert(directory: Path, *, weights: dict[str, np.ndarray] | None = None, **config: Any) -> Path:
    """config.json, vocab.txt and model.safetensors in `directory`, which is made; `config` overrides CONFIG."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(CONFIG | config))
    (directory / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    save_file(arrays() if weights is None else weights, directory / "model.safetensors")
    return directory


def tokenizer_files(pieces: list[str] = PIECES, *, lower_case: bool = True) -> Any:
    """The tokenizer of a checkpoint with these pieces."""
    from tempfile import TemporaryDirectory

    from tfrec.models.pretrained.tokenizer_files import read_tokenizer

    with TemporaryDirectory() as directory:
        Path(directory, "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
        write_json(Path(directory, "tokenizer_config.json"), {"do_lower_case": lower_case})
        return read_tokenizer(Path(directory), vocab_size=1000)


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def from_saved_model(encoder: Any, directory: Path, texts: list[str]) -> np.ndarray:
    """What `encoder` makes of `texts` once it has been saved as a SavedModel and loaded again."""
    import tensorflow as tf
    module = tf.Module()
    module.encoder = encoder
    module.embed = tf.function(lambda text: encoder(text), input_signature=[tf.TensorSpec([None], tf.string)])
    tf.saved_model.save(module, directory, signatures={"embed": module.embed})
    again = tf.saved_model.load(directory).signatures["embed"](tf.constant(texts))
    return next(iter(again.values())).numpy()
