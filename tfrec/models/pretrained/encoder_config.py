"""The config.json of an encoder, read into one vocabulary for all supported families.

    bert            Devlin et al. 2019, arXiv:1810.04805: MiniLM, BGE, GTE and E5 in English, Chinese RoBERTa-wwm
    distilbert      Sanh et al. 2019, arXiv:1910.01108: the same layers, without segments
    xlm-roberta     Conneau et al. 2020, arXiv:1911.02116: the same network, its positions counted from pad_token_id + 1

A setting that changes the arithmetic of the network is either supported or refused by name.
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
# settings that are refused, and what they mean
REFUSED = {"is_decoder": "each token sees only those before it", "add_cross_attention": "it attends to another model",
           "quantization_config": "its weights are codes of numbers", "pruned_heads": "its layers are of different sizes"}


class BertSettings(BaseModel):
    """The settings of config.json by BERT's names, with the defaults of transformers."""

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
    """The network of an encoder."""

    family: str  # one of FAMILIES
    vocabulary: int
    width: int
    layers: int
    heads: int
    inner: int  # width of the feed-forward layers
    activation: str
    positions: int  # rows of the position embeddings
    first_position: int  # the row of a text's first token
    segments: int  # rows of the segment embeddings; 0: none
    epsilon: float
    raw: dict[str, Any]  # config.json as it is

    @property
    def max_tokens(self) -> int:
        """Number of tokens that have a position."""
        return self.positions - self.first_position


def read_config(path: Path) -> EncoderConfig:
    """Read and check a config.json.

    Raises:
        ModelError: the family, a setting or a value is not supported.
    """
    raw = read_json(path)
    family = _supported_family(path, raw)
    own_names = {name: key for key, name in DISTILBERT.items()} if family == "distilbert" else {}
    settings = _settings(path, raw, family, own_names)
    _check(path, settings, own_names)
    first_position = 1 + (settings.pad_token_id or 0) if family == "xlm-roberta" else 0
    if settings.max_position_embeddings - first_position < 3:
        raise ModelError(f"{path}: max_position_embeddings is {settings.max_position_embeddings} and positions begin at "
                         f"{first_position}, which leaves no room for a text.")
    return EncoderConfig(
        family=family, vocabulary=settings.vocab_size, width=settings.hidden_size, layers=settings.num_hidden_layers,
        heads=settings.num_attention_heads, inner=settings.intermediate_size, activation=ACTIVATIONS[settings.hidden_act],
        positions=settings.max_position_embeddings, first_position=first_position,
        segments=0 if family == "distilbert" else settings.type_vocab_size, epsilon=settings.layer_norm_eps, raw=raw)


def _supported_family(path: Path, raw: dict[str, Any]) -> str:
    family = raw.get("model_type")
    if family not in FAMILIES:
        families = ", ".join(map(repr, FAMILIES))
        raise ModelError(f"{path}: expected model_type to be one of {families}, got {family!r}. Choose a checkpoint such as "
                         "sentence-transformers/all-MiniLM-L6-v2 or, for many languages, intfloat/multilingual-e5-base.")
    if "AutoModel" in (raw.get("auto_map") or {}):
        own_code = raw["auto_map"]["AutoModel"]
        raise ModelError(f"{path}: expected a {family} as in transformers, got one with code of its own, {own_code!r} in "
                         "auto_map, which is not run. Choose another checkpoint.")
    for key, meaning in REFUSED.items():
        if raw.get(key):
            raise ModelError(f"{path}: {key} is {raw[key]!r}: {meaning}, which is not supported. Choose another checkpoint.")
    return str(family)


def _settings(path: Path, raw: dict[str, Any], family: str, own_names: dict[str, str]) -> BertSettings:
    """The settings by BERT's names, with the defaults of the family; `own_names` are the family's names by BERT's."""
    renamed = {key: name for name, key in own_names.items()}
    settings = {renamed.get(key, key): value for key, value in raw.items() if key not in own_names}
    if family == "distilbert":
        settings = {"num_hidden_layers": 6} | settings | {"type_vocab_size": 1, "layer_norm_eps": 1e-12}
    if family == "xlm-roberta":
        settings = {"pad_token_id": 1} | settings
    try:
        return BertSettings.model_validate(settings)
    except ValidationError as e:
        first = e.errors()[0]
        key = str(first["loc"][0])
        raise ModelError(f"{path}: {own_names.get(key, key)}: {first['msg']}, got {first['input']!r}. Correct it, or download "
                         "the checkpoint again.") from e


def _check(path: Path, settings: BertSettings, own_names: dict[str, str]) -> None:
    """Refuse values that are well-formed but not supported."""
    heads, width, activation = (own_names.get(name, name) for name in ("num_attention_heads", "hidden_size", "hidden_act"))
    if settings.hidden_size % settings.num_attention_heads:
        raise ModelError(f"{path}: expected {heads} to divide {width} {settings.hidden_size}, "
                         f"got {settings.num_attention_heads}.")
    if settings.hidden_act not in ACTIVATIONS:
        raise ModelError(f"{path}: expected {activation} to be one of {', '.join(ACTIVATIONS)}, got {settings.hidden_act!r}. "
                         "Choose another checkpoint.")
    if settings.position_embedding_type not in ("absolute", None):
        raise ModelError(f"{path}: expected absolute positions, got {settings.position_embedding_type!r}.")
    if not math.isfinite(settings.layer_norm_eps):
        raise ModelError(f"{path}: layer_norm_eps: expected a number above 0, got {settings.layer_norm_eps!r}.")
