"""The signatures of a version: what every server of tfrec answers, and what the gateway and the client rely on.

A version whose signatures differ answers errors, or something else, to requests that are right. `graph/signatures.py` says what
they mean.
"""
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

DType = Literal["string", "bool", "int32", "int64", "float32", "float64"]
Values = list[Any]  # nested lists; the innermost hold str, bool, int or float


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class TensorSpec(_Part):
    """Shape and type of one named tensor; None is a dimension that the request chooses."""

    dtype: DType
    shape: tuple[int | None, ...]


class Signature(_Part):
    """What a caller sends and gets under one name."""

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]


class Probe(_Part):
    """One request and the answer that the exported model gave in memory."""

    signature: str
    inputs: dict[str, Values]
    outputs: dict[str, Values]


_BEHAVIOUR = {"history": "string 2", "history_action": "string 2", "history_age_s": "int64 2", "query": "string 1"}
_PRIOR = {"prior_items": "string 2", "prior_log_p": "float32 2"}
_TAGS = {"exclude": "string 2", "allow_tags": "string 2", "deny_tags": "string 2"}
_WANTED = _BEHAVIOUR | {"k": "int32 1"} | _TAGS | _PRIOR
_SLATE = {"items": "string 2", "scores": "float32 2"}
_NUMBER, _SEED, _VECTORS = "float32 1", "int64 1", {"vectors": "float32 2"}

# name -> inputs and outputs: dtype and rank, the batch in front
SIGNATURES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "serving_default": ({"history": "string 2", "query": "string 1", "k": "int32 1"}, _SLATE),
    "recommend": (_WANTED, _SLATE),
    "explore": (_WANTED | {"temperature": _NUMBER, "epsilon": _NUMBER, "seed": _SEED},
                _SLATE | {"log_propensities": "float32 2"}),
    "thompson": (_WANTED | {"alpha": _NUMBER, "seed": _SEED}, _SLATE),
    "linucb": (_WANTED | {"alpha": _NUMBER}, _SLATE),
    "rank": (_BEHAVIOUR | {"candidates": "string 2"} | _PRIOR, {"scores": "float32 2"}),
    "similar": ({"item": "string 1", "k": "int32 1"}, _SLATE),
    "explain": (_BEHAVIOUR | {"item": "string 1"} | _PRIOR,
                {"scores": _NUMBER, "popularity": _NUMBER, "history_weights": "float32 2", "tokens": "string 2",
                 "token_weights": "float32 2"}),
    "embed_query": ({"history": "string 2", "query": "string 1"}, _VECTORS),
    "embed_item": ({"text": "string 1"}, _VECTORS),
}


def difference(found: Mapping[str, Signature]) -> str:
    """What `found` has otherwise than `SIGNATURES`, in words; empty when nothing."""
    if found.keys() != SIGNATURES.keys():
        return f"expected the signatures {sorted(SIGNATURES)}, got {sorted(found)}"
    for name, (inputs, outputs) in SIGNATURES.items():
        for side, expected, got in (("inputs", inputs, found[name].inputs), ("outputs", outputs, found[name].outputs)):
            said = {alias: _word(spec) for alias, spec in got.items()}
            if said.keys() != expected.keys():
                return f"{name}: expected the {side} {sorted(expected)}, got {sorted(said)}"
            for alias, word in expected.items():
                if said[alias] != word:
                    return f"{name}: {alias}: expected {word} (dtype and rank), got {said[alias]}"
            if fixed := [alias for alias, spec in got.items() if spec.shape[0] is not None]:
                return f"{name}: {fixed[0]}: expected a batch of any size, got {got[fixed[0]].shape[0]}"
    return ""


def _word(spec: TensorSpec) -> str:
    return f"{spec.dtype} {len(spec.shape)}"
