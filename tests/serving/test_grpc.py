"""The gRPC protocol, case by case as `serving.md` has it for the real server."""
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from tests.serving.conftest import Running
from tfrec.serving.tensors import from_proto, to_proto
from tfrec.serving.warmup import Request, predict_request

Code = grpc.StatusCode


@pytest.fixture(scope="module")
def channel(server: Running) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc) as channel:
        yield channel


@pytest.fixture(scope="module")
def predictions(channel: grpc.Channel) -> Any:
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def models(channel: grpc.Channel) -> Any:
    return model_service_pb2_grpc.ModelServiceStub(channel)


def ask(signature: str = "", *, model: str = "tiny", **inputs: Any) -> predict_pb2.PredictRequest:
    return predict_request(Request(signature, inputs), model=model)


def doubling(**change: Any) -> predict_pb2.PredictRequest:
    return ask("double", **{"x": np.array([[1.0, 2.0]], np.float32), **change})


def refused(call: Any, request: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=5)
    return caught.value.code(), caught.value.details()


def test_predict_answers_with_name_version_and_signature(predictions: Any) -> None:
    request = ask(history=[["b", ""], ["", ""]], query=["d", ""], k=np.array([3, 2], np.int32))
    response = predictions.Predict(request, timeout=5)
    assert response.model_spec.name == "tiny"
    assert response.model_spec.version.value == 4
    assert response.model_spec.signature_name == "serving_default"
    assert from_proto(response.outputs["items"]).tolist() == [[b"d", b"a", b"c"], [b"a", b"b", b""]]
    assert from_proto(response.outputs["scores"]).tolist() == [[107.0, 10.0, 8.0], [10.0, 9.0, -np.inf]]


@pytest.mark.parametrize(("version", "label", "answered"), [(3, "", 3), (4, "", 4), (None, "old", 3), (None, "stable", 4)])
def test_a_version_is_chosen_by_number_or_label(predictions: Any, version: int | None, label: str, answered: int) -> None:
    request = doubling()
    if version:
        request.model_spec.version.value = version
    else:
        request.model_spec.version_label = label
    assert predictions.Predict(request, timeout=5).model_spec.version.value == answered


def test_tables_are_initialised(predictions: Any) -> None:
    response = predictions.Predict(ask("echo", item=["c", "nothing"]), timeout=5)
    assert from_proto(response.outputs["code"]).tolist() == [2, -1]


def test_output_filter_chooses_outputs(predictions: Any) -> None:
    request = ask(history=[[""]], query=[""], k=np.array([1], np.int32))
    request.output_filter.append("items")
    assert list(predictions.Predict(request, timeout=5).outputs) == ["items"]


def test_a_static_inner_shape_is_not_enforced(predictions: Any) -> None:
    response = predictions.Predict(doubling(x=np.array([[1.0, 2.0, 3.0]], np.float32)), timeout=5)
    assert from_proto(response.outputs["y"]).tolist() == [[2.0, 4.0, 6.0]]


def test_wrong_names_are_refused_as_the_real_server_does(predictions: Any) -> None:
    request = doubling()
    request.model_spec.name = "x"
    assert refused(predictions.Predict, request) == (Code.NOT_FOUND, "Servable not found for request: Latest(x)")
    request.model_spec.version.value = 77
    assert refused(predictions.Predict, request) == (Code.NOT_FOUND, "Servable not found for request: Specific(x, 77)")
    request.model_spec.name = "tiny"
    assert refused(predictions.Predict, request) == (Code.NOT_FOUND, "Servable not found for request: Specific(tiny, 77)")
    request.model_spec.version_label = "beta"
    assert refused(predictions.Predict, request) == (Code.INVALID_ARGUMENT, "Unrecognized servable version label: beta")
    assert refused(predictions.Predict, ask("zz")) == (Code.FAILED_PRECONDITION, 'Serving signature key "zz" not found.')
    assert refused(predictions.Predict, ask(model="")) == (Code.INVALID_ARGUMENT, "ModelSpec has no name specified.")
    assert refused(predictions.Predict, predict_pb2.PredictRequest()) == (Code.INVALID_ARGUMENT, "Missing ModelSpec")


