"""Numeric bounds, diversity and caps through the gateway: what is sent, logged, refused, and answered without a model."""
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.world import Make, World, ask, items, popular
from tfrec.client.request_errors import InputNotServed
from tfrec.data.records import bounds_of
from tfrec.gateway.http.refusal import RequestRefused
from tfrec.gateway.routing.known_columns import KnownColumns
from tfrec.gateway.routing.slate_request import SlateAnswer, SlateRequest
from tfrec.release.popularity_files import COLUMNS_FILE, read_columns, write_columns


def test_they_go_to_the_model_and_into_the_log(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, Any]] = []
    real = world.client.recommend
    monkeypatch.setattr(world.client, "recommend", lambda **inputs: sent.append(inputs) or real(**inputs))
    bodies = [
        {"user": "u", "k": 2, "bounds": {"price": {"max": 50}, "year": {"min": 1990, "max": 1999.5}}, "context": {"place": "p"}},
        {"user": "v", "k": 1, "diversity": 0.25, "caps": {"brand:": 2, "": 3}},
        {"user": "w", "k": 1},
    ]
    answers = world.http.post("/v1/recommend", json=bodies).raise_for_status().json()
    assert sent[0]["bounds"] == [{"price": (None, 50.0), "year": (1990.0, 1999.5)}, {}, {}]
    assert (sent[0]["diversity"], sent[0]["caps"]) == ([0.0, 0.25, 0.0], [{}, {"brand:": 2, "": 3}, {}])
    assert [answer["policy"] for answer in answers] == ["greedy", "reranked", "greedy"]
    rows = world.rows("impressions")
    assert [row["policy"] for row in rows] == ["greedy", "greedy", "reranked", "greedy"]
    assert {row["log_propensity"] for row in rows} == {0.0}  # nothing was left to chance
    assert bounds_of(rows[0]["context"]) == [("price", None, 50.0), ("year", 1990.0, 1999.5)]
    assert json.loads(rows[0]["context"])["place"] == "p"
    assert "bounds" not in json.loads(rows[2]["context"])


def test_searches_take_them_too(world: World) -> None:
    body = {"query": "d", "k": 1, "bounds": {"price": {"max": 1}}, "diversity": 0.5}
    assert world.http.post("/v1/search", json=body).raise_for_status().json()["policy"] == "reranked"


