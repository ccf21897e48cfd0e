"""The page that Prometheus reads, line by line."""
import pytest

from tfrec.model_server.grpc_status import invalid
from tfrec.model_server.metrics import ServerMetrics


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
    lines = metrics.page().splitlines()
    name = ":tensorflow:serving:request_count"
    assert lines[:4] == [
        f"# TYPE {name} counter",
        f'{name}{{model_name="m",status="OK"}} 1',
        f'{name}{{model_name="a\\"\\\\\\n",status="INTERNAL"}} 1',
        f'{name}{{model_name="m",status="INVALID_ARGUMENT"}} 1',
    ]
    latency = ":tensorflow:serving:request_latency"
    assert f"# TYPE {latency} histogram" in lines
    assert f'{latency}_count{{model_name="m",API="Predict",entrypoint="GRPC"}} 1' in lines
    limits = [line.split('le="')[1].split('"')[0] for line in lines if line.startswith(f"{latency}_bucket")]
    assert limits[:5] == ["10", "18", "32.4", "58.32", "104.976"]
    assert (len(limits), limits[-1]) == (34, "+Inf")
    waited = ':tensorflow:serving:batching_session:queuing_latency_%s{thread_pool_name="pool"%s} %s'
    for line in (("bucket", ',le="100"', 0), ("bucket", ',le="120"', 1), ("bucket", ',le="+Inf"', 2), ("count", "", 2)):
        assert waited % line in lines
