"""The config.json of an encoder: what its network is, in one vocabulary for all families that are computed here.

    bert            Devlin et al. 2019, arXiv:1810.04805: MiniLM, BGE, GTE and E5 in English, Chinese RoBERTa-wwm
    distilbert      Sanh et al. 2019, arXiv:1910.01108: the same layers, without segments
    xlm-roberta     Conneau et al. 2020, arXiv:1911.02116: the same network, its positions counted from pad_token_id + 1

A setting that changes the network's arithmetic is done or refused by name.
"""
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tfrec.errors import ModelError
from tfrec.models.pretrained.json_files import read_json

FAMILIES = ("bert", "distilbert", "xlm-roberta")
DISTILBERT = {"dim": "hidden_size", "n_layers": "num_hidden_layers", "n_heads": "num_attention_heads",
              "hidden_dim": "intermediate_size", "activation": "hidden_act"}
ACTIVATIONS = {"gelu": "gelu", "gelu_python": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh",
               "gelu_fast": "gelu_tanh", "relu": "relu", "silu": "silu", "swish": "silu"}  # by their names in transformers
# what must not be said, and what saying it would mean
REFUSED = {"is_decoder": "each token sees only those before it", "add_cross_attention": "it attends to another model",
           "quantization_config": "its weights are codes of numbers", "pruned_heads": "its layers are of different sizes"}


class Described(BaseModel):
    """config.json under BERT's names, with the defaults of transformers where the file is silent."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    vocab_size: int = Field(30522, ge=1)
    hidden_size: int = Field(768, ge=1)
    num_hidden_layers: int = Field(12, ge=1)
    num_attention_heads: int = Field(12, ge=1)
    intermediate_size: int = Field(3072, ge=1)
    hidden_act: str = "gelu"
    max_position_embeddings: int = Field(512, ge=3)
    type_vocab_size: int = Field(2, ge=1)
    layer_norm_eps: float = Field(1e-12, gt=0)
    pad_token_id: int | None = Field(0, ge=0)
    position_embedding_type: str | None = "absolute"


@dataclass(frozen=True)
class EncoderConfig:
    """An encoder's network."""

    family: str  # one of FAMILIES
    vocabulary: int
    width: int
    layers: int
    heads: int
    inner: int
    activation: str
    positions: int  # rows of the table
    first_position: int  # row of the first token
    segments: int  # rows of the table; 0: none
    epsilon: float
    raw: dict[str, Any]  # config.json as it is

    @property
    def most_tokens(self) -> int:
        """How many tokens have a position."""
        return self.positions - self.first_position


def read_config(path: Path) -> EncoderConfig:
    """Read and check a config.json.

    Raises:
        ModelError: the family, a setting or a value is none that is computed here.
    """
    said = read_json(path)
    family = said.get("model_type")
    if family not in FAMILIES:
        families = ", ".join(map(repr, FAMILIES))
        raise ModelError(f"{path}: expected model_type to be one of {families}, got {family!r}. Choose a checkpoint such as "
                         "sentence-transformers/all-MiniLM-L6-v2 or, for many languages, intfloat/multilingual-e5-base.")
    if "AutoModel" in (said.get("auto_map") or {}):
        own_code = said["auto_map"]["AutoModel"]
        raise ModelError(f"{path}: expected a {family} as transformers has it, got one with code of its own, {own_code!r} in "
                         "auto_map, which is not run here. Choose another checkpoint.")
    for key, meaning in REFUSED.items():
        if said.get(key):
            raise ModelError(f"{path}: {key} is {said[key]!r}: {meaning}, which is not computed here. Choose another checkpoint.")
    renamed = DISTILBERT if family == "distilbert" else {}
    own = {name: key for key, name in renamed.items()}
    described = {renamed.get(key, key): value for key, value in said.items() if key not in own}
    if family == "distilbert":
        described |= {"type_vocab_size": 1, "layer_norm_eps": 1e-12}
        described = {"num_hidden_layers": 6} | described
    if family == "xlm-roberta":
        described = {"pad_token_id": 1} | described
    try:
        c = Described.model_validate(described)
    except ValidationError as e:
        first = e.errors()[0]
        key = str(first["loc"][0])
        raise ModelError(f"{path}: {own.get(key, key)}: {first['msg']}, got {first['input']!r}. Correct it, or download the "
                         "checkpoint again.") from e
    if c.hidden_size % c.num_attention_heads:
        raise ModelError(f"{path}: expected {own.get('num_attention_heads', 'num_attention_heads')} to divide "
                         f"{own.get('hidden_size', 'hidden_size')} {c.hidden_size}, got {c.num_attention_heads}.")
    if c.hidden_act not in ACTIVATIONS:
        raise ModelError(f"{path}: expected {own.get('hidden_act', 'hidden_act')} to be one of {', '.join(ACTIVATIONS)}, the "
                         f"ones that are computed here, got {c.hidden_act!r}.")
    if c.position_embedding_type not in ("absolute", None):
        raise ModelError(f"{path}: expected absolute positions, got {c.position_embedding_type!r}.")
    if not math.isfinite(c.layer_norm_eps):
        raise ModelError(f"{path}: layer_norm_eps: expected a number above 0, got {c.layer_norm_eps!r}.")
    first_position = 1 + (c.pad_token_id or 0) if family == "xlm-roberta" else 0
    if c.max_position_embeddings - first_position < 3:
        raise ModelError(f"{path}: max_position_embeddings is {c.max_position_embeddings} and positions begin at "
                         f"{first_position}: no text has room.")
    return EncoderConfig(family, c.vocab_size, c.hidden_size, c.num_hidden_layers, c.num_attention_heads, c.intermediate_size,
                         ACTIVATIONS[c.hidden_act], c.max_position_embeddings, first_position,
                         0 if family == "distilbert" else c.type_vocab_size, c.layer_norm_eps, said)
