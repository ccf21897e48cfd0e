"""What the console is answered: from files of the run, and with nothing written."""
import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.console.world import ITEMS, config, full, publish, retrained, started
from tests.gateway.world import Make, World
from tfrec.gateway.console.item_lines import ItemLines
from tfrec.release.publish import newest_dir


def post(world: World, verb: str, body: Any) -> Any:
    return world.http.post(f"/v1/{verb}", json=body).raise_for_status().json()


def test_a_preview_is_the_answer_and_is_not_logged(world: World) -> None:
    world.http.post("/v1/outcomes", json={"user": "u", "item": "a", "action": "click"}).raise_for_status()
    shown = post(world, "recommend", {"user": "u", "k": 3})
    seen = post(world, "preview", {"user": "u", "k": 3})
    assert [one["item"] for one in seen["items"]] == [one["item"] for one in shown["items"]] == ["b", "c", "d"]
    assert [one["item"] for one in post(world, "preview", {"query": "d", "k": 2})["items"]] == ["d", "a"]
    assert [one["item"] for one in post(world, "preview", {"k": 2, "history": [{"item": "a"}]})["items"]] == ["b", "c"]
    assert {row["request_id"] for row in world.rows("impressions")} == {shown["request_id"]}


def test_nothing_is_there_yet(world: World) -> None:
    assert post(world, "items", {"ids": ["a"]}) == {"items": []}
    assert post(world, "runs", {}) == {"retrains": [], "versions": []}
    assert post(world, "experiments", {}) == {"looked_at": None, "experiments": []}


def test_runs_and_versions_are_told_the_newest_first(world: World, tmp_path: Path) -> None:
    full(tmp_path)
    (config(tmp_path).run / "retrain" / "3.json").write_text("{")  # it is being written
    (config(tmp_path).models_dir / "2" / "manifest.json").write_text("?")
    found = post(world, "runs", {})
    assert [(one["outcome"], one["learnt"], one["ended_at"]) for one in found["retrains"]] == [
        ("rejected", 0, "2023-11-14 22:16:40 UTC"), ("promoted", 40, "2023-11-14 22:15:00 UTC")]
    assert found["retrains"][1]["figures"] == {"hr@10": {"champion": 0.1, "challenger": 0.2}}
    assert [one["version"] for one in found["versions"]] == [2, 1]
    assert "manifest.json" in found["versions"][0]["error"]
    assert len(post(world, "runs", {"limit": 1})["retrains"]) == 1


def test_experiments_are_told_with_the_figures_of_the_last_look(world: World, tmp_path: Path) -> None:
    started(tmp_path, plain={"share": 0.5}, warm={"share": 0.5, "temperature": 1.0})
    (one,) = post(world, "experiments", {})["experiments"]
    assert (one["experiment"], one["arms"]) == ("warmer.1", [{"arm": "plain", "share": 0.5}, {"arm": "warm", "share": 0.5}])


def test_an_item_is_read_from_its_line(tmp_path: Path) -> None:
    publish(tmp_path, 1, ITEMS[:1])
    lines = ItemLines(lambda: newest_dir(config(tmp_path).models_dir))
    assert lines.read(["b", "a", "nobody"]) == ITEMS[:1]
    publish(tmp_path, 2, ITEMS)
    assert lines.read([]) == []
    assert lines.read(["d", "b", "a", "b"]) == [ITEMS[3], ITEMS[1], ITEMS[0], ITEMS[1]]


def test_monitors_are_told_with_alarms_first(world: World, tmp_path: Path) -> None:
    assert post(world, "monitors", {}) == {"looked_at": None, "monitors": [], "parts": {}}
    full(tmp_path)
    found = post(world, "monitors", {})
    assert [one["monitor"] for one in found["monitors"]] == ["slices", "context", "skew"]
    assert found["looked_at"].startswith("2023-11-15 00:59:59")
    assert found["parts"]["device"][0]["n"] == 1000


@pytest.mark.parametrize("verb", ["preview", "items", "runs", "experiments", "monitors"])
def test_only_who_may_see_what_users_did_is_answered(make: Make, tmp_path: Path, verb: str) -> None:
    keys = tmp_path / "keys"
    keys.write_text("".join(f"{role} {role} {hashlib.sha256(role.encode()).hexdigest()}\n" for role in ("serve", "explain")))
    world = make(keys=keys)
    body = {"ids": []} if verb == "items" else {}
    status = [world.http.post(f"/v1/{verb}", json=body, headers=headers).status_code
              for headers in ({}, {"x-api-key": "serve"}, {"x-api-key": "explain"})]
    assert status == [401, 403, 200]
    assert world.http.get("/").status_code == 200  # the page has no data


def test_the_page_takes_nothing_from_elsewhere(world: World) -> None:
    for path in ("/", "/console.js", "/console.css"):
        found = world.http.get(path)
        assert "http://" not in found.text.replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in found.text
        assert "script-src 'self'" in found.headers["content-security-policy"]
    assert "innerHTML" not in world.http.get("/console.js").text


def test_a_broken_result_hides_no_other(world: World, tmp_path: Path) -> None:
    retrained(tmp_path, "1", 1_700_000_100, outcome="waiting", reason="too few")
    retrained(tmp_path, "2", 1_700_000_200, nothing=True)
    (one,) = post(world, "runs", {})["retrains"]
    assert (one["outcome"], one["version"]) == ("waiting", None)
