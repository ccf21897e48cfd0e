"""A typed client of the model server over gRPC, the same for the real server and the embedded one.

    with Client("localhost:8500", model="tfrec") as client:
        answer, = client.recommend(history=[["heat", "ronin"]], query=["crime"], k=10)

Every call is a batch: one history, query and answer per person. A call ends within `timeout` seconds, retries included, or at the
deadline of the work that it is part of (`deadline.py`). Only what the server refused to begin is tried again, so nothing is
computed twice: a few times when it is down, until the time is up when it is busy.
"""
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Unpack

import grpc
import numpy as np
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tfrec.client.deadline import allowed
from tfrec.client.inputs import NO_SCORE, Arrays, HistoryInputs, RecommendInputs, behaviour, checked, each, padded, wanted
from tfrec.client.tensors import from_proto, text_array, to_proto
from tfrec.errors import ServingError, UsageError

EPSILON = 0.05  # one place in twenty is chosen from everything that may come
ALPHA = 1.0  # standard deviations
TEMPERATURE = 0.5  # scores are logits: at 1 a slate would be drawn as often as the model holds it to be wanted

_BUSY_SECONDS = (0.05, 0.5)  # between two tries of a server that is busy: the first pause, the longest
_METADATA = "signature_def"
_EXPLAINED = ("scores", "popularity", "history_weights", "tokens", "token_weights")  # outputs of `explain`


class RequestFailed(ServingError):
    """The server did not answer; `code` is the name of the gRPC status, `down` says that no server answered at all."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code
        self.down = code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")


class LabelNotServed(RequestFailed):
    """No version has the label that was asked for."""


class SignatureNotServed(RequestFailed):
    """The version has no such signature: another tfrec made it, or it was exported without."""


@dataclass(frozen=True)
class Recommendation:
    """One answer: item ids with their scores, best first, and the version of the model that gave it."""

    items: tuple[str, ...]
    scores: tuple[float, ...]
    version: int


@dataclass(frozen=True)
class Exploration(Recommendation):
    """An answer drawn at random, in the order of its places, with each item's log probability given the earlier ones."""

    log_propensities: tuple[float, ...]


