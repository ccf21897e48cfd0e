"""Metrics of the run that the gateway serves: its disk, and the results of the retrain job.

The retrain job has no port and ends between two scrapes of Prometheus, so its results are read from the run directory.
"""
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

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
        newest = sorted(self._run.glob("retrain/[0-9]*.json"), key=lambda path: path.stat().st_mtime, reverse=True)[:_MAX_RESULTS]
        rejected = 0
        for path in newest:
            try:
                outcome = json.loads(path.read_bytes())["outcome"]
            except (OSError, ValueError, KeyError, TypeError):  # it is being written
                continue
            if outcome == "promoted":
                break
            rejected += outcome == "rejected"
        yield _gauge("tfrec_retrain_rejected", "Retrains since the last promotion whose challenger was rejected.", rejected)
        if newest:
            ended = newest[0].stat().st_mtime
            yield _gauge("tfrec_retrain_ended_seconds", "End of the last retrain without an error, in seconds since 1970.", ended)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)
