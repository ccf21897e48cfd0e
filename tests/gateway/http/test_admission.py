"""Who gets through the gateway's door, and what it says to the others."""
import gzip
import hashlib
import http.client
import json
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.gateway.world import Make, World
from tests.model_server.tiny import Running
from tfrec.client import deadline
from tfrec.client.request_errors import RequestFailed
from tfrec.config import GatewayConfig
from tfrec.gateway.http.keys import Keys
from tfrec.gateway.http.time_limits import TimeLimits

ASK = {"user": "u", "k": 1}
TELL = {"user": "u", "item": "a", "action": "click"}


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


def test_a_body_that_does_not_arrive_holds_up_nobody(make: Make) -> None:
    world = make(max_in_flight=1, max_queued=0, limits=TimeLimits(body=0.2))
    slow = http.client.HTTPConnection(world.http.base_url.host, world.http.base_url.port or 0)
    slow.putrequest("POST", "/v1/outcomes")
    slow.putheader("content-length", "100")
    slow.endheaders(b"{")
    assert world.http.post("/v1/outcomes", json=TELL).status_code == 200
    assert slow.getresponse().status == 408
    slow.close()


def test_above_its_rate_a_key_waits_and_another_does_not(make: Make, tmp_path: Path) -> None:
    world = make(keys=key_file(tmp_path, line("a", "serve,log", "a" * 32, "5"), line("b", "log", "b" * 32)))
    # five a second, so ten at once after a rest; those of a list count singly, before they are worked on
    a = {"x-api-key": "a" * 32}
    for n, status in ((10_000, 429), (8, 200)):
        response = world.http.post("/v1/outcomes", json=[TELL] * n, headers=a)
        assert response.status_code == status
        if status == 429:
            assert "10 at once, 5 a second" in response.json()["errors"][0]["message"]
    response = world.http.post("/v1/outcomes", json=[TELL] * 10, headers=a)
    assert response.status_code == 429
    assert 1 <= int(response.headers["retry-after"]) <= 2  # nothing is owed
    assert len(world.rows("outcomes")) == 8
    assert world.http.post("/v1/outcomes", json=TELL, headers={"x-api-key": "b" * 32}).status_code == 200
    assert 'tfrec_gateway_shed_total{reason="rate"} 2.0' in world.http.get("/metrics").text