@dataclass(frozen=True)
class Explanation:
    """Why an item has its score; weights are what it would lose without a part, in units of the score."""

    score: float  # -inf: the item is not known
    popularity: float  # what popularity adds to it
    history: tuple[float, ...]  # the weight of each event, as they were sent; 0 for one that is not read
    query: tuple[tuple[str, float], ...]  # the query's word pieces with their weights
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
        self._retries = attempts > 1
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
            ("grpc.enable_retries", int(self._retries)),
            ("grpc.service_config", json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})),
            ("grpc.max_reconnect_backoff_ms", 1000),  # a server that comes back is found within a second
        ]
        self._channel = grpc.insecure_channel(address, options=options)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def recommend(self, *, version: int | None = None, label: str = "", **asked: Unpack[RecommendInputs]) -> list[Recommendation]:
        """The best `k` items for each history (oldest first) and query; either may be empty.

        Args:
            version, label: another version than the newest.
            asked: the history and query of each person, and what they may get (`inputs.RecommendInputs`).
        """
        return _ranked(self.predict("recommend", checked("recommend", wanted(**asked)), version=version, label=label))

    def explore(
        self,
        *,
        seed: Sequence[int],
        temperature: float | Sequence[float] = TEMPERATURE,
        epsilon: float | Sequence[float] = EPSILON,
        version: int | None = None,
        label: str = "",
        **asked: Unpack[RecommendInputs],
    ) -> list[Exploration]:
        """As `recommend`, but drawn at random, with what learning from the outcomes needs to know: the propensities.

        Args:
            seed: of each history: the same seed and inputs draw the same slate, so a request that is tried again is safe.
            temperature: of the softmax over the shortlist's scores; 0 leaves only `epsilon`.
            epsilon: chance of a uniform choice among all that may come, in each place; with 0 some items can never come.
            version, label, asked: as for `recommend`.
        """
        inputs = wanted(**asked)
        n = len(inputs["history"])
        policy = {"temperature": each(temperature, n, np.float32), "epsilon": each(epsilon, n, np.float32)}
        if not ((policy["temperature"] >= 0).all() and (abs(policy["epsilon"] - 0.5) <= 0.5).all()):
            raise UsageError(f"explore: temperature must be 0 or more and epsilon from 0 to 1, got {temperature} and {epsilon}.")
        inputs |= policy | {"seed": np.array(seed, np.int64)}
        prediction = self.predict("explore", checked("explore", inputs), version=version, label=label)
        return [
            Exploration(answer.items, answer.scores, answer.version, tuple(log_pi[: len(answer.items)]))
            for answer, log_pi in zip(_ranked(prediction), prediction.outputs["log_propensities"].tolist(), strict=True)
        ]

    def thompson(
        self,
        *,
        seed: Sequence[int],
        alpha: float | Sequence[float] = ALPHA,
        version: int | None = None,
        label: str = "",
        **asked: Unpack[RecommendInputs],
    ) -> list[Recommendation]:
        """As `recommend`, but by weights drawn at random from what feedback leaves uncertain (Thompson sampling).

        Args:
            seed: of each history: the same seed and inputs draw the same weights.
            alpha: times the standard deviation of the draw; 0 draws nothing.
            version, label, asked: as for `recommend`.
        """
        inputs = _hopeful("thompson", alpha, wanted(**asked)) | {"seed": np.array(seed, np.int64)}
        return _ranked(self.predict("thompson", checked("thompson", inputs), version=version, label=label))

    def linucb(
        self, *, alpha: float | Sequence[float] = ALPHA, version: int | None = None, label: str = "",
        **asked: Unpack[RecommendInputs],
    ) -> list[Recommendation]:
        """As `recommend`, but each score is raised by `alpha` times its standard deviation (LinUCB): the unsure is tried."""
        inputs = _hopeful("linucb", alpha, wanted(**asked))
        return _ranked(self.predict("linucb", checked("linucb", inputs), version=version, label=label))

    def explain(
        self, *, item: Sequence[str], version: int | None = None, label: str = "", **known: Unpack[HistoryInputs]
    ) -> list[Explanation]:
        """Why each `item` has the score that it has for the history and query beside it."""
        inputs = checked("explain", behaviour(**known) | {"item": text_array(list(item))})
        prediction = self.predict("explain", inputs, version=version, label=label)
        out = {name: array.tolist() for name, array in prediction.outputs.items()}
        rows = zip(known["history"], *(out[name] for name in _EXPLAINED), strict=True)
        return [
            # the first event is the padding in front (`inputs.padded`)
            Explanation(_score(score), popularity, tuple(weights[1 : 1 + len(own)]),
                        tuple((token.decode(), weight) for token, weight in zip(tokens, parts, strict=True) if token),
                        prediction.version)
            for own, score, popularity, weights, tokens, parts in rows
        ]

    def rank(
        self,
        *,
        candidates: Sequence[Sequence[str]],
        version: int | None = None,
        label: str = "",
        **known: Unpack[HistoryInputs],
    ) -> list[tuple[float, ...]]:
        """The score of each history's own `candidates`, in their order, as `recommend` has it; -inf for an unknown item."""
        inputs = checked("rank", behaviour(**known) | {"candidates": padded(candidates, "")})
        scores = self.predict("rank", inputs, version=version, label=label).outputs["scores"].tolist()
        # the first column is the padding in front (`inputs.padded`)
        return [tuple(map(_score, row[1 : 1 + len(own)])) for row, own in zip(scores, candidates, strict=True)]

    def similar(self, items: Sequence[str], *, k: int = 10, version: int | None = None, label: str = "") -> list[Recommendation]:
        """The `k` items nearest to each of `items`."""
        inputs = {"item": text_array(list(items)), "k": np.full(len(items), k, np.int32)}
        return _ranked(self.predict("similar", inputs, version=version, label=label))

    def embed_query(
        self, *, history: Sequence[Sequence[str]], query: Sequence[str] | None = None, version: int | None = None, label: str = ""
    ) -> np.ndarray:
        """Vectors `[batch, dim]`: the inner product with an item's vector is its score without popularity."""
        inputs = checked("embed_query", behaviour(history=history, query=query or [""] * len(history)))
        asked = {name: inputs[name] for name in ("history", "query")}
        return self.predict("embed_query", asked, version=version, label=label).outputs["vectors"]

    def embed_item(self, texts: Sequence[str], *, version: int | None = None, label: str = "") -> np.ndarray:
        """Unit vectors `[batch, dim]` of items that say no more than their text."""
        return self.predict("embed_item", {"text": text_array(list(texts))}, version=version, label=label).outputs["vectors"]

    def predict(
        self, signature: str, inputs: Mapping[str, np.ndarray], *, version: int | None = None, label: str = ""
    ) -> Prediction:
        """Call any signature with arrays; text as arrays of bytes objects (`tensors.text_array`)."""
        request = predict_pb2.PredictRequest(model_spec=self._spec(version, label))
        request.model_spec.signature_name = signature
        for name, array in inputs.items():
            request.inputs[name].CopyFrom(to_proto(array))
        try:
            response = self._call(self._predictions.Predict, request)
        except RequestFailed as error:
            raise self._typed(error, request.model_spec) from error
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
        seconds = allowed(self.timeout)
        end, (pause, longest) = time.monotonic() + seconds, _BUSY_SECONDS
        while True:
            try:
                return method(request, timeout=max(0.001, end - time.monotonic()))
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and self._retries and time.monotonic() + pause < end:
                    time.sleep(pause)
                    pause = min(2 * pause, longest)
                    continue
                code, details = error.code().name, error.details()
                advice = {
                    "UNAVAILABLE": "Is the model server running? Start it with `tfrec serve`.",
                    "DEADLINE_EXCEEDED": f"It had {seconds:.3g} s.",
                }.get(code, "")
                message = f"{self.address}: model {self.model} did not answer: {code}: {details} {advice}".rstrip()
                raise RequestFailed(message, code=code) from error

    def _typed(self, error: RequestFailed, spec: model_pb2.ModelSpec) -> RequestFailed:
        """The error, as one that says what is missing where that is so.

        A status code has several causes, and its text is another program's. So the server is asked what it has: a question for
        metadata is refused as invalid only for its label, and names the signatures.
        """
        label = spec.version_label
        if error.code == "FAILED_PRECONDITION" or (error.code == "INVALID_ARGUMENT" and label):
            request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=[_METADATA])
            try:
                answer = self._call(self._predictions.GetModelMetadata, request)
            except RequestFailed as other:
                return LabelNotServed(str(error), code=error.code) if other.code == "INVALID_ARGUMENT" and label else error
            known = get_model_metadata_pb2.SignatureDefMap()
            answer.metadata[_METADATA].Unpack(known)
            if spec.signature_name not in known.signature_def:
                return SignatureNotServed(str(error), code=error.code)
        return error


def _hopeful(signature: str, alpha: float | Sequence[float], inputs: Arrays) -> Arrays:
    """`inputs` with `alpha`, which must not be negative: a bandit that shuns what it does not know never learns."""
    given = each(alpha, len(inputs["history"]), np.float32)
    if not (given >= 0).all():
        raise UsageError(f"{signature}: alpha must be 0 or more, got {alpha}.")
    return inputs | {"alpha": given}


def _score(value: float) -> float:
    return value if value != NO_SCORE else -math.inf


def _ranked(prediction: Prediction) -> list[Recommendation]:
    """Rows of items and scores without their padding."""
    answers = []
    for items, scores in zip(prediction.outputs["items"], prediction.outputs["scores"], strict=True):
        kept = [(item.decode(), score) for item, score in zip(items, scores.tolist(), strict=True) if item]
        answers.append(Recommendation(tuple(i for i, _ in kept), tuple(s for _, s in kept), prediction.version))
    return answers
