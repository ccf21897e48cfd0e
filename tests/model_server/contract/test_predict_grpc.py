"""The gRPC protocol: Predict, GetModelMetadata, GetModelStatus."""
from typing import Any

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

from tfrec.client.slate_options import nothing_asked
from tfrec.client.tensors import from_proto, to_proto
from tfrec.client.warmup import Request, predict_request

Code = grpc.StatusCode


def ask(signature: str = "", *, model: str = "tiny", **inputs: Any) -> predict_pb2.PredictRequest:
    return predict_request(Request(signature, inputs), model=model)


def doubling(**change: Any) -> predict_pb2.PredictRequest:
    return ask("double", **{"x": np.array([[1.0, 2.0]], np.float32), **change})


def refused(call: Any, request: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=5)
    return caught.value.code(), caught.value.details()


def test_predict_answers_with_name_version_and_signature(predictions: Any) -> None:
    """Predict: the reply's model_spec carries name, version and signature."""
    request = ask(history=[["b", ""], ["", ""]], query=["d", ""], k=np.array([3, 2], np.int32))
    response = predictions.Predict(request, timeout=5)
    assert response.model_spec.name == "tiny"
    assert response.model_spec.version.value == 4
    assert response.model_spec.signature_name == "serving_default"
    assert from_proto(response.outputs["items"]).tolist() == [[b"d", b"a", b"c"], [b"a", b"b", b""]]
    assert from_proto(response.outputs["scores"]).tolist() == [[107.0, 10.0, 8.0], [10.0, 9.0, -np.inf]]


@pytest.mark.parametrize(("version", "label", "answered"), [(3, "", 3), (4, "", 4), (None, "old", 3), (None, "stable", 4)])
def test_a_version_is_chosen_by_number_or_label(predictions: Any, version: int | None, label: str, answered: int) -> None:
    """Labels, gRPC errors: a version is named by number or label."""
    request = doubling()
    if version:
        request.model_spec.version.value = version
    else:
        request.model_spec.version_label = label
    assert predictions.Predict(request, timeout=5).model_spec.version.value == answered


def test_tables_are_initialised(predictions: Any) -> None:
    """Predict: a model's initialisers have run."""
    response = predictions.Predict(ask("echo", item=["c", "nothing"]), timeout=5)
    assert from_proto(response.outputs["code"]).tolist() == [2, -1]


def test_output_filter_chooses_outputs(predictions: Any) -> None:
    """Predict: output_filter works."""
    request = ask(history=[[""]], query=[""], k=np.array([1], np.int32))
    request.output_filter.append("items")
    assert list(predictions.Predict(request, timeout=5).outputs) == ["items"]


def test_a_static_inner_shape_is_not_enforced(predictions: Any) -> None:
    """Predict: a static inner shape was not enforced."""
    response = predictions.Predict(doubling(x=np.array([[1.0, 2.0, 3.0]], np.float32)), timeout=5)
    assert from_proto(response.outputs["y"]).tolist() == [[2.0, 4.0, 6.0]]


def test_wrong_names_are_refused_as_the_real_server_does(predictions: Any) -> None:
    """gRPC errors: NOT_FOUND, FAILED_PRECONDITION and INVALID_ARGUMENT with their messages; Labels: unknown."""
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
    """gRPC errors: INVALID_ARGUMENT for an input key or dtype."""
    one = np.array([1], np.int32)
    for wrong in (ask("double", wrong=one), ask("double", wrong=one, more=one), ask("double")):
        code, message = refused(predictions.Predict, wrong)
        assert code is Code.INVALID_ARGUMENT
        told = "Signature input alias: x(feed name: double_x:0) not found in request and no default value provided"
        assert message.startswith(told)
    code, message = refused(predictions.Predict, doubling(more=one))
    assert (code, message) == (
        Code.INVALID_ARGUMENT,
        "Inputs contains invalid name. Used request inputs: x, request input: more,x",
    )
    code, message = refused(predictions.Predict, doubling(x=one))
    assert code is Code.INVALID_ARGUMENT
    assert "float" in message
    assert "int32" in message
    broken = doubling()
    broken.inputs["x"].tensor_shape.dim[0].size = -1
    assert refused(predictions.Predict, broken) == (Code.INVALID_ARGUMENT, "tensor parsing error: x")


@pytest.mark.parametrize(
    ("sizes", "values", "doubled"),
    [
        ((2, 2), [], [[0.0, 0.0], [0.0, 0.0]]),
        ((2, 2), [1.0], [[2.0, 2.0], [2.0, 2.0]]),
        ((1, 2), [1.0, 2.0, 3.0], [[2.0, 4.0]]),
        ((0, 2), [1.0, 2.0], []),
        ((0, 2), [], []),
    ],
)
def test_values_that_do_not_fill_their_shape(predictions: Any, sizes: Any, values: list[float], doubled: Any) -> None:
    """Predict: `Tensor::FromProto` repeats the last value, or zero where none is sent, and leaves out those beyond the shape."""
    request = doubling()
    del request.inputs["x"].float_val[:]
    request.inputs["x"].float_val.extend(values)
    for dim, size in zip(request.inputs["x"].tensor_shape.dim, sizes, strict=True):
        dim.size = size
    assert from_proto(predictions.Predict(request, timeout=5).outputs["y"]).tolist() == doubled


def test_a_label_that_is_set_and_empty_is_a_label(predictions: Any, models: Any) -> None:
    """Labels: unknown, and the status of a model does not ask for any."""
    request = doubling()
    request.model_spec.version_label = ""
    assert refused(predictions.Predict, request) == (Code.INVALID_ARGUMENT, "Unrecognized servable version label: ")
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name, status.model_spec.version_label = "tiny", "beta"
    assert [v.version for v in models.GetModelStatus(status, timeout=5).model_version_status] == [4, 3]


def test_wrong_output_filters_are_refused(predictions: Any) -> None:
    """Predict, gRPC errors: an output that is not there."""
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
    """gRPC errors: the operator's own code."""
    uneven = {"history_action": [["x", "y"]], "history_age_s": np.array([[1]], np.int64)}
    wishes: dict[str, Any] = {name: [[""]] for name in ("exclude", "allow_tags", "deny_tags", "prior_items")}
    wishes["prior_log_p"] = np.zeros([1, 1], np.float32)
    asked = ask("recommend", history=[["a"]], query=[""], k=np.array([1], np.int32), **uneven, **wishes, **nothing_asked(1))
    code, message = refused(predictions.Predict, asked)
    assert code is Code.INVALID_ARGUMENT
    assert "signature" not in message


def test_long_messages_are_cut(predictions: Any) -> None:
    """gRPC errors: messages are cut at 1024 characters."""
    _, message = refused(predictions.Predict, ask("z" * 2000))
    assert message.endswith("...TRUNCATED")
    assert len(message) == 1024 + len("...TRUNCATED")


def test_metadata_holds_the_signatures(predictions: Any) -> None:
    """gRPC services: GetModelMetadata knows signature_def only."""
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
    """Status: newest first."""
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


def test_packed_tensors_are_read(predictions: Any) -> None:
    """Predict: tensor_content as well as typed fields."""
    request = doubling()
    packed = request.inputs["x"]
    packed.ClearField("float_val")
    packed.tensor_content = np.array([[3.0, 4.0]], np.float32).tobytes()
    assert from_proto(predictions.Predict(request, timeout=5).outputs["y"]).tolist() == [[6.0, 8.0]]
    assert to_proto(np.array([[3.0, 4.0]], np.float32)) != packed
