"""The signatures of a version: the tensors that every server of tfrec takes and answers, declared once.

The served graph is traced from these declarations, a version is held to them before it is published, and the gateway and the
client rely on them. A version whose signatures differ would answer errors, or something else, to requests that are right.
`graph/signatures.py` says what the signatures mean; to add one, add a line to `SIGNATURES` and a method of its name there.
"""
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

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


class TensorKind(NamedTuple):
    """Type and number of dimensions of an input or output; the first dimension is the batch."""

    dtype: DType
    rank: int

    def __str__(self) -> str:
        return f"{self.dtype} {self.rank}"


TensorKinds = dict[str, TensorKind]

TEXT, TEXTS = TensorKind("string", 1), TensorKind("string", 2)
COUNT, COUNTS, SEED, AGES = TensorKind("int32", 1), TensorKind("int32", 2), TensorKind("int64", 1), TensorKind("int64", 2)
NUMBER, NUMBERS, DOUBLES = TensorKind("float32", 1), TensorKind("float32", 2), TensorKind("float64", 2)

HISTORY: TensorKinds = {"history": TEXTS, "history_action": TEXTS, "history_age_s": AGES, "query": TEXT}
CONTEXT: TensorKinds = {"time": SEED, "context_name": TEXTS, "context_value": TEXTS}  # of models with features
PRIOR: TensorKinds = {"prior_items": TEXTS, "prior_log_p": NUMBERS}
BOUNDS: TensorKinds = {"bound_columns": TEXTS, "bound_min": DOUBLES, "bound_max": DOUBLES}
BOOSTS: TensorKinds = {
    "boost_kinds": COUNTS, "boost_names": TEXTS, "boost_values": NUMBERS, "boost_min": DOUBLES, "boost_max": DOUBLES,
}
FILTERS: TensorKinds = {"exclude": TEXTS, "allow_tags": TEXTS, "deny_tags": TEXTS} | BOUNDS | BOOSTS | PRIOR
RECOMMEND: TensorKinds = HISTORY | {"k": COUNT} | FILTERS
RERANKING: TensorKinds = {"diversity": NUMBER, "cap_prefixes": TEXTS, "caps": COUNTS}
HEADS: TensorKinds = {"head_names": TEXTS, "head_weights": NUMBERS}
POLICY: TensorKinds = {"temperature": NUMBER, "epsilon": NUMBER}

_SLATE: TensorKinds = {"items": TEXTS, "scores": NUMBERS}
_OF_HEADS: TensorKinds = {"heads": TEXTS, "head_scores": TensorKind("float32", 3)}
_EXPLANATION: TensorKinds = {
    "scores": NUMBER, "popularity": NUMBER, "history_weights": NUMBERS, "tokens": TEXTS, "token_weights": NUMBERS,
}

SIGNATURES: dict[str, tuple[TensorKinds, TensorKinds]] = {  # name: inputs, outputs
    "serving_default": ({"history": TEXTS, "query": TEXT, "k": COUNT}, _SLATE),
    "recommend": (RECOMMEND | RERANKING | HEADS, _SLATE),
    "explore": (RECOMMEND | HEADS | POLICY | {"seed": SEED}, _SLATE | {"log_propensities": NUMBERS}),
    "thompson": (RECOMMEND | {"alpha": NUMBER, "seed": SEED}, _SLATE),
    "linucb": (RECOMMEND | {"alpha": NUMBER}, _SLATE),
    "rank": (HISTORY | PRIOR | HEADS | {"candidates": TEXTS}, {"scores": NUMBERS} | _OF_HEADS),
    "explain": (HISTORY | PRIOR | {"item": TEXT}, _EXPLANATION),
    "similar": ({"item": TEXT, "k": COUNT}, _SLATE),
    "embed_query": ({"history": TEXTS, "query": TEXT}, {"vectors": NUMBERS}),
    "embed_item": ({"text": TEXT}, {"vectors": NUMBERS}),
}

# inputs that a version may lack, as it was exported before there were such; likewise outputs
OPTIONAL, OPTIONAL_OUTPUTS = frozenset(BOUNDS | RERANKING | HEADS | BOOSTS), frozenset(_OF_HEADS)


READS_CONTEXT = ("recommend", "explore", "thompson", "linucb", "rank", "explain")  # signatures that take `CONTEXT`, where any do


def signatures(*, context: bool) -> dict[str, tuple[TensorKinds, TensorKinds]]:
    """Inputs and outputs by name, of models that read a `context` or of those that do not."""
    return {name: (inputs | CONTEXT if context and name in READS_CONTEXT else inputs, outputs)
            for name, (inputs, outputs) in SIGNATURES.items()}


def takes_context(found: Mapping[str, Signature]) -> bool:
    """Whether signatures are those of a model with features."""
    return "recommend" in found and CONTEXT.keys() <= found["recommend"].inputs.keys()


def difference(found: Mapping[str, Signature]) -> str:
    """The first thing in which the signatures `found` differ from `signatures`, in words; "" when they agree."""
    if found.keys() != SIGNATURES.keys():
        return f"expected the signatures {sorted(SIGNATURES)}, got {sorted(found)}"
    for name, (inputs, outputs) in signatures(context=takes_context(found)).items():
        for side, expected, got in (("inputs", inputs, found[name].inputs), ("outputs", outputs, found[name].outputs)):
            kinds = {alias: TensorKind(spec.dtype, len(spec.shape)) for alias, spec in got.items()}
            if kinds.keys() | ((OPTIONAL | OPTIONAL_OUTPUTS) & expected.keys()) != expected.keys():
                return f"{name}: expected the {side} {sorted(expected)}, got {sorted(kinds)}"
            for alias, kind in expected.items():
                if kinds.get(alias, kind) != kind:
                    return f"{name}: {alias}: expected {kind} (dtype and rank), got {kinds[alias]}"
            if fixed := [alias for alias, spec in got.items() if spec.shape[0] is not None]:
                return f"{name}: {fixed[0]}: expected a batch of any size, got {got[fixed[0]].shape[0]}"
    return ""