def test_weights_of_heads_go_to_the_model_and_only_heads_have_one(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make(heads=("view", "buy"))
    sent: dict[str, Any] = {}

    def noting(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def asked(**inputs: Any) -> Any:
            sent[name] = inputs["head_weights"]
            return real(**inputs | {"head_weights": None})  # the version has no second stage

        return asked

    for name in ("recommend", "explore"):
        monkeypatch.setattr(world.client, name, noting(name, getattr(world.client, name)))
    bodies: list[dict[str, Any]] = [{"head_weights": {"buy": 2.5, "view": -1}}, {"head_weights": {}}, {}]
    world.http.post("/v1/recommend", json=[{"user": "u", "k": 1} | body for body in bodies]).raise_for_status()
    world.http.post("/v1/recommend", json={"user": "u", "explore": True, "head_weights": {"buy": 1}})  # this version cannot
    assert sent == {"recommend": [{"buy": 2.5, "view": -1.0}, {}, None], "explore": [{"buy": 1.0}]}


@pytest.mark.parametrize(("heads", "there"), [(("view", "buy"), "which are view, buy"), ((), "and there are none")])
def test_a_weight_of_what_is_no_head_is_refused(make: Make, heads: tuple[str, ...], there: str) -> None:
    world = make(heads=heads)
    response = world.http.post("/v1/recommend", json={"user": "u", "head_weights": {"secret": 1}})
    assert response.status_code == 422
    [error] = response.json()["errors"]
    assert (error["field"], there in error["message"], "secret" in error["message"]) == ("head_weights", True, False)
    assert world.rows("impressions") == []


def test_what_is_drawn_is_not_reranked(make: Make) -> None:
    world = make(explore=True)
    for asked in ({"diversity": 0.1}, {"caps": {"brand:": 1}}):
        response = world.http.post("/v1/recommend", json={"user": "u", "explore": True, **asked})
        assert response.status_code == 422
        assert "explore must not be true with diversity or caps" in response.json()["errors"][0]["message"]
        assert ask(world, **asked)["policy"] == "reranked"  # nobody asked for a draw but the configuration
    assert {row["log_propensity"] for row in world.rows("impressions")} == {0.0}


@pytest.mark.parametrize(("asked", "field"), [
    ({"bounds": {"price": {"min": 2, "max": 1}}}, "bounds.price"),
    ({"bounds": {"price": 50}}, "bounds.price"),
    ({"bounds": {"price": {"most": 50}}}, "bounds.price.most"),
    ({"bounds": {"price": {"max": "cheap"}}}, "bounds.price.max"),
    ({"bounds": {"p" * 600: {"max": 1}}}, None),
    ({"bounds": {str(n): {"max": 1} for n in range(50)}}, "bounds"),
    ({"diversity": -0.1}, "diversity"),
    ({"diversity": 1.1}, "diversity"),
    ({"diversity": "much"}, "diversity"),
    ({"caps": {"brand:": 0}}, "caps.brand:"),
    ({"caps": {"brand:": 1.5}}, "caps.brand:"),
    ({"caps": ["brand:"]}, "caps"),
])
def test_bad_values_are_named(world: World, asked: dict[str, Any], field: str | None) -> None:
    response = world.http.post("/v1/recommend", json={"user": "u", **asked})
    assert response.status_code == 422
    assert field is None or response.json()["errors"][0]["field"] == field


def test_popularity_knows_no_numbers_and_no_tags(make: Make) -> None:
    world = make(down=True)
    popular(world)
    for asked in ({"bounds": {"price": {"max": 50}}}, {"caps": {"brand:": 1}}):
        assert world.http.post("/v1/recommend", json={"user": "u", **asked}).status_code == 503
    assert items(ask(world, diversity=0.5)) == ["e", "d"]
    assert items(ask(world, bounds={})) == ["e", "d"]


def test_a_column_that_a_version_does_not_have_is_refused_by_the_names_it_has(tmp_path: Path) -> None:
    def request(**bounds: tuple[float | None, float | None]) -> SlateRequest:
        return SlateRequest(user="u", time=1, query="", k=1, history=(), exclude=(), allow_tags=(), deny_tags=(), label="",
                            explore=False, seed=0, bounds=bounds)

    def answer(version: int) -> SlateAnswer:
        return SlateAnswer(["a"], [1.0], version, "", "greedy", [0.0])

    for version, names in ((1, ["price", "year"]), (2, [])):
        (tmp_path / str(version)).mkdir()
        write_columns(tmp_path / str(version), names)
    (tmp_path / "3").mkdir()
    columns = KnownColumns(lambda version: tmp_path / str(version))
    columns.check([request(), request(price=(None, 5.0)), request(year=(1, 2))], [answer(1)] * 3)
    columns.check([request(), request(prise=(None, 5.0))], [answer(2), answer(3)])  # of version 3 nothing is known
    with pytest.raises(RequestRefused, match="which has these: price, year.") as caught:
        columns.check([request(prise=(None, 5.0), price=(None, 1.0))], [answer(1)])
    assert (caught.value.status, caught.value.field) == (422, "bounds")
    with pytest.raises(RequestRefused, match="which has none"):
        columns.check([request(price=(None, 5.0))], [answer(2)])
    KnownColumns(lambda _: None).check([request(price=(None, 5.0))], [answer(1)])
    assert read_columns(tmp_path / "1") == ("price", "year")
    for broken in ("{", "5", "null"):
        (tmp_path / "3" / COLUMNS_FILE).write_text(broken)
        assert read_columns(tmp_path / "3") is None


def test_a_version_that_is_too_old_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def recommend(**_: Any) -> Any:
        raise InputNotServed("it lacks caps", code="INVALID_ARGUMENT")

    monkeypatch.setattr(world.client, "recommend", recommend)
    response = world.http.post("/v1/recommend", json={"user": "u", "diversity": 0.5})
    assert response.status_code == 422
    assert "Export the model again" in response.json()["errors"][0]["message"]
