"""What operators of a server look at: metrics, health, the limit of requests under way."""
import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.model_server.contract.conftest import Launch, Running, path_of
from tests.model_server.contract.test_predict_grpc import Code, ask, doubling, refused
from tests.model_server.tiny import save_tiny

PATH = "/monitoring/prometheus/metrics"


@pytest.fixture(scope="module")
def watched(launch: Launch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("watched")
    save_tiny(root / "tiny" / "1")
    file = path_of(root, "monitoring", "prometheus_config { enable: true }")
    flags = {"monitoring_config_file": file, "enable_grpc_healthcheck_service": True}
    with launch(model_name="tiny", model_base_path=str(root / "tiny"), **flags) as running:
        yield running


def value(running: Running, name: str) -> float:
    page = running.http.get(PATH)
    assert page.status_code == 200
    found = re.search(rf"^{re.escape(name)} (\S+)$", page.text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_requests_are_counted_by_model_and_status(watched: Running) -> None:
    """Monitoring: on the REST port; `:tensorflow:serving:request_count`, `request_latency`."""
    counted = {status: f':tensorflow:serving:request_count{{model_name="tiny",status="{status}"}}' for status in ("OK",)}
    failed = ':tensorflow:serving:request_count{model_name="tiny",status="FAILED_PRECONDITION"}'
    latency = ':tensorflow:serving:request_latency_count{model_name="tiny",API="%s",entrypoint="%s"}'
    names = [counted["OK"], failed, latency % ("Predict", "GRPC"), latency % ("predict", "REST")]
    before = [value(watched, name) for name in names]
    watched.predictions.Predict(doubling(), timeout=5)
    refused(watched.predictions.Predict, ask("zz"))
    watched.http.post("/v1/models/tiny:predict", json={"signature_name": "double", "instances": [[1.0, 2.0]]})
    assert [after - value for after, value in zip([value(watched, name) for name in names], before, strict=True)] == [2, 1, 1, 1]
    last = ':tensorflow:serving:request_latency_bucket{model_name="tiny",API="Predict",entrypoint="GRPC",le="+Inf"}'
    assert value(watched, last) == value(watched, names[2])
    assert value(watched, ':tensorflow:serving:runtime_latency_count{model_name="tiny",API="Predict",runtime="TF1"}') >= 2


def test_a_query_is_a_part_of_the_metrics_path(watched: Running) -> None:
    """Monitoring: the exporter compares the whole target with its path."""
    answer = watched.http.get(f"{PATH}?x=1")
    assert (answer.status_code, answer.text) == (400, f"Unexpected path: {PATH}?x=1. Should be {PATH}")


def test_health_is_told_where_it_is_wanted(watched: Running, served: Running) -> None:
    """Health: off without its flag; names "", ModelService and PredictionService."""
    stub = health_pb2_grpc.HealthStub(watched.channel)
    for name in ("", "ModelService", "PredictionService"):
        assert stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5).status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="nothing"), timeout=5)
    assert caught.value.code() is Code.NOT_FOUND
    with pytest.raises(grpc.RpcError) as caught:
        health_pb2_grpc.HealthStub(served.channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert caught.value.code() is Code.UNIMPLEMENTED


def test_the_metrics_have_the_path_of_their_config(launch: Launch, tmp_path: Path) -> None:
    """Monitoring: prometheus_config's path."""
    save_tiny(tmp_path / "tiny" / "1")
    file = path_of(tmp_path, "monitoring", 'prometheus_config { enable: true path: "/v1/metrics" }')
    with launch(model_name="tiny", model_base_path=str(tmp_path / "tiny"), monitoring_config_file=file) as running:
        assert running.http.get("/v1/metrics").status_code == 200
        assert running.http.get(PATH).status_code == 404
