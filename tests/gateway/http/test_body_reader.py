"""Bodies that are read, and bodies that are refused with what is wrong."""
from typing import Any

import pytest

from tests.gateway.world import KEY, World


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("recommend", {}, "user"),
        ("recommend", {"user": ""}, "user"),
        ("recommend", {"user": True}, "user"),
        ("recommend", {"user": "u", "exclude": ["a", 1.0]}, "exclude.1"),
        ("recommend", {"user": "u", "k": 0}, "k"),
        ("recommend", {"user": "u", "k": 11}, "k"),
        ("recommend", [{"user": "u"}, {"user": "u", "k": 11}], "1.k"),
        ("recommend", {"user": "u", "kk": 5}, "kk"),
        ("recommend", {"user": "u", "query": "x" * 100_000}, "query"),
        ("recommend", {"user": "u", "history": [{"item": "a"}, {"action": "click"}]}, "history.1.item"),
        ("recommend", {"user": "u", "time": -1}, "time"),
        ("recommend", {"user": "u", "label": "beta"}, "label"),
        ("recommend", [], "body"),
        ("recommend", 7, "body"),
        ("outcomes", {"user": "u", "item": "a"}, "action"),
        ("outcomes", [{"user": "u", "item": "a", "action": "x"}, {"user": "u", "item": 3.5, "action": "x"}], "1.item"),
        ("outcomes", {"user": "u", "item": "a", "action": "x", "value": "much"}, "value"),
    ],
)
def test_bad_bodies_are_told_by_field(world: World, path: str, body: Any, field: str) -> None:
    response = world.http.post(f"/v1/{path}", json=body)
    assert response.status_code == 422
    assert field in [error["field"] for error in response.json()["errors"]]
    assert "x" * 100 not in response.text
    assert world.rows("impressions") == world.rows("outcomes") == []


def test_ids_that_are_numbers_are_taken_as_the_files_take_them(world: World) -> None:
    world.http.post("/v1/outcomes", json={"user": 123, "item": 7, "action": "click"}).raise_for_status()
    answer = world.http.post("/v1/recommend", json={"user": "123", "k": 1, "history": [{"item": -5}]}).raise_for_status().json()
    assert len(answer["items"]) == 1
    assert [(row["user"], row["item"]) for row in world.rows("outcomes")] == [(KEY.of("123"), "7")]
    assert world.rows("impressions")[0]["history"] == ["-5"]


def test_what_is_no_json_is_told(world: World) -> None:
    response = world.http.post("/v1/outcomes", content=b"{", headers={"content-type": "application/json"})
    assert response.status_code == 422
    assert "JSON" in response.json()["errors"][0]["message"]


@pytest.mark.parametrize(
    "content",
    [
        b'{"user": "\\ud800"}',
        b'{"user": "u", "\\ud800": 1}',
        b'{"user": "u", "k": ' + b"9" * 10_000 + b"}",
        b"[" * 100_000,
        b'{"user": "\xff"}',
        b'{"user": "u", "k": NaN}',
        b"null",
        b"",
        b"[[]]",
    ],
)
def test_json_that_breaks_readers_is_refused(world: World, content: bytes) -> None:
    for path in ("recommend", "search", "similar", "outcomes"):
        response = world.http.post(f"/v1/{path}", content=content, headers={"content-type": "application/json"})
        assert response.status_code == 422, response.text
        assert response.json()["errors"]
