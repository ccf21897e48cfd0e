"""A typed client of the model server over gRPC. It works alike with TensorFlow Serving and with the embedded server.

    with Client("localhost:8500", model="tfrec") as client:
        answer, = client.recommend(history=[["heat", "ronin"]], query=["crime"], k=10)

Every call is a batch: one history, query and answer per user. `transport.py` describes timeouts and retries.
"""
import math
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Unpack

import numpy as np

from tfrec.client.inputs import (
    NO_SCORE,
    HistoryInputs,
    RankedInputs,
    RecommendInputs,
    SlateInputs,
    check_rows,
    history_inputs,
    recommend_inputs,
)
from tfrec.client.padding import Arrays, one_per_row, padded
from tfrec.client.protos import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tfrec.client.request_errors import LabelNotServed, RequestFailed
from tfrec.client.results import Explanation, Exploration, Prediction, Recommendation, VersionStatus
from tfrec.client.slate_options import HeadWeights, head_inputs
from tfrec.client.tensors import from_proto, text_array, to_proto
from tfrec.client.transport import Transport
from tfrec.client.version_inputs import VersionInputs, inputs_of, may_differ
from tfrec.config import ClientTls
from tfrec.errors import UsageError

EPSILON = 0.05  # one position in twenty is chosen from all items that may be shown
ALPHA = 1.0  # standard deviations
TEMPERATURE = 0.5  # scores are logits: at 1, slates are drawn in proportion to the model's own probabilities

_EXPLAINED = ("scores", "popularity", "history_weights", "tokens", "token_weights")  # outputs of `explain`


