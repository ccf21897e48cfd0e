"""The counters of a model server in Prometheus' text format, under the real server's names, labels and buckets.

Of what the real one exports these are the metrics about serving; those about TensorFlow's inner life it alone has.
"""
import math
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate

from tfrec.model_server.grpc_status import status_error_of

_Labels = tuple[tuple[str, str], ...]
_PREFIX = ":tensorflow:serving:"
_LATENCY = tuple(10 * 1.8**i for i in range(33))  # microseconds, to 20 minutes
_QUEUEING = tuple(100 * 1.2**i for i in range(52))  # microseconds, to 1 second


@dataclass
class _Histogram:
    limits: tuple[float, ...]
    counts: list[int] = field(init=False)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.limits) + 1)


class ServerMetrics:
    """Written to from any thread; read by `page`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: dict[_Labels, int] = {}
        self._histograms: dict[str, dict[_Labels, _Histogram]] = {}

    @contextmanager
    def request(self, model: str, *, api: str, entrypoint: str) -> Iterator[None]:
        """Count one request of the prediction service; the latency is that of answers, not of refusals."""
        began = time.perf_counter()
        try:
            yield
        except Exception as error:
            self._ended(model, status_error_of(error).code.name)
            raise
        self._ended(model, "OK")
        labels = (("model_name", model), ("API", api), ("entrypoint", entrypoint))
        self._observe("request_latency", labels, _LATENCY, (time.perf_counter() - began) * 1e6)

    @contextmanager
    def run(self, model: str) -> Iterator[None]:
        """Time what TensorFlow takes for a request."""
        began = time.perf_counter()
        yield
        labels = (("model_name", model), ("API", "Predict"), ("runtime", "TF1"))
        self._observe("runtime_latency", labels, _LATENCY, (time.perf_counter() - began) * 1e6)

    def queued(self, threads: str, micros: float) -> None:
        """A batch waited this long for its turn."""
        self._observe("batching_session:queuing_latency", (("thread_pool_name", threads),), _QUEUEING, micros)

    def page(self) -> str:
        """What Prometheus reads."""
        with self._lock:
            lines = [f"# TYPE {_PREFIX}request_count counter"]
            lines += [f"{_PREFIX}request_count{{{_shown(labels)}}} {count}" for labels, count in self._requests.items()]
            for name, by_labels in self._histograms.items():
                lines += _histogram_lines(_PREFIX + name, by_labels)
        return "\n".join(lines) + "\n"

    def _ended(self, model: str, code: str) -> None:
        with self._lock:
            labels = (("model_name", model), ("status", code))
            self._requests[labels] = self._requests.get(labels, 0) + 1

    def _observe(self, name: str, labels: _Labels, limits: tuple[float, ...], value: float) -> None:
        with self._lock:
            by_labels = self._histograms.setdefault(name, {})
            histogram = by_labels.get(labels)
            if histogram is None:
                histogram = by_labels[labels] = _Histogram(limits)
            histogram.counts[bisect_left(histogram.limits, value)] += 1
            histogram.total += value


def _histogram_lines(name: str, by_labels: Mapping[_Labels, _Histogram]) -> list[str]:
    lines = [f"# TYPE {name} histogram"]
    for labels, histogram in by_labels.items():
        shown = _shown(labels)
        sums = list(accumulate(histogram.counts))
        for limit, count in zip((*histogram.limits, math.inf), sums, strict=True):
            lines.append(f'{name}_bucket{{{shown},le="{"+Inf" if limit == math.inf else f"{limit:g}"}"}} {count}')
        lines += [f"{name}_sum{{{shown}}} {histogram.total:g}", f"{name}_count{{{shown}}} {sums[-1]}"]
    return lines


_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def _shown(labels: _Labels) -> str:
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels)
