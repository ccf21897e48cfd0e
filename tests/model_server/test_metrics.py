"""The page that Prometheus reads: the real server's names, labels and buckets."""
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tfrec.model_server.grpc_status import invalid
from tfrec.model_server.metrics import ServerMetrics

NAME = ":tensorflow:serving:"


def test_counts_and_buckets() -> None:
    metrics = ServerMetrics()
    with metrics.request("m", api="Predict", entrypoint="GRPC"):
        pass
    with pytest.raises(ValueError, match="no"), metrics.request('a"\\\n', api="Predict", entrypoint="GRPC"):
        raise ValueError("no")
    with pytest.raises(Exception, match="wrong"), metrics.request("m", api="predict", entrypoint="REST"):
        raise invalid("wrong")
    metrics.queued("pool", 110.0)
    metrics.queued("pool", 1e9)
    page = metrics.page()
    assert f"# TYPE {NAME}request_count counter" in page.splitlines()
    assert f"# TYPE {NAME}request_latency histogram" in page.splitlines()
    assert "_created" not in page
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    value = {(sample.name, *sorted(sample.labels.items())): sample.value for sample in samples}
    for model, status in (("m", "OK"), ('a\\"\\\\\\n', "INTERNAL"), ("m", "INVALID_ARGUMENT")):
        assert f'{NAME}request_count{{model_name="{model}",status="{status}"}} 1.0' in page.splitlines()
    answered = [("API", "Predict"), ("entrypoint", "GRPC"), ("model_name", "m")]
    assert value[f"{NAME}request_latency_count", *answered] == 1
    limits = [sample.labels["le"] for sample in samples if sample.name == f"{NAME}request_latency_bucket"]
    assert limits[:5] == ["10", "18", "32.4", "58.32", "104.976"]
    assert (limits[10], len(limits), limits[-1]) == ("3570.47", 34, "+Inf")
    waited, pool = f"{NAME}batching_session:queuing_latency", ("thread_pool_name", "pool")
    assert [value[f"{waited}_bucket", ("le", limit), pool] for limit in ("100", "120", "+Inf")] == [0, 1, 2]
    assert (value[f"{waited}_count", pool], value[f"{waited}_sum", pool]) == (2, 110 + 1e9)


def test_nothing_is_kept_where_nobody_reads() -> None:
    metrics = ServerMetrics(enabled=False)
    empty = metrics.page()
    with metrics.request("m", api="Predict", entrypoint="GRPC"), metrics.run("m"):
        pass
    assert metrics.page() == empty
