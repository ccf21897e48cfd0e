"""What operators of a server look at: metrics, health, the limit of requests under way."""
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from tests.model_server.contract.conftest import Launch, Running, path_of
from tests.model_server.contract.test_predict_grpc import Code, ask, doubling, refused
from tests.model_server.tiny import save_tiny

NAME = ":tensorflow:serving:"
PATH = "/monitoring/prometheus/metrics"


@pytest.fixture(scope="module")
def watched(launch: Launch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("watched")
    save_tiny(root / "tiny" / "1")
    file = path_of(root, "monitoring", "prometheus_config { enable: true }")
    flags = {"monitoring_config_file": file, "enable_grpc_healthcheck_service": True}
    with launch(model_name="tiny", model_base_path=str(root / "tiny"), **flags) as running:
        yield running


def value(running: Running, name: str, **labels: str) -> float:
    page = running.http.get(PATH)
    assert page.status_code == 200
    assert f"# TYPE {NAME}request_count counter" in page.text.splitlines()
    samples = [sample for family in text_string_to_metric_families(page.text) for sample in family.samples]
    names = (NAME + name, f"{NAME}{name}_total")  # the parser adds the latter's ending to a counter that has none
    return sum(sample.value for sample in samples if sample.name in names and sample.labels == labels)


def test_requests_are_counted_by_model_and_status(watched: Running) -> None:
    """Monitoring: on the REST port; `:tensorflow:serving:request_count`, `request_latency`."""
    grpc_latency = {"model_name": "tiny", "API": "Predict", "entrypoint": "GRPC"}

    def counts() -> list[float]:
        return [
            value(watched, "request_count", model_name="tiny", status="OK"),
            value(watched, "request_count", model_name="tiny", status="FAILED_PRECONDITION"),
            value(watched, "request_latency_count", **grpc_latency),
            value(watched, "request_latency_count", model_name="tiny", API="predict", entrypoint="REST"),
        ]

    before = counts()
    watched.predictions.Predict(doubling(), timeout=5)
    refused(watched.predictions.Predict, ask("zz"))
    watched.http.post("/v1/models/tiny:predict", json={"signature_name": "double", "instances": [[1.0, 2.0]]})
    after = counts()
    assert [new - old for new, old in zip(after, before, strict=True)] == [2, 1, 1, 1]
    assert value(watched, "request_latency_bucket", le="+Inf", **grpc_latency) == after[2]
    assert value(watched, "runtime_latency_count", model_name="tiny", API="Predict", runtime="TF1") >= 2


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
