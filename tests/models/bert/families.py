"""A tiny checkpoint of each family that loads, its weights random by a seed; made without TensorFlow, for PyTorch as well."""
import json
import string
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

WIDTH, INNER, LAYERS, POSITIONS = 16, 32, 2, 66
WORDS = ["heat", "toy", "##s", "story", "film", "我", "ไทย", "é"]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *string.ascii_lowercase,
          *(f"##{c}" for c in string.ascii_lowercase), *string.punctuation]
# no two segmentations of a word have the same score: a tie could be cut in either one
UNIGRAM = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.03), ("▁heat", -3.11), ("▁toy", -3.57),
           ("s", -2.91), ("▁story", -4.13), ("我", -4.71), ("ไทย", -5.29),
           *((c, -6.0 - 0.017 * i) for i, c in enumerate("abcdefghijklmnopqrtuvwxyz:")),
           ("<mask>", 0.0)]
NAMES = {
    "bert": ("encoder.layer", "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
             "attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"),
    "distilbert": ("transformer.layer", "attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin",
                   "sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm"),
}
COMMON = {"max_position_embeddings": POSITIONS}
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": COMMON | {"model_type": "bert", "vocab_size": len(PIECES), "hidden_size": WIDTH, "num_hidden_layers": LAYERS,
                      "num_attention_heads": 2, "intermediate_size": INNER, "type_vocab_size": 2, "hidden_act": "gelu_new",
                      "layer_norm_eps": 1e-6, "pad_token_id": 0},
    "distilbert": COMMON | {"model_type": "distilbert", "vocab_size": len(PIECES), "dim": WIDTH, "n_layers": LAYERS, "n_heads": 2,
                            "hidden_dim": INNER, "activation": "gelu", "pad_token_id": 0},
    "xlm-roberta": COMMON | {"model_type": "xlm-roberta", "vocab_size": len(UNIGRAM), "hidden_size": WIDTH, "pad_token_id": 1,
                             "num_hidden_layers": LAYERS, "num_attention_heads": 2, "intermediate_size": INNER, "bos_token_id": 0,
                             "eos_token_id": 2, "type_vocab_size": 1, "hidden_act": "gelu", "layer_norm_eps": 1e-5},
}


def weights(family: str) -> dict[str, np.ndarray]:
    """What a model of the family saves."""
    rng, out = np.random.default_rng(5), {}
    layers, *parts = NAMES["distilbert" if family == "distilbert" else "bert"]

    def array(name: str, *shape: int, at: float = 0.0) -> None:
        out[name] = rng.normal(at, 0.3, shape).astype(np.float32)

    array("embeddings.word_embeddings.weight", CONFIGS[family]["vocab_size"], WIDTH)
    array("embeddings.position_embeddings.weight", POSITIONS, WIDTH)
    if family != "distilbert":
        array("embeddings.token_type_embeddings.weight", CONFIGS[family]["type_vocab_size"], WIDTH)
    norms = ["embeddings.LayerNorm"]
    for i in range(LAYERS):
        sizes = [(WIDTH, WIDTH)] * 4 + [None, (INNER, WIDTH), (WIDTH, INNER), None]
        for part, size in zip(parts, sizes, strict=True):
            name = f"{layers}.{i}.{part}"
            if size is None:
                norms.append(name)
            else:
                array(f"{name}.weight", *size)
                array(f"{name}.bias", size[0])
    for name in norms:
        array(f"{name}.weight", WIDTH, at=1.0)
        array(f"{name}.bias", WIDTH)
    return out


def tokenizer(family: str) -> Tokenizer:
    """The family's usual tokenizer."""
    if family == "xlm-roberta":
        made = Tokenizer(models.Unigram(UNIGRAM, unk_id=3, byte_fallback=False))
        made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
        made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
        first, last = ("<s>", 0), ("</s>", 2)
        made.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    else:
        made = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(PIECES)}, unk_token="[UNK]"))
        made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
        first, last = ("[CLS]", 2), ("[SEP]", 3)
        made.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    made.post_processor = processors.TemplateProcessing(single=f"{first[0]} $A {last[0]}", special_tokens=[first, last])
    return made


def write_family(directory: Path, family: str) -> Path:
    """A checkpoint in `directory`, which is made."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(CONFIGS[family]))
    save_file(weights(family), directory / "model.safetensors", metadata={"format": "pt"})
    tokenizer(family).save(str(directory / "tokenizer.json"))
    return directory


def write_sentence_modules(directory: Path) -> Path:
    """A BERT with a Dense layer, Normalize and prompts, as sentence-transformers writes them."""
    write_family(directory, "bert")
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense", "3_Normalize": "Normalize"}
    listing = [{"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
               for i, (path, kind) in enumerate(kinds.items())]
    rng = np.random.default_rng(9)
    (directory / "modules.json").write_text(json.dumps(listing))
    for name, said in {"1_Pooling": {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True},
                       "2_Dense": {"in_features": WIDTH, "out_features": 6, "bias": True,
                                   "activation_function": "torch.nn.modules.activation.Tanh"}}.items():
        (directory / name).mkdir()
        (directory / name / "config.json").write_text(json.dumps(said))
    (directory / "3_Normalize").mkdir()
    (directory / "config_sentence_transformers.json").write_text(json.dumps(
        {"prompts": {"query": "query: ", "document": "passage: "}, "default_prompt_name": None}))
    save_file({"linear.weight": rng.normal(0, 0.3, (6, WIDTH)).astype(np.float32),
               "linear.bias": rng.normal(0, 0.3, 6).astype(np.float32)}, directory / "2_Dense" / "model.safetensors")
    return directory
