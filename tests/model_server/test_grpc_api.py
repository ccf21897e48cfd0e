"""What the embedded server does not have, it refuses by its name; on gRPC and on REST."""
import grpc
import httpx
import pytest
from tensorflow_serving.apis import classification_pb2, inference_pb2, prediction_service_pb2_grpc, regression_pb2

from tests.model_server.tiny import Running


def test_what_is_not_served_is_unimplemented_by_name(server: Running) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for call, request, name in (
            (predictions.Classify, classification_pb2.ClassificationRequest(), "Classify"),
            (predictions.Regress, regression_pb2.RegressionRequest(), "Regress"),
            (predictions.MultiInference, inference_pb2.MultiInferenceRequest(), "MultiInference"),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call(request, timeout=5)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
            assert name in caught.value.details()


def test_classify_and_regress_are_501(server: Running) -> None:
    for name in ("classify", "regress"):
        answer = httpx.post(f"{server.rest}/v1/models/tiny:{name}", content="{}", trust_env=False)
        assert answer.status_code == 501
        assert answer.json() == {"error": f"tfrec's embedded server has no {name}; tensorflow_model_server has."}
