"""The newest look, as it is kept in the run directory. Reading it needs nothing of what made it."""
import json
from pathlib import Path
from typing import Any

MONITORS = (
    "reward", "action_rate", "slices", "calibration", "coverage", "novelty", "new_items", "outcomes", "context", "queries",
    "catalogue_tags", "catalogue_numbers", "label_delay", "silent_source", "clock", "skew", "freshness",
)  # fmt: skip


def latest_path(run: Path) -> Path:
    """The file of the newest look of a run."""
    return run / "monitors" / "latest.json"


def read_latest(run: Path) -> dict[str, Any]:
    """The newest look, or nothing where there is none that can be read."""
    try:
        found = json.loads(latest_path(run).read_bytes())
        return found if isinstance(found, dict) and isinstance(found.get("monitors"), dict) else {}
    except (OSError, ValueError):
        return {}


def alarms(found: dict[str, Any]) -> list[str]:
    """The monitors that raise an alarm."""
    return [name for name, one in found.get("monitors", {}).items() if one.get("state") == "alarm"]
