"""The counters of a model server for Prometheus, under the real server's names, labels and buckets.

They are the real server's metrics about serving; it alone has those about TensorFlow's own work.
"""
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric, generate_latest
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from tfrec.model_server.grpc_status import status_error_of

_PREFIX = ":tensorflow:serving:"
_REQUESTS = f"{_PREFIX}request_count"
_LATENCY = [10 * 1.8**i for i in range(33)]  # microseconds, to 20 minutes
_QUEUEING = [100 * 1.2**i for i in range(52)]  # microseconds, to 1 second


class ServerMetrics:
    """Written to from any thread, and read by `page`. If not `enabled` it keeps nothing: clients choose the names of models."""

    def __init__(self, *, enabled: bool = True) -> None:
        self._enabled = enabled
        registry = self._registry = CollectorRegistry()

        def histogram(name: str, labels: list[str], buckets: list[float]) -> Histogram:
            return Histogram(_PREFIX + name, "Microseconds.", labels, buckets=buckets, registry=registry)

        self._requests = Counter(_REQUESTS, "Requests by status.", ["model_name", "status"], registry=registry)
        self._request_latency = histogram("request_latency", ["model_name", "API", "entrypoint"], _LATENCY)
        self._runtime_latency = histogram("runtime_latency", ["model_name", "API", "runtime"], _LATENCY)
        self._queuing_latency = histogram("batching_session:queuing_latency", ["thread_pool_name"], _QUEUEING)

    @contextmanager
    def request(self, model: str, *, api: str, entrypoint: str) -> Iterator[None]:
        """Count one request of the prediction service. Its latency is observed only if it is answered."""
        if not self._enabled:
            yield
            return
        began = time.perf_counter()
        try:
            yield
        except Exception as error:
            self._requests.labels(model, status_error_of(error).code.name).inc()
            raise
        self._requests.labels(model, "OK").inc()
        self._request_latency.labels(model, api, entrypoint).observe((time.perf_counter() - began) * 1e6)

    @contextmanager
    def run(self, model: str) -> Iterator[None]:
        """Observe the time that TensorFlow takes for a request."""
        began = time.perf_counter()
        yield
        if self._enabled:
            self._runtime_latency.labels(model, "Predict", "TF1").observe((time.perf_counter() - began) * 1e6)

    def queued(self, threads: str, micros: float) -> None:
        """Observe the time that a batch waited for a thread of the pool `threads`."""
        self._queuing_latency.labels(threads).observe(micros)

    def page(self) -> str:
        """The metrics in Prometheus' text format."""
        text = generate_latest(_AsRealServer(self._registry)).decode()
        return text.replace(f"{_REQUESTS}_total", _REQUESTS)  # prometheus_client names every counter so


class _AsRealServer(Collector):
    """What a registry collects, in the real server's form: no times of creation, and six digits of a bucket's limit."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        """The metrics, each a new object."""
        for metric in self._registry.collect():
            if metric.type in ("counter", "histogram"):
                metric.samples = [_with_short_limit(sample) for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric


def _with_short_limit(sample: Sample) -> Sample:
    limit = sample.labels.get("le", "+Inf")
    return sample if limit == "+Inf" else sample._replace(labels={**sample.labels, "le": f"{float(limit):g}"})
