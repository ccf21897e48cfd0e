"""One look at the live system: what all monitors find, kept in a file that the gateway shows to Prometheus and to people."""
import json
import logging
import time
from pathlib import Path
from typing import Any

from tfrec.config import Config
from tfrec.data import durable_files
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.file_lock import held
from tfrec.data.items.item_table import read_items
from tfrec.errors import UsageError
from tfrec.monitors.catalogue import catalogue_findings
from tfrec.monitors.counted import Counted, counted
from tfrec.monitors.estimates import MonitorFinding, unknown
from tfrec.monitors.latest import MONITORS, alarms, latest_path, read_latest
from tfrec.monitors.live import live_findings, parts
from tfrec.monitors.sources import silent_sources, wrong_clocks
from tfrec.monitors.windows import LookWindows
from tfrec.release.manifest import CATALOGUE, read_manifest
from tfrec.release.popularity_files import read_columns
from tfrec.release.publish import newest_dir

log = logging.getLogger(__name__)

_REPLAYED = ("skew", "queries")


def look(config: Config, *, now: int, replay: bool | None = None) -> dict[str, Any]:
    """Look once, keep what is found, and return it.

    A kill leaves the file of the look before; the next look is none the worse for it.

    Args:
        config: Of the run.
        now: Seconds since 1970.
        replay: Whether requests are asked again, which loads a model; by default when that was `monitors.replay_hours` ago.

    Raises:
        UsageError: Another look is in progress.
        DataError: The log or the catalogue cannot be read.
    """
    began, path = time.monotonic(), latest_path(config.run)
    path.parent.mkdir(parents=True, exist_ok=True)
    with held(path.with_name("lock"), wait=False) as alone:
        if not alone:
            raise UsageError(f"{path.parent}: another look is in progress. Wait for it.")
        before = read_latest(config.run)
        windows = LookWindows.of(config.monitors, now=now)
        # of all monitors together (Bonferroni)
        each = config.monitors.model_copy(update={"level": config.monitors.level / len(MONITORS)})
        config = config.model_copy(update={"monitors": each})
        version_dir = newest_dir(config.models_dir)
        items = None if version_dir is None else read_items(version_dir / CATALOGUE, read_columns(version_dir) or ())
        found: dict[str, MonitorFinding | dict[str, Any]] = dict.fromkeys(MONITORS, unknown("nothing was logged yet"))
        told: dict[str, Any] = {}
        replayed_at = int(before.get("replayed_at") or 0)
        found |= dict.fromkeys(("catalogue_tags", "catalogue_numbers"), unknown("no version is published"))
        if items is not None:
            found |= catalogue_findings(items, path.with_name("catalogue"), config.monitors, windows)
        if FeedbackLog(config.log_uri).exists():
            lengths = _lengths(config, items)
            with counted(config, windows, lengths=lengths) as counts:
                found["silent_source"], silent = silent_sources(counts, config.monitors)
                found["clock"], wrong = wrong_clocks(counts, config.monitors, silent)
                found |= live_findings(counts, config, [*silent, *wrong])
                told["parts"] = parts(counts, config, [*silent, *wrong])
                found["freshness"] = _freshness(counts, config, version_dir, now)
                due = config.monitors.replay_hours > 0 and now - replayed_at >= config.monitors.replay_hours * 3600
                if due if replay is None else replay:
                    found |= _replayed(counts, config)
                    replayed_at = now
                else:
                    kept = before.get("monitors", {})
                    found |= {name: kept.get(name) or unknown("was not looked at yet") for name in _REPLAYED}
        rounded = {name: one.rounded() if isinstance(one, MonitorFinding) else one for name, one in found.items()}
        result = {"looked_at": now, "replayed_at": replayed_at or None, "seconds": round(time.monotonic() - began, 2),
                  "newest_window": [windows.end - windows.length, windows.end], "monitors": rounded} | told
        durable_files.replace(path, json.dumps(result, allow_nan=False).encode())
    return result


def look_after_run(config: Config, *, now: int) -> None:
    """Look, when that is due and wanted, and warn of alarms.

    Raises:
        UsageError: Another look is in progress.
        DataError: The log or the catalogue cannot be read.
    """
    looked_at = int(read_latest(config.run).get("looked_at") or 0)
    if not config.monitors.in_job or now - looked_at < config.monitors.window_hours * 360:
        return
    found = look(config, now=now)
    for name in alarms(found):
        log.warning("monitor %s: alarm: %s", name, found["monitors"][name]["why"])


def _replayed(counts: Counted, config: Config) -> dict[str, MonitorFinding]:
    from tfrec.monitors.replayed import queries, skew

    return {"skew": skew(counts, config, config.models_dir), "queries": queries(counts, config)}


def _freshness(counts: Counted, config: Config, version_dir: Path | None, now: int) -> MonitorFinding:
    """Seconds since the newest outcome that the newest version may have learnt, while there are newer ones."""
    window = None if version_dir is None else read_manifest(version_dir).window
    if window is None:
        return unknown("no version has learnt from the log yet")
    newest = counts.newest_outcome()
    bound = config.monitors.freshness_hours * 3600
    age = 0.0 if newest is None else max(0.0, float(min(newest, now) - int(window["now"])))
    what = "seconds of outcomes that no version has learnt"
    return MonitorFinding("alarm" if age > bound else "ok", what, value=age, bound=bound)


def _lengths(config: Config, items: Any) -> dict[str, dict[str, float]]:
    """The lengths of items by action, as the reward needs them."""
    found: dict[str, dict[str, float]] = {}
    for action, column in config.reward.lengths.items():
        rows = [] if items is None or "numeric" not in items.column_names else items.select(["id", "numeric"]).to_pylist()
        found[action] = {row["id"]: value for row in rows if (value := (row["numeric"] or {}).get(column)) and value > 0}
    return found
