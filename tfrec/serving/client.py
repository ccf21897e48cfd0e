"""A typed client of the model server over gRPC, the same for the real server and the embedded one.

    with Client("localhost:8500", model="tfrec") as client:
        answer, = client.recommend(history=[["heat", "ronin"]], query=["crime"], k=10)

Every call is a batch: one history, query and answer per person. A call ends within `timeout` seconds, retries included; only what
the server refused to begin is tried again (it was down, or busy), so nothing is computed twice.
"""
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from types import TracebackType
from typing import Any

import grpc
import numpy as np
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tfrec.errors import ServingError, UsageError
from tfrec.serving.freshness import Override
from tfrec.serving.tensors import from_proto, text_array, to_proto

_UNKNOWN_AGE = -1


class RequestFailed(ServingError):
    """The server did not answer; `code` is the name of the gRPC status, `down` says that no server answered at all."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code
        self.down = code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")


@dataclass(frozen=True)
class Recommendation:
    """One answer: item ids with their scores, best first, and the version of the model that gave it."""

    items: tuple[str, ...]
    scores: tuple[float, ...]
    version: int


@dataclass(frozen=True)
class Prediction:
    """Whatever a signature gave, and the version that gave it."""

    outputs: dict[str, np.ndarray]
    version: int


@dataclass(frozen=True)
class VersionStatus:
    """A version on the server; `state` as the server names it, `error` empty when it is well."""

    version: int
    state: str
    error: str


class Client:
    """A connection to one model. Safe to share between threads; opens the socket at the first call."""

    def __init__(self, address: str, *, model: str = "tfrec", timeout: float = 2.0, attempts: int = 3) -> None:
        self.address = address
        self.model = model
        self.timeout = timeout
        policy = {
            "maxAttempts": max(2, attempts),  # gRPC takes no 1 here; `enable_retries` says it
            "initialBackoff": "0.02s",
            "maxBackoff": "0.2s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
        }
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.enable_retries", int(attempts > 1)),
            ("grpc.service_config", json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})),
            ("grpc.max_reconnect_backoff_ms", 1000),  # a server that comes back is found within a second
        ]
        self._channel = grpc.insecure_channel(address, options=options)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def recommend(
        self,
        *,
        history: Sequence[Sequence[str]],
        query: Sequence[str] | None = None,
        k: int | Sequence[int] = 10,
        history_action: Sequence[Sequence[str]] | None = None,
        history_age_s: Sequence[Sequence[int]] | None = None,
        exclude: Sequence[Sequence[str]] | None = None,
        allow_tags: Sequence[Sequence[str]] | None = None,
        deny_tags: Sequence[Sequence[str]] | None = None,
        prior: Sequence[Override] | None = None,
        version: int | None = None,
        label: str = "",
    ) -> list[Recommendation]:
        """The best `k` items for each history (oldest first) and query; either may be empty.

        Args:
            history, query, k: what is known of each person, what they look for, how many items they get.
            history_action, history_age_s: beside `history`, age in seconds before now.
            exclude: items that must not come.
            allow_tags, deny_tags: an item needs one of the allowed, where some are named, and none of the denied.
            prior: for each history, items and the log popularity that takes the place of the exported one.
            version, label: another version than the newest.
        """
        n = len(history)
        none: Sequence[Sequence[Any]] = [()] * n
        sizes = [k] * n if isinstance(k, int) else list(k)
        moved = [override.ids for override in prior or ()] or none
        inputs = {
            "history": _padded(history, "", like=history),
            "history_action": _padded(history_action or none, "", like=history),
            "history_age_s": _padded(history_age_s or none, _UNKNOWN_AGE, like=history),
            "exclude": _padded(exclude or none, ""),
            "allow_tags": _padded(allow_tags or none, ""),
            "deny_tags": _padded(deny_tags or none, ""),
            "prior_items": _padded(moved, ""),
            "prior_log_p": _padded([override.log_p.tolist() for override in prior or ()] or none, 0.0, like=moved),
            "query": text_array([""] * n if query is None else list(query)),
            "k": np.array(sizes, np.int32),
        }
        uneven = {name: len(array) for name, array in inputs.items() if len(array) != n}
        if not n or uneven:
            raise UsageError(f"recommend: expected one or more histories and as many of each input, got {n} and {uneven}.")
        if min(sizes) < 1:
            raise UsageError(f"recommend: k must be at least 1, got {min(sizes)}.")
        return _ranked(self.predict("recommend", inputs, version=version, label=label))

    def similar(self, items: Sequence[str], *, k: int = 10, version: int | None = None, label: str = "") -> list[Recommendation]:
        """The `k` items nearest to each of `items`."""
        inputs = {"item": text_array(list(items)), "k": np.full(len(items), k, np.int32)}
        return _ranked(self.predict("similar", inputs, version=version, label=label))

    def predict(
        self, signature: str, inputs: Mapping[str, np.ndarray], *, version: int | None = None, label: str = ""
    ) -> Prediction:
        """Call any signature with arrays; text as arrays of bytes objects (`tensors.text_array`)."""
        request = predict_pb2.PredictRequest(model_spec=self._spec(version, label))
        request.model_spec.signature_name = signature
        for name, array in inputs.items():
            request.inputs[name].CopyFrom(to_proto(array))
        response = self._call(self._predictions.Predict, request)
        outputs = {name: from_proto(proto) for name, proto in response.outputs.items()}
        return Prediction(outputs, response.model_spec.version.value)

    def status(self) -> list[VersionStatus]:
        """Every version that the server knows, the newest first."""
        response = self._call(self._models.GetModelStatus, get_model_status_pb2.GetModelStatusRequest(model_spec=self._spec()))
        name = get_model_status_pb2.ModelVersionStatus.State.Name
        return [VersionStatus(v.version, name(v.state), v.status.error_message) for v in response.model_version_status]

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _spec(self, version: int | None = None, label: str = "") -> model_pb2.ModelSpec:
        spec = model_pb2.ModelSpec(name=self.model)
        if version is not None:
            spec.version.value = version
        elif label:
            spec.version_label = label
        return spec

    def _call(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=self.timeout)
        except grpc.RpcError as error:
            code, details = error.code().name, error.details()
            advice = {
                "UNAVAILABLE": "Is the model server running? Start it with `tfrec serve`.",
                "DEADLINE_EXCEEDED": f"It had {self.timeout:g} s.",
            }.get(code, "")
            message = f"{self.address}: model {self.model} did not answer: {code}: {details} {advice}".rstrip()
            raise RequestFailed(message, code=code) from error


def _padded(rows: Sequence[Sequence[Any]], fill: str | int | float, *, like: Sequence[Sequence[Any]] | None = None) -> np.ndarray:
    """[batch, width of the longest row (or of `like`, which it lies beside), at least 1]; short rows are filled at the end."""
    width = max((len(row) for row in like or rows), default=0) or 1
    for row, other in zip_longest(rows, rows if like is None else like, fillvalue=()):
        if len(row) not in (0, len(other)):
            raise UsageError(f"recommend: expected as many values as there are items beside them ({len(other)}), got {len(row)}.")
    full = [[*row, *[fill] * (width - len(row))] for row in rows]
    return text_array(full) if isinstance(fill, str) else np.array(full, np.int64 if isinstance(fill, int) else np.float32)


def _ranked(prediction: Prediction) -> list[Recommendation]:
    """Rows of items and scores without their padding."""
    answers = []
    for items, scores in zip(prediction.outputs["items"], prediction.outputs["scores"], strict=True):
        kept = [(item.decode(), score) for item, score in zip(items, scores.tolist(), strict=True) if item]
        answers.append(Recommendation(tuple(i for i, _ in kept), tuple(s for _, s in kept), prediction.version))
    return answers
