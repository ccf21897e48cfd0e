"""Scores are explained, and the OpenAPI shows how to ask."""
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.rules.test_held_items import flagged
from tests.gateway.world import NOW, World
from tfrec.client.results import Explanation

INF = float("inf")


def explained(**inputs: Any) -> list[Explanation]:
    """In place of `Client.explain`: the model of these tests has no parts that could be left out."""
    words = (("q", 1.5), ("##x", -0.5))
    return [Explanation(-INF if item == "nobody" else 9.0, 0.5, tuple(range(len(own))), words if query else (), 4)
            for own, query, item in zip(inputs["history"], inputs["query"], inputs["item"], strict=True)]


def test_a_score_is_explained_by_what_the_gateway_knows_of_the_user(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(world.client, "explain", lambda **inputs: calls.append(inputs) or explained(**inputs))
    for item, when in (("a", NOW - 50), ("b", NOW - 20)):
        body = {"user": "u", "item": item, "action": "click", "time": when}
        world.http.post("/v1/outcomes", json=body).raise_for_status()
    found = world.http.post("/v1/explain", json={"user": "u", "item": "c", "query": "qx"}).json()
    assert found == {
        "model_version": 4, "score": 9.0, "popularity": 0.5,
        "history": [{"item": "a", "action": "click", "weight": 0.0}, {"item": "b", "action": "click", "weight": 1.0}],
        "query": [{"token": "q", "weight": 1.5}, {"token": "##x", "weight": -0.5}],
    }
    assert {name: calls[0][name] for name in ("history", "history_action", "history_age_s", "query", "item", "label")} == {
        "history": [["a", "b"]], "history_action": [["click", "click"]], "history_age_s": [[50, 20]], "query": ["qx"],
        "item": ["c"], "label": "",
    }
    bodies = [{"user": "u", "item": "nobody", "history": []},
              {"user": "u", "item": "c", "label": "old", "history": [{"item": "d"}]}]
    first, second = world.http.post("/v1/explain", json=bodies).json()
    assert (first["score"], first["history"]) == (None, [])
    assert second["history"] == [{"item": "d", "action": "", "weight": 0.0}]
    assert [call["label"] for call in calls] == ["", "", "old"]
    assert world.http.post("/v1/explain", json=bodies * 17).status_code == 422  # each costs the model many passes
    assert world.rows("impressions") == []


def test_the_openapi_shows_every_verb_with_an_example_that_works(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                                  ) -> None:
    monkeypatch.setattr(world.client, "explain", explained)
    flagged(tmp_path, "2840")
    found = world.http.get("/openapi.json").json()
    verbs = [path for path, methods in found["paths"].items() if "post" in methods]
    assert verbs == [f"/v1/{verb}" for verb in (
        "recommend", "search", "similar", "explain", "outcomes", "preview", "items", "runs", "experiments",
        "monitors", "reviews", "review")]
    assert {"/healthz", "/readyz", "/metrics"} < found["paths"].keys()
    for path in verbs:
        one, many = found["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]["anyOf"]
        schema = found["components"]["schemas"][one["$ref"].rpartition("/")[2]]
        assert many["items"] == one
        assert schema["properties"].get("k", {}).get("maximum") == (
            10 if path.endswith(("recommend", "search", "similar", "preview")) else None)
        for example in schema["examples"]:
            assert world.http.post(path, json=example).status_code == 200
    page = world.http.get("/docs")
    assert all(path in page.text for path in verbs)
    assert "<script" not in page.text
    assert "//" not in page.text  # nothing of another host
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