def test_what_cannot_be_answered_in_time_is_shed_and_outcomes_get_through(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make(max_in_flight=2, max_queued=3, queue_seconds=0.3)
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
    assert 'tfrec_gateway_in_flight{role="serve"} 0.0' in text
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


def test_a_header_that_is_no_number_is_told(make: Make) -> None:
    world = make()
    for value, status in (("0.5", 200), ("1e9", 200), ("0", 400), ("-1", 400), ("nan", 400), ("soon", 400)):
        response = world.http.post("/v1/outcomes", json=TELL, headers={"x-timeout-seconds": value})
        assert (value, response.status_code) == (value, status)
    for length in (b"0" * 4301, b"9" * 4301, b"-1", b"1_0", b"0x10", b"", b"1, 1"):
        with socket.create_connection((world.http.base_url.host, world.http.base_url.port or 0), timeout=20) as raw:
            raw.sendall(b"POST /v1/outcomes HTTP/1.1\r\nhost: x\r\ncontent-length: " + length + b"\r\n\r\n{}")
            assert (length, raw.recv(12)) == (length, b"HTTP/1.1 400")
    assert world.http.post("/v1/outcomes", json=TELL).status_code == 200


def packed(text: bytes) -> bytes:
    return gzip.compress(text, 1)


def test_a_body_is_json_or_is_refused_with_what_to_send(make: Make) -> None:
    world, told = make(), json.dumps(TELL).encode()
    for content, headers, status in (
        (packed(told), {"content-encoding": "gzip"}, 200),
        (packed(told), {"content-encoding": "X-GZIP"}, 200),
        (told, {"content-encoding": "identity"}, 200),
        (packed(b"[") + packed(told) + packed(b"]"), {"content-encoding": "gzip"}, 200),
        (packed(b" " * 20_000_000), {"content-encoding": "gzip"}, 413),
        (packed(b"") * 50, {"content-encoding": "gzip"}, 400),
        (packed(told)[:-9], {"content-encoding": "gzip"}, 400),
        (told, {"content-encoding": "gzip"}, 400),
        (b"?", {"content-encoding": "br"}, 415),
        (b"?", {"content-encoding": "gzip, gzip"}, 415),
        (b"a=1", {"content-type": "application/x-www-form-urlencoded"}, 415),
        (json.dumps(TELL).encode("utf-16"), {"content-type": "application/json; charset=utf-16"}, 415),
        (told, {"content-type": 'Application/JSON; charset="UTF-8"'}, 200),
        (b"\xef\xbb\xbf" + told, {}, 200),
        (b'{"user": "a", "user": "b", "item": "i", "action": "x"}', {}, 422),
        (b"", {}, 422),
    ):
        response = world.http.post("/v1/outcomes", content=content, headers={"content-type": "application/json"} | headers)
        assert (content[:20], headers, response.status_code) == (content[:20], headers, status)
        assert "errors" in response.json() if status != 200 else "event_id" in response.text
        if headers.get("content-encoding") == "br":
            assert response.headers["accept-encoding"] == "gzip"


def test_without_keys_nobody_from_outside_is_shown_what_others_did(tmp_path: Path, server: Running) -> None:
    assert Keys(None, anyone=("serve", "log")).caller(None).roles == {"serve", "log"}  # type: ignore[union-attr]
    keys = key_file(tmp_path, line("shop", "serve,log", "s" * 32), line("desk", "explain", "d" * 32))
    world = World(tmp_path, server.grpc, GatewayConfig(keys=keys))
    try:
        asked = {"user": "u", "item": "a"}
        assert world.http.post("/v1/explain", json=asked, headers={"x-api-key": "s" * 32}).status_code == 403
        assert world.http.post("/v1/explain", json=asked, headers={"x-api-key": "d" * 32}).status_code != 403
    finally:
        world.close()


def test_work_that_nobody_waits_for_ends_at_the_next_piece(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make(model_batch=1)
    pieces, gone, real = [], threading.Event(), world.client.recommend

    def recommend(**inputs: Any) -> Any:
        pieces.append(1)
        if len(pieces) == 2:
            gone.wait(20)  # the caller leaves while this is worked on
            time.sleep(0.2)
        return real(**inputs)

    monkeypatch.setattr(world.client, "recommend", recommend)
    body = json.dumps([ASK] * 50).encode()
    with socket.create_connection((world.http.base_url.host, world.http.base_url.port or 0), timeout=20) as raw:
        raw.sendall(b"POST /v1/recommend HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        while len(pieces) < 2:
            time.sleep(0.01)
    gone.set()
    while 'in_flight{role="serve"} 0.0' not in world.http.get("/metrics").text:
        time.sleep(0.01)
    assert len(pieces) < 10
    assert world.rows("impressions") == []


def test_a_call_ends_when_the_time_that_it_names_is_up(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make(model_batch=1)
    real = world.client.recommend
    monkeypatch.setattr(world.client, "recommend", lambda **inputs: (time.sleep(0.05), real(**inputs))[1])
    response = world.http.post("/v1/recommend", json=[ASK] * 200, headers={"x-timeout-seconds": "0.3"})
    assert response.status_code == 504
    assert "within 0.3 s" in response.json()["errors"][0]["message"]


@pytest.mark.parametrize(("verb", "body"), [
    ("recommend", ASK), ("similar", {"item": "a", "k": 1}), ("explain", {"user": "u", "item": "a", "query": "a"})])
def test_a_question_that_ends_with_the_time_of_its_call_is_no_word_about_the_model_server(
        make: Make, monkeypatch: pytest.MonkeyPatch, verb: str, body: Any) -> None:
    world = make()

    def wait(*_: Any, **__: Any) -> None:
        seconds = deadline.allowed(5.0)
        time.sleep(seconds - 0.005)  # gRPC's clock is a little ahead
        raise RequestFailed("slow", code="DEADLINE_EXCEEDED")

    monkeypatch.setattr(world.client, verb, wait)
    response = world.http.post(f"/v1/{verb}", json=body, headers={"x-timeout-seconds": "0.2"})
    assert (response.status_code, "within 0.2 s" in response.text) == (504, True)


def test_large_bodies_take_half_of_the_room(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make(max_in_flight=2, max_queued=9, queue_seconds=0.2)
    go, real = threading.Event(), world.client.recommend
    monkeypatch.setattr(world.client, "recommend", lambda **inputs: (len(inputs["k"]) > 1 and go.wait(20), real(**inputs))[1])
    large = [{"user": "u", "k": 1, "exclude": [f"item {n}" for n in range(4000)]}] * 2
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(world.http.post, "/v1/recommend", json=large) for _ in range(4)]
        while sum(one.done() for one in asked) < 3:
            time.sleep(0.01)
        assert world.http.post("/v1/recommend", json=ASK).status_code == 200  # neighbours have the other half
        go.set()
        assert sorted(one.result().status_code for one in asked) == [200, 429, 429, 429]


def test_what_one_call_may_hold_is_bounded(make: Make) -> None:
    world = make(max_context_bytes=200)
    for body, status, field in (
        (ASK | {"context": {"device": "x" * 100}}, 200, None),
        (ASK | {"context": {"profile": {"a": "x" * 200}}}, 422, "context"),
        ([ASK, ASK | {"context": {"place": "x" * 200}}], 422, "1.context"),
        ([ASK | {"exclude": ["a"] * 10_000}] * 11, 413, None),
    ):
        response = world.http.post("/v1/recommend", json=body)
        assert response.status_code == status
        if status != 200:
            assert response.json()["errors"][0].get("field") == field
