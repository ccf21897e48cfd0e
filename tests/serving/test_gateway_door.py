"""Who gets through the gateway's door, and what it says to the others."""
import hashlib
import http.client
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving.conftest import Running
from tests.serving.gateway_world import World
from tfrec.config import GatewayConfig
from tfrec.serving import gateway_door

Make = Callable[..., World]
ASK = {"user": "u", "k": 1}
TELL = {"user": "u", "item": "a", "action": "click"}


@pytest.fixture
def make(tmp_path: Path, server: Running) -> Iterator[Make]:
    worlds = []

    def made(**settings: Any) -> World:
        worlds.append(World(tmp_path, server.grpc, GatewayConfig(**settings)))
        return worlds[-1]

    yield made
    for world in worlds:
        world.close()


def key_file(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "keys"
    path.write_text("# name roles sha256 [rate]\n" + "".join(f"{line}\n" for line in lines))
    return path


def line(name: str, roles: str, key: str, *rate: str) -> str:
    return " ".join([name, roles, hashlib.sha256(key.encode()).hexdigest(), *rate])


def test_a_key_opens_what_its_roles_allow(make: Make, tmp_path: Path) -> None:
    world = make(keys=key_file(tmp_path, line("shop", "serve,log", "s" * 32), line("worker", "log", "w" * 32)))

    def status(path: str, body: Any, headers: dict[str, str]) -> int:
        return world.http.post(f"/v1/{path}", json=body, headers=headers).status_code

    for headers in ({"authorization": "Bearer " + "s" * 32}, {"authorization": "bearer " + "s" * 32}, {"x-api-key": "s" * 32}):
        assert status("recommend", ASK, headers) == 200
        assert status("outcomes", TELL, headers) == 200
    assert status("outcomes", TELL, {"x-api-key": "w" * 32}) == 200
    assert status("recommend", ASK, {"x-api-key": "w" * 32}) == 403
    for headers in ({}, {"x-api-key": ""}, {"x-api-key": "wrong"}, {"authorization": "Basic " + "s" * 32}):
        response = world.http.post("/v1/recommend", json=ASK, headers=headers)
        assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
        assert "X-API-Key" in response.json()["errors"][0]["message"]
    assert world.http.get("/healthz").status_code == 200
    assert [row["item"] for row in world.rows("impressions")] == ["a", "b", "b"]  # her click of "a" is in her history


def test_a_body_that_is_too_large_is_not_read(make: Make) -> None:
    world = make(max_body_bytes=2000)
    large = json.dumps(TELL | {"item": "x" * 3000}).encode()
    for content in (large, iter([large[:1000], large[1000:]])):  # by its length, and in chunks without one
        response = world.http.post("/v1/outcomes", content=content, headers={"content-type": "application/json"})
        assert response.status_code == 413
        assert "2000 bytes" in response.json()["errors"][0]["message"]
    assert world.http.post("/v1/outcomes", json=TELL).status_code == 200


def test_a_body_that_does_not_arrive_holds_up_nobody(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_door, "_BODY_SECONDS", 0.2)
    world = make(in_work=1, waiting=0)
    slow = http.client.HTTPConnection(world.http.base_url.host, world.http.base_url.port or 0)
    slow.putrequest("POST", "/v1/outcomes")
    slow.putheader("content-length", "100")
    slow.endheaders(b"{")
    assert world.http.post("/v1/outcomes", json=TELL).status_code == 200
    assert slow.getresponse().status == 408
    slow.close()


def test_above_its_rate_a_key_waits_and_another_does_not(make: Make, tmp_path: Path) -> None:
    world = make(keys=key_file(tmp_path, line("a", "serve,log", "a" * 32, "5"), line("b", "log", "b" * 32)))
    # five a second, so ten at once after a rest; those of a list count singly, and what is owed is waited for
    assert world.http.post("/v1/outcomes", json=[TELL] * 30, headers={"x-api-key": "a" * 32}).status_code == 200
    response = world.http.post("/v1/outcomes", json=TELL, headers={"x-api-key": "a" * 32})
    assert (response.status_code, response.headers["retry-after"]) == (429, "5")
    assert world.http.post("/v1/outcomes", json=TELL, headers={"x-api-key": "b" * 32}).status_code == 200
    assert 'tfrec_gateway_shed_total{reason="rate"} 1.0' in world.http.get("/metrics").text


def test_what_cannot_be_answered_in_time_is_shed_and_outcomes_get_through(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make(in_work=2, waiting=3, wait_seconds=0.3)
    real, go = world.client.recommend, threading.Event()
    monkeypatch.setattr(world.client, "recommend", lambda **inputs: (go.wait(10), real(**inputs))[1])

    def ask(_: int) -> httpx.Response:
        return world.http.post("/v1/recommend", json=ASK)

    with ThreadPoolExecutor(20) as pool:
        began = time.monotonic()
        asked = [pool.submit(ask, n) for n in range(20)]
        assert world.http.post("/v1/outcomes", json=TELL).status_code == 200
        while sum(one.done() for one in asked) < 18:
            time.sleep(0.01)
        assert time.monotonic() - began < 5  # nobody waited for the model server
        go.set()
        answers = [one.result() for one in asked]
    assert sorted(answer.status_code for answer in answers) == [200] * 2 + [429] * 18
    assert {answer.headers.get("retry-after") for answer in answers if answer.status_code == 429} == {"1"}
    text = world.http.get("/metrics").text
    assert 'tfrec_gateway_shed_total{reason="full"} 15.0' in text
    assert 'tfrec_gateway_shed_total{reason="late"} 3.0' in text
    assert 'tfrec_gateway_in_work{role="serve"} 0.0' in text
    assert ask(0).status_code == 200


def test_a_failure_tells_where_not_what(make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    world = make()

    def fail(**inputs: Any) -> None:
        raise ValueError(f"cannot read {inputs['query']}")

    monkeypatch.setattr(world.client, "recommend", fail)
    with caplog.at_level(logging.INFO):
        response = world.http.post("/v1/recommend", json=ASK | {"query": "secret wishes"})
    assert response.status_code == 500
    assert "ValueError at " in caplog.text
    assert "secret" not in caplog.text + response.text


def test_no_line_of_the_log_holds_what_a_user_wrote(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    world = make()
    secret = "geheim"
    with caplog.at_level(logging.DEBUG):
        for field in ({"query": secret}, {"k": 0, secret: secret}, {"label": secret}):
            world.http.post("/v1/recommend", json={"user": secret, **field})
        world.http.post("/v1/outcomes", json={"user": secret, "item": secret, "action": secret, "event_id": secret})
        world.http.post("/v1/outcomes", content=secret)
        world.http.get(f"/{secret}")
    ours = [record.getMessage() for record in caplog.records if record.name.startswith(("tfrec", "uvicorn"))]
    assert secret not in "\n".join(ours)
    assert secret not in world.http.get("/metrics").text
