"""Metrics of the run that the gateway serves: its disk, and the results of the retrain job.

The retrain job has no port and ends between two scrapes of Prometheus, so its results are read from the run directory.
"""
import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

_MAX_RESULTS = 20  # the newest results of retrains that are read


class RunWatch(Collector):
    """Collects metrics from the directory of a run at every scrape."""

    def __init__(self, run: Path) -> None:
        self._run = run

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the disk's size and free bytes, rejected retrains, and the end of the last retrain."""
        disk = shutil.disk_usage(self._run)
        yield _gauge("tfrec_run_disk_bytes", "Size of the disk that the run directory is on.", disk.total)
        yield _gauge("tfrec_run_disk_free_bytes", "Free bytes of the disk that the run directory is on.", disk.free)
        newest = newest_results(self._run, _MAX_RESULTS)
        rejected = 0
        for _, found in newest:
            if found["outcome"] == "promoted":
                break
            rejected += found["outcome"] == "rejected"
        yield _gauge("tfrec_retrain_rejected", "Retrains since the last promotion whose challenger was rejected.", rejected)
        if newest:
            yield _gauge("tfrec_retrain_ended_seconds", "End of the last retrain without an error, in seconds since 1970.",
                         newest[0][0])


def newest_results(run: Path, most: int) -> list[tuple[float, dict[str, Any]]]:
    """When each of the newest runs of the retrain job ended, in seconds since 1970, and its result; the newest first."""
    results = []
    for path in run.glob("retrain/[0-9]*.json"):
        with contextlib.suppress(OSError):  # removed meanwhile
            results.append((path.stat().st_mtime, path))
    found: list[tuple[float, dict[str, Any]]] = []
    for ended, path in sorted(results, reverse=True):
        if len(found) == most:
            break
        try:
            result = json.loads(path.read_bytes())
            result["outcome"]
        except (OSError, ValueError, KeyError, TypeError):  # it is being written
            continue
        found.append((ended, result))
    return found


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)
