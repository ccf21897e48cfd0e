"""Metrics of the run that the gateway serves: its disk, the results of the retrain job, and what the monitors found.

The job and the monitors have no port and end between two scrapes of Prometheus, so their results are read from the run directory.
"""
import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from tfrec.monitors.latest import MONITORS, read_latest

_MAX_RESULTS = 20  # the newest results of retrains that are read


class RunWatch(Collector):
    """Collects metrics from the directory of a run at every scrape."""

    def __init__(self, run: Path) -> None:
        self._run = run

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the disk's size and free bytes, rejected retrains, the end of the last one, and what the monitors found."""
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
        yield from _monitors(read_latest(self._run))


def _monitors(found: dict[str, Any]) -> Iterator[GaugeMetricFamily]:
    """What the newest look found. Values of slices are what callers wrote, so no label holds them."""
    if not found:
        return
    yield _gauge("tfrec_monitor_looked_seconds", "The newest look of the monitors, in seconds since 1970.", found["looked_at"])
    alarm = GaugeMetricFamily("tfrec_monitor_alarm", "1 while a monitor raises an alarm, 0 while it does not; nothing is "
                              "exported of one that knows too little.", labels=["monitor"])
    texts = {"value": "Of the newest window.", "change": "Of the newest window against those before it.",
             "low": "The lower end of the interval of the change.", "high": "The upper end of the interval of the change.",
             "bound": "The change that an alarm is raised beyond."}
    numbers = {name: GaugeMetricFamily(f"tfrec_monitor_{name}", text, labels=["monitor"]) for name, text in texts.items()}
    for monitor in MONITORS:
        one = found["monitors"].get(monitor, {})
        if one.get("state") in ("ok", "alarm"):
            alarm.add_metric([monitor], float(one["state"] == "alarm"))
            for name, family in numbers.items():
                if one.get(name) is not None:
                    family.add_metric([monitor], float(one[name]))
    parts = [GaugeMetricFamily("tfrec_monitor_part_reward", "Reward in the newest window, of a request or of a position.",
                               labels=["by", "part"]),
             GaugeMetricFamily("tfrec_monitor_part_action_rate", "Share with an outcome, of requests or of a position.",
                               labels=["by", "part"])]
    for by in ("position", "version", "policy"):
        for one in found.get("parts", {}).get(by, []):
            parts[0].add_metric([by, one["part"]], one["reward"])
            parts[1].add_metric([by, one["part"]], one["action_rate"])
    yield from (alarm, *numbers.values(), *parts)


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