def test_wrong_inputs_are_refused(predictions: Any) -> None:
    one = np.array([1], np.int32)
    code, message = refused(predictions.Predict, ask("double", wrong=one))
    assert (code, message) == (
        Code.INVALID_ARGUMENT,
        "input tensor alias not found in signature: wrong. Inputs expected to be in the set {x}.",
    )
    code, message = refused(predictions.Predict, ask(k=one, more=one))
    assert code is Code.INVALID_ARGUMENT
    assert message == (
        "input size does not match signature: 2!=3 len({k,more}) != len({history,k,query}). "
        "Sent extra: {more}. Missing but required: {history,query}."
    )
    code, message = refused(predictions.Predict, doubling(x=one))
    assert code is Code.INVALID_ARGUMENT
    assert "float" in message
    assert "int32" in message
    broken = doubling()
    broken.inputs["x"].tensor_shape.dim[0].size = 0
    assert refused(predictions.Predict, broken) == (Code.INVALID_ARGUMENT, "tensor parsing error: x")


def test_wrong_output_filters_are_refused(predictions: Any) -> None:
    request = doubling()
    request.output_filter.append("z")
    code, message = refused(predictions.Predict, request)
    assert (code, message) == (
        Code.INVALID_ARGUMENT,
        "output tensor alias not found in signature: z Outputs expected to be in the set {y}.",
    )
    request.output_filter[:] = ["y", "y"]
    assert refused(predictions.Predict, request) == (Code.INVALID_ARGUMENT, "duplicate output tensor alias: y")


def test_an_operator_that_fails_is_the_requests_fault(predictions: Any) -> None:
    uneven = {"history_action": [["x", "y"]], "history_age_s": np.array([[1]], np.int64)}
    wishes: dict[str, Any] = {name: [[""]] for name in ("exclude", "allow_tags", "deny_tags", "prior_items")}
    wishes["prior_log_p"] = np.zeros([1, 1], np.float32)
    asked = ask("recommend", history=[["a"]], query=[""], k=np.array([1], np.int32), **uneven, **wishes)
    code, message = refused(predictions.Predict, asked)
    assert code is Code.INVALID_ARGUMENT
    assert "signature" not in message


def test_long_messages_are_cut(predictions: Any) -> None:
    _, message = refused(predictions.Predict, ask("z" * 2000))
    assert message.endswith("...TRUNCATED")
    assert len(message) == 1024 + len("...TRUNCATED")


def test_metadata_holds_the_signatures(predictions: Any) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "tiny"
    response = predictions.GetModelMetadata(request, timeout=5)
    assert response.model_spec.version.value == 4
    found = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(found)
    assert {"serving_default", "recommend", "similar", "double", "echo"} <= set(found.signature_def)
    assert sorted(found.signature_def["serving_default"].inputs) == ["history", "k", "query"]

    request.metadata_field[:] = ["graph"]
    assert refused(predictions.GetModelMetadata, request) == (Code.INVALID_ARGUMENT, "Metadata field graph is not supported")
    request.metadata_field[:] = []
    assert refused(predictions.GetModelMetadata, request)[0] is Code.INVALID_ARGUMENT


def test_status_is_newest_first(models: Any) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "tiny"
    response = models.GetModelStatus(request, timeout=5)
    assert [(v.version, v.state, v.status.error_code) for v in response.model_version_status] == [(4, 30, 0), (3, 30, 0)]
    request.model_spec.version.value = 3
    assert [v.version for v in models.GetModelStatus(request, timeout=5).model_version_status] == [3]
    request.model_spec.version.value = 77
    assert refused(models.GetModelStatus, request) == (Code.NOT_FOUND, "Could not find version 77 of model tiny")
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "x"
    assert refused(models.GetModelStatus, request) == (Code.NOT_FOUND, "Could not find any versions of model x")


def test_what_is_not_served_is_unimplemented_by_name(predictions: Any, models: Any) -> None:
    for call, request, name in (
        (predictions.Classify, classification_pb2.ClassificationRequest(), "Classify"),
        (predictions.Regress, regression_pb2.RegressionRequest(), "Regress"),
        (predictions.MultiInference, inference_pb2.MultiInferenceRequest(), "MultiInference"),
        (models.HandleReloadConfigRequest, model_management_pb2.ReloadConfigRequest(), "HandleReloadConfigRequest"),
    ):
        code, message = refused(call, request)
        assert code is Code.UNIMPLEMENTED
        assert name in message


def test_packed_tensors_are_read(predictions: Any) -> None:
    request = doubling()
    packed = request.inputs["x"]
    packed.ClearField("float_val")
    packed.tensor_content = np.array([[3.0, 4.0]], np.float32).tobytes()
    assert from_proto(predictions.Predict(request, timeout=5).outputs["y"]).tolist() == [[6.0, 8.0]]
    assert to_proto(np.array([[3.0, 4.0]], np.float32)) != packed