class Client:
    """A connection to one model. Safe to share between threads.

    Args:
        address: host:port of the server's gRPC.
        model: the name by which the server knows the model.
        timeout: seconds that a call may take, retries included.
        attempts: how often a call is tried while the server is down; 1 turns all retries off.
        tls: certificates; by default the connection is not encrypted.

    Raises:
        UsageError: a certificate or key of `tls` cannot be used.
    """

    def __init__(self, address: str, *, model: str = "tfrec", timeout: float = 2.0, attempts: int = 3,
                 tls: ClientTls | None = None) -> None:
        self._model = model
        self._versions = VersionInputs()
        self._transport = Transport(address, timeout=timeout, attempts=attempts, tls=tls or ClientTls())
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._transport.channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._transport.channel)

    def recommend(self, *, version: int | None = None, label: str = "", **asked: Unpack[SlateInputs]) -> list[Recommendation]:
        """Return the best `k` items for each history and query; either may be empty.

        With `diversity` or `caps`, items are in the order in which they were chosen, and their scores need not descend.

        Args:
            version: number of the version that answers; by default the newest.
            label: label of the version that answers, if no number is given.
            asked: the history and query of each user, what may be answered, and how items go together (`inputs.SlateInputs`).
        """
        return _slates(self.predict("recommend", recommend_inputs("recommend", **asked), version=version, label=label))

    def explore(
        self, *, seed: Sequence[int], temperature: float | Sequence[float] = TEMPERATURE,
        epsilon: float | Sequence[float] = EPSILON, version: int | None = None, label: str = "", **asked: Unpack[RankedInputs],
    ) -> list[Exploration]:
        """Draw slates at random, as `recommend` otherwise, and return the propensities that learning from outcomes needs.

        Args:
            seed: one per history. The same seed and inputs draw the same slate, so a retry is safe.
            temperature: of the softmax over the scores of the shortlist; at 0 only `epsilon` leaves anything to chance.
            epsilon: probability, in each position, of a uniform choice among all items that may be shown. At 0 the items
                outside the shortlist are never shown.
            version: as for `recommend`.
            label: as for `recommend`.
            asked: as for `recommend`.
        """
        n = len(asked["history"])
        policy = {"temperature": one_per_row(temperature, n, np.float32), "epsilon": one_per_row(epsilon, n, np.float32)}
        if not ((policy["temperature"] >= 0).all() and (abs(policy["epsilon"] - 0.5) <= 0.5).all()):
            raise UsageError(f"explore: temperature must be 0 or more and epsilon from 0 to 1, got {temperature} and {epsilon}.")
        inputs = recommend_inputs("explore", **asked) | policy | {"seed": np.array(seed, np.int64)}
        prediction = self.predict("explore", check_rows("explore", inputs), version=version, label=label)
        return [
            Exploration(answer.items, answer.scores, answer.version, tuple(log_pi[: len(answer.items)]))
            for answer, log_pi in zip(_slates(prediction), prediction.outputs["log_propensities"].tolist(), strict=True)
        ]

    def thompson(
        self, *, seed: Sequence[int], alpha: float | Sequence[float] = ALPHA, version: int | None = None, label: str = "",
        **asked: Unpack[RecommendInputs],
    ) -> list[Recommendation]:
        """Rank by weights that are drawn from their posterior distribution given the feedback (Thompson sampling).

        Args:
            seed: one per history. The same seed and inputs draw the same weights.
            alpha: factor of the posterior's standard deviation; 0 draws nothing.
            version: as for `recommend`.
            label: as for `recommend`.
            asked: as for `recommend`.
        """
        inputs = _bandit_inputs("thompson", alpha, asked) | {"seed": np.array(seed, np.int64)}
        return _slates(self.predict("thompson", check_rows("thompson", inputs), version=version, label=label))

    def linucb(
        self, *, alpha: float | Sequence[float] = ALPHA, version: int | None = None, label: str = "",
        **asked: Unpack[RecommendInputs],
    ) -> list[Recommendation]:
        """Rank by the upper confidence bound of each score: `alpha` standard deviations are added to it (LinUCB)."""
        inputs = _bandit_inputs("linucb", alpha, asked)
        return _slates(self.predict("linucb", check_rows("linucb", inputs), version=version, label=label))

    def explain(
        self, *, item: Sequence[str], version: int | None = None, label: str = "", **known: Unpack[HistoryInputs]
    ) -> list[Explanation]:
        """Explain the score of each `item` for the history and query beside it."""
        inputs = check_rows("explain", history_inputs(**known) | {"item": text_array(list(item))})
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
        self, *, candidates: Sequence[Sequence[str]], head_weights: Sequence[HeadWeights | None] | None = None,
        version: int | None = None, label: str = "", **known: Unpack[HistoryInputs],
    ) -> list[tuple[float, ...]]:
        """Return the scores of each history's own `candidates`, in their order; -inf for an item that is not known."""
        scores = self._ranked(candidates, head_weights, known, version=version, label=label).outputs["scores"].tolist()
        # the first column is the padding in front (`inputs.padded`)
        return [tuple(map(_score, row[1 : 1 + len(own)])) for row, own in zip(scores, candidates, strict=True)]

    def predict_actions(
        self, *, candidates: Sequence[Sequence[str]], version: int | None = None, label: str = "", **known: Unpack[HistoryInputs]
    ) -> list[list[dict[str, float]]]:
        """Return, for each history's own `candidates`, the probability of each action that the second stage predicts.

        An item that is not known has probabilities of 0. A version without a second stage predicts no action.
        """
        out = self._ranked(candidates, None, known, version=version, label=label).outputs
        if "heads" not in out:
            return [[{} for _ in own] for own in candidates]
        names = [name.decode() for name in out["heads"][0].tolist()]
        return [[dict(zip(names, one, strict=True)) for one in row[1 : 1 + len(own)]]
                for row, own in zip(out["head_scores"].tolist(), candidates, strict=True)]

    def similar(self, items: Sequence[str], *, k: int = 10, version: int | None = None, label: str = "") -> list[Recommendation]:
        """Return the `k` nearest items to each of `items`."""
        inputs = {"item": text_array(list(items)), "k": np.full(len(items), k, np.int32)}
        return _slates(self.predict("similar", inputs, version=version, label=label))

    def embed_query(
        self, *, history: Sequence[Sequence[str]], query: Sequence[str] | None = None, version: int | None = None, label: str = ""
    ) -> np.ndarray:
        """Return vectors `[batch, dim]` whose inner product with an item's vector is the score without popularity."""
        inputs = check_rows("embed_query", history_inputs(history=history, query=query or [""] * len(history)))
        asked = {name: inputs[name] for name in ("history", "query")}
        return self.predict("embed_query", asked, version=version, label=label).outputs["vectors"]

    def embed_item(self, texts: Sequence[str], *, version: int | None = None, label: str = "") -> np.ndarray:
        """Return unit vectors `[batch, dim]` of items that have a text and nothing else."""
        return self.predict("embed_item", {"text": text_array(list(texts))}, version=version, label=label).outputs["vectors"]

    def predict(
        self, signature: str, inputs: Mapping[str, np.ndarray], *, version: int | None = None, label: str = ""
    ) -> Prediction:
        """Call any signature with arrays. Text must be an array of bytes objects (`tensors.text_array`).

        A version with features gets the inputs `contract.CONTEXT` also where they are not given, as not known; one without does
        not get them where they are.

        Raises:
            LabelNotServed: no version has `label`.
            InputNotServed: the version was exported before it had an input that asks for something.
            RequestFailed: any other failure.
        """
        given, asked = dict(inputs), (version, label, signature)
        sent = self._versions.fitted(asked, given)
        try:
            return self._predict(signature, sent, self._spec(version, label))
        except RequestFailed as error:
            if error.code != "INVALID_ARGUMENT" or not (label or may_differ(signature, given)):
                raise
            known = self._known_inputs(signature, self._spec(version, label), error)
            again = self._versions.refused(asked, sent, given, known, error)
        return self._predict(signature, again, self._spec(version, label))

    def status(self) -> list[VersionStatus]:
        """Return the state of every version that the server knows, the newest first."""
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=self._spec())
        response = self._transport.call(self._models.GetModelStatus, request)
        name = get_model_status_pb2.ModelVersionStatus.State.Name
        return [VersionStatus(v.version, name(v.state), v.status.error_message) for v in response.model_version_status]

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _ranked(self, candidates: Sequence[Sequence[str]], weights: Sequence[HeadWeights | None] | None, known: HistoryInputs, *,
                version: int | None, label: str) -> Prediction:
        """The answer of `rank`."""
        inputs = history_inputs(**known) | head_inputs(weights, len(known["history"])) | {"candidates": padded(candidates, "")}
        return self.predict("rank", check_rows("rank", inputs), version=version, label=label)

    def _spec(self, version: int | None = None, label: str = "") -> model_pb2.ModelSpec:
        spec = model_pb2.ModelSpec(name=self._model)
        if version is not None:
            spec.version.value = version
        elif label:
            spec.version_label = label
        return spec

    def _predict(self, signature: str, inputs: Arrays, spec: model_pb2.ModelSpec) -> Prediction:
        request = predict_pb2.PredictRequest(model_spec=spec)
        request.model_spec.signature_name = signature
        for name, array in inputs.items():
            request.inputs[name].CopyFrom(to_proto(array))
        response = self._transport.call(self._predictions.Predict, request)
        outputs = {name: from_proto(proto) for name, proto in response.outputs.items()}
        return Prediction(outputs, response.model_spec.version.value)

    def _known_inputs(self, signature: str, spec: model_pb2.ModelSpec, error: RequestFailed) -> frozenset[str]:
        """The inputs that the signature has in the version that refused a request with `error`.

        TensorFlow Serving answers INVALID_ARGUMENT for an unknown label and for a wrong input alike, and its text is no
        contract. A request for metadata has no inputs: if it is invalid, the label is the cause.

        Raises:
            LabelNotServed: the label is the cause.
            RequestFailed: the error, where the server does not say what inputs there are.
        """
        request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
        try:
            return inputs_of(self._transport.call(self._predictions.GetModelMetadata, request), signature)
        except RequestFailed as unknown:
            if spec.version_label and unknown.code == "INVALID_ARGUMENT":
                raise LabelNotServed(str(error), code=error.code) from error
            raise error from unknown


def _bandit_inputs(signature: str, alpha: float | Sequence[float], asked: RecommendInputs) -> Arrays:
    """The inputs of a bandit's signature. A negative `alpha` would avoid what is uncertain, so nothing would be learnt."""
    given = one_per_row(alpha, len(asked["history"]), np.float32)
    if not (given >= 0).all():
        raise UsageError(f"{signature}: alpha must be 0 or more, got {alpha}.")
    return recommend_inputs(signature, **asked) | {"alpha": given}


def _score(value: float) -> float:
    return value if value != NO_SCORE else -math.inf


def _slates(prediction: Prediction) -> list[Recommendation]:
    """Rows of items and scores without their padding."""
    answers = []
    for items, scores in zip(prediction.outputs["items"], prediction.outputs["scores"], strict=True):
        kept = [(item.decode(), score) for item, score in zip(items, scores.tolist(), strict=True) if item]
        answers.append(Recommendation(tuple(i for i, _ in kept), tuple(s for _, s in kept), prediction.version))
    return answers
