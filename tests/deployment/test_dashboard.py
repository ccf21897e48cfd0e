"""Grafana's dashboard: it has Grafana's types, shows metrics that are exported, and a panel for each monitor."""
import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.test_deployment import exported
from tfrec.monitors.latest import MONITORS

SERVING = Path(__file__).parents[2] / "serving"
DASHBOARD = json.loads((SERVING / "dashboard.json").read_text())
PANELS = DASHBOARD["panels"]
QUERIES = [target["expr"] for panel in PANELS for target in panel.get("targets", [])]


def lost(given: Any, kept: Any, where: str = "") -> Iterator[str]:
    """Where a value was left out or changed."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for name, value in given.items():
            yield from lost(value, kept.get(name), f"{where}/{name}")
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for number, (one, other) in enumerate(zip(given, kept, strict=True)):
            yield from lost(one, other, f"{where}/{number}")
    elif given != kept:
        yield f"{where}: {given!r}, {kept!r}"


def test_the_types_of_grafana_lose_nothing_of_it() -> None:
    """A key that Grafana does not know would not come back."""
    models = pytest.importorskip("grafana_foundation_sdk.models.dashboard")
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins

    register_default_plugins()

    def back(given: dict[str, Any]) -> Any:
        return json.loads(JSONEncoder().encode(models.Dashboard.from_json(json.loads(json.dumps(given)))))

    assert list(lost(DASHBOARD, back(DASHBOARD))) == []
    misspelt = DASHBOARD | {"panels": [PANELS[1] | {"gridpos": {}}]}
    assert [one.partition(":")[0] for one in lost(misspelt, back(misspelt))] == ["/panels/0/gridpos"]


def test_it_shows_what_is_exported(tmp_path: Path) -> None:
    named = {name for query in QUERIES for name in re.findall(r"tfrec_\w+", query)}
    assert {name.removesuffix("_bucket") for name in named} - exported(tmp_path) == set()


def test_each_monitor_has_a_panel_and_an_alarm() -> None:
    rules = [rule["expr"] for group in yaml.safe_load((SERVING / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
    for exprs in (QUERIES, rules):
        assert {name for expr in exprs for name in re.findall(r'monitor="(\w+)"', expr)} == set(MONITORS)


def test_no_panel_hides_another() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for one, other in combinations([panel["gridPos"] for panel in PANELS], 2):
        apart = [one[at] + one[size] <= other[at] or other[at] + other[size] <= one[at] for at, size in (("x", "w"), ("y", "h"))]
        assert any(apart), (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in PANELS)
