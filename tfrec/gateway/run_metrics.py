"""What the gateway tells Prometheus of the run beside it: the disk, and how the retrain job is doing.

The job ends between two looks of Prometheus and has no port of its own; what it leaves in the run directory is read here.
"""
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

_READ = 20  # newest results that are read, at most


class RunWatch(Collector):
    """Collects from the directory of a run when it is asked."""

    def __init__(self, run: Path) -> None:
        self._run = run

    def collect(self) -> Iterator[GaugeMetricFamily]:
        disk = shutil.disk_usage(self._run)
        yield _gauge("tfrec_run_disk_bytes", "Size of the disk that the run directory is on.", disk.total)
        yield _gauge("tfrec_run_disk_free_bytes", "Of it, free.", disk.free)
        newest = sorted(self._run.glob("retrain/[0-9]*.json"), key=lambda path: path.stat().st_mtime, reverse=True)[:_READ]
        rejected = 0
        for path in newest:
            try:
                outcome = json.loads(path.read_bytes())["outcome"]
            except (OSError, ValueError, KeyError, TypeError):  # it is being written
                continue
            if outcome == "promoted":
                break
            rejected += outcome == "rejected"
        yield _gauge("tfrec_retrain_rejected", "Retrains since the last promotion whose challenger was refused.", rejected)
        if newest:
            ended = newest[0].stat().st_mtime
            yield _gauge("tfrec_retrain_ended_seconds", "When a retrain last ended without an error, seconds since 1970.", ended)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)
