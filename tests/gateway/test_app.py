"""The gateway over sockets: real HTTP, a real model server, a real log."""
import logging
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.gateway.world import KEY, NOW, World, items
from tests.model_server.tiny import Running
from tfrec.config import Config, RewardConfig
from tfrec.errors import DataError
from tfrec.gateway.serve import restore
from tfrec.model_server.process import free_port


def test_an_answer_is_logged_as_it_was_shown(world: World) -> None:
    body = {
        "user": "jane@example.org",
        "query": "d",
        "k": 2,
        "history": [{"item": "b", "action": "click", "time": NOW - 60}, {"item": "x", "time": NOW - 5}],
        "exclude": ["e"],
        "deny_tags": ["nobody has this"],
        "context": {"device": "phone"},
    }
    answer = world.http.post("/v1/recommend", json=body).json()
    assert answer["items"] == [{"item": "d", "position": 0, "score": 107.0}, {"item": "a", "position": 1, "score": 10.0}]
    assert answer["model_version"] == 4
    first, second = world.rows("impressions")
    assert (first["item"], first["position"], first["score"], first["log_propensity"]) == ("d", 0, 107.0, 0.0)
    assert second["item"] == "a"
    assert {name: first[name] for name in ("request_id", "time", "user", "query", "policy", "model_version")} == {
        "request_id": answer["request_id"],
        "time": NOW,
        "user": KEY.of("jane@example.org"),
        "query": "d",
        "policy": "greedy",
        "model_version": 4,
    }
    assert first["history"] == ["b", "x"]
    assert first["history_action"] == ["click", ""]
    assert first["history_time"] == [NOW - 60, NOW - 5]
    assert (first["exclude"], first["allow_tags"], first["deny_tags"]) == (["e", "b", "x"], [], ["nobody has this"])
    assert "phone" in first["context"]


def test_nothing_that_names_the_user_is_on_disk(world: World, tmp_path: Path) -> None:
    world.http.post("/v1/recommend", json={"user": "jane@example.org"}).raise_for_status()
    world.http.post("/v1/outcomes", json={"user": "jane@example.org", "item": "a", "action": "click"}).raise_for_status()
    world.writer.flush()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert all(b"jane" not in path.read_bytes() for path in files)


def test_a_click_changes_the_same_users_next_answer(world: World) -> None:
    before = world.http.post("/v1/recommend", json={"user": "u", "k": 2}).json()
    assert items(before) == ["a", "b"]
    click = {"user": "u", "item": "a", "action": "click", "request_id": before["request_id"]}
    assert world.http.post("/v1/outcomes", json=click).status_code == 200
    assert items(world.http.post("/v1/recommend", json={"user": "u", "k": 2}).json()) == ["b", "c"]
    assert items(world.http.post("/v1/recommend", json={"user": "v", "k": 2}).json()) == ["a", "b"]
    assert items(world.http.post("/v1/recommend", json={"user": "u", "k": 2, "history": []}).json()) == ["a", "b"]
    assert world.rows("outcomes")[0]["request_id"] == before["request_id"]
    assert world.rows("impressions")[2]["history"] == ["a"]


def test_a_rush_on_an_item_is_seen_by_everyone(world: World) -> None:
    world.is_fresh = True
    world.popularity.meet([KEY.of(f"u{n}") for n in range(200)], [0] * 200)
    rush = [{"user": f"u{n}", "item": "c", "action": "click", "time": NOW - 1} for n in range(200)]
    assert world.http.post("/v1/outcomes", json=rush).status_code == 200
    labelled = {"user": "someone", "k": 5, "label": "stable"}
    fresh, exported = world.http.post("/v1/recommend", json=[{"user": "someone", "k": 5}, labelled]).json()
    scores = {shown["item"]: shown["score"] for shown in exported["items"]}
    assert scores == {"a": 10.0, "b": 9.0, "c": 8.0, "d": 7.0, "e": 6.0}
    moved = {shown["item"]: shown["score"] for shown in fresh["items"]}
    assert 7.0 < moved.pop("c") < 8.0  # the tiny model adds the log p that was sent
    assert moved == {"a": 10.0, "b": 9.0, "d": 7.0, "e": 6.0}
    few = [{"user": "u0", "item": "d", "action": "click", "time": NOW - 1}] * 2
    assert world.http.post("/v1/outcomes", json=few).status_code == 200
    world.now += 1
    again = world.http.post("/v1/recommend", json={"user": "someone", "k": 5}).json()
    assert [(one["item"], one["score"]) for one in again["items"]] == [(one["item"], one["score"]) for one in fresh["items"]]
    assert 'tfrec_gateway_outcomes_damped{reason="few"} 1.0' in world.http.get("/metrics").text


def test_tags_and_history_go_to_the_model(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, Any]] = []
    real = world.client.recommend
    monkeypatch.setattr(world.client, "recommend", lambda **inputs: sent.append(inputs) or real(**inputs))
    history = [{"item": "a", "action": "view", "time": NOW - 7}, {"item": "b"}]
    body = {"user": "u", "history": history, "allow_tags": ["x"], "deny_tags": ["y", "z"], "exclude": ["c"]}
    world.http.post("/v1/recommend", json=body).raise_for_status()
    assert sent == [
        {
            "history": [["a", "b"]],
            "history_action": [["view", ""]],
            "history_age_s": [[7, -1]],
            "exclude": [["c", "a", "b"]],
            "allow_tags": [["x"]],
            "deny_tags": [["y", "z"]],
            "bounds": [{}], "boosts": [()],
            "diversity": [0.0],
            "caps": [{}],
            "head_weights": [None],
            "prior": sent[0]["prior"],
            "query": [""],
            "k": [10],
            "label": "",
        }
    ]
    assert sent[0]["prior"][0].ids == []


def test_a_replay_sees_earlier_seconds_only(world: World) -> None:
    done = [{"user": "u", "item": item, "action": "view", "time": time} for item, time in (("a", 100), ("b", 200))]
    assert len(world.http.post("/v1/outcomes", json=done).json()) == 2
    answers = world.http.post("/v1/recommend", json=[{"user": "u", "k": 1, "time": time} for time in (100, 101, 201)]).json()
    assert [items(answer) for answer in answers] == [["a"], ["b"], ["c"]]
    assert [row["time"] for row in world.rows("impressions")] == [100, 101, 201]


def test_many_at_once_with_their_own_k_label_and_exclusions(world: World) -> None:
    bodies = [
        {"user": "u", "k": 1},
        {"user": "v", "k": 3, "label": "old", "exclude": ["a"]},
        {"user": "w", "k": 2, "history": [{"item": "a"}], "exclude_history": False},
        {"user": "w", "exclude": ["a", "b", "c", "d", "e"], "k": 4},
    ]
    answers = world.http.post("/v1/recommend", json=bodies).json()
    assert [(items(answer), answer["model_version"]) for answer in answers] == [
        (["a"], 4),
        (["b", "c", "d"], 3),
        (["b", "c"], 4),  # the tiny model itself leaves out what is in the history
        ([], 4),
    ]
    assert len({answer["request_id"] for answer in answers}) == 4
    assert [row["item"] for row in world.rows("impressions")] == ["a", "b", "c", "d", "b", "c"]  # none for an empty slate


def test_an_event_id_of_one_user_is_free_for_another(world: World) -> None:
    for user in ("u", "v", "u"):
        body = {"user": user, "item": "a", "action": "click", "event_id": "e"}
        assert world.http.post("/v1/outcomes", json=body).status_code == 200
    assert len({row["user"] for row in world.rows("outcomes")}) == len(world.rows("outcomes")) == 2


def test_an_outcome_that_claims_to_be_later_than_now_is_logged_as_of_now(world: World) -> None:
    world.http.post("/v1/outcomes", json={"user": "u", "item": "a", "action": "click", "time": 10**11})
    assert [row["time"] for row in world.rows("outcomes")] == [NOW]


def test_outcomes_keep_their_event_id_or_get_one(world: World) -> None:
    given = {"user": "u", "item": "a", "action": "buy", "value": 9.5, "event_id": "e1", "time": 5}
    assert world.http.post("/v1/outcomes", json=given).json() == {"event_id": "e1"}
    made = world.http.post("/v1/outcomes", json={"user": "u", "item": "a", "action": "buy"}).json()["event_id"]
    rows = world.rows("outcomes")
    assert [(row["event_id"], row["value"], row["time"]) for row in rows] == [("e1", 9.5, 5), (made, 1.0, NOW)]


def test_the_ages_that_are_known_are_logged_beside_those_that_are_not(world: World) -> None:
    history = [{"item": "a", "time": NOW - 9}, {"item": "b"}]
    world.http.post("/v1/recommend", json={"user": "u", "k": 1, "history": history}).raise_for_status()
    assert world.rows("impressions")[0]["history_time"] == [NOW - 9, -1]


def test_a_model_server_that_is_down_is_503_and_outcomes_are_still_kept(tmp_path: Path) -> None:
    world = World(tmp_path, f"127.0.0.1:{free_port()}")
    response = world.http.post("/v1/recommend", json={"user": "u"})
    assert response.status_code == 503
    assert "Start it with `tfrec serve`" in response.json()["errors"][0]["message"]
    assert "127.0.0.1" not in response.text + world.http.get("/readyz").text  # nobody outside learns the address
    assert world.http.post("/v1/outcomes", json={"user": "u", "item": "a", "action": "click"}).status_code == 200
    assert len(world.rows("outcomes")) == 1
    assert world.http.get("/healthz").json() == {"status": "ok"}
    world.close()


def test_what_cannot_be_kept_is_not_acknowledged(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*records: Any) -> int:
        raise DataError("/srv/gateway.wal: cannot be written (No space left on device).")

    monkeypatch.setattr(world.writer, "outcome", full)
    monkeypatch.setattr(world.writer, "impression", full)
    for path, body in (("recommend", {"user": "u"}), ("outcomes", {"user": "u", "item": "a", "action": "click"})):
        response = world.http.post(f"/v1/{path}", json=body)
        assert response.status_code == 503
        assert "No space left" in response.json()["errors"][0]["message"]
        assert "/srv" not in response.text
    monkeypatch.undo()
    assert items(world.http.post("/v1/recommend", json={"user": "u", "k": 1}).json()) == ["a"]  # nor is it remembered


def test_a_search_is_personal_when_it_names_a_user(world: World) -> None:
    world.http.post("/v1/outcomes", json={"user": "u", "item": "b", "action": "click"})
    mine, nobodys = world.http.post("/v1/search", json=[{"query": "d", "user": "u", "k": 3}, {"query": "d", "k": 3}]).json()
    assert items(mine) == ["d", "a", "c"]  # the tiny model itself leaves out what is in the history
    assert items(nobodys) == ["d", "a", "b"]
    rows = world.rows("impressions")
    assert [(row["user"], row["query"], row["history"]) for row in rows[::3]] == [
        (KEY.of("u"), "d", ["b"]),
        (KEY.of(nobodys["request_id"]), "d", []),
    ]
    for body in ({}, {"query": ""}, {"query": "x" * 10_001}):
        assert world.http.post("/v1/search", json=body).status_code == 422


def test_neighbours_of_items_are_answered_and_not_logged(world: World) -> None:
    bodies = [{"item": "a", "k": 2}, {"item": "b", "k": 1}, {"item": "c", "k": 2, "label": "old"}]
    answers = world.http.post("/v1/similar", json=bodies).json()
    assert [(items(answer), answer["model_version"]) for answer in answers] == [(["b", "c"], 4), (["a"], 4), (["a", "b"], 3)]
    assert items(world.http.post("/v1/similar", json={"item": "a", "k": 1}).json()) == ["b"]
    assert world.rows("impressions") == []


def test_an_outcome_that_is_sent_again_is_kept_once(world: World) -> None:
    event = {"user": "u", "item": "a", "action": "click", "event_id": "e1"}
    other = {"user": "u", "item": "b", "action": "click", "event_id": "e2"}
    for body in (event, [event, other, other], other):
        assert world.http.post("/v1/outcomes", json=body).status_code == 200
    assert [row["event_id"] for row in world.rows("outcomes")] == ["e1", "e2"]
    assert "tfrec_gateway_repeats_total 3.0" in world.http.get("/metrics").text


def test_after_a_restart_it_knows_what_its_log_holds(
    tmp_path: Path, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = World(tmp_path, server.grpc)
    done = [{"user": f"u{n}", "item": "c", "action": action, "event_id": f"{action}{n}"} for n in range(30)
            for action in ("click", "hover")]
    first.http.post("/v1/outcomes", json=done).raise_for_status()
    first.close()
    (tmp_path / "prior").rename(tmp_path / "prior of before")
    counted: list[pa.Table] = []
    again = World(tmp_path, server.grpc, counted=RewardConfig(weights={"click": 1.0}))
    monkeypatch.setattr(again.popularity, "fill", lambda first, known, *, now: counted.append(first))
    again.gateway.remember(again.log)
    # of 60 outcomes 30 are rewarded
    (first,) = counted
    assert set(first["user"].to_pylist()) == {KEY.of(f"u{n}") for n in range(30)}
    assert (first["item"].to_pylist(), first["time"].to_pylist()) == (["c"] * 30, [NOW] * 30)
    assert items(again.http.post("/v1/recommend", json={"user": "u7", "k": 3}).json()) == ["a", "b", "d"]
    again.http.post("/v1/outcomes", json=done).raise_for_status()
    assert len(again.rows("outcomes")) == 60
    again.close()


@pytest.mark.parametrize("damaged", ["outcomes/*.parquet", "outcomes/_delta_log/*.json"])
def test_a_damaged_log_does_not_stop_a_gateway(world: World, damaged: str, caplog: pytest.LogCaptureFixture) -> None:
    world.http.post("/v1/outcomes", json={"user": "u", "item": "a", "action": "click"}).raise_for_status()
    assert world.rows("outcomes")
    file = max(Path(world.log.root).glob(damaged))
    file.write_bytes(file.read_bytes()[:40])
    with caplog.at_level(logging.WARNING):
        restore(world.gateway, Config(), world.log, KEY, metrics=world.metrics, now=1)
    assert "starts without what users did before" in caplog.text
    assert file.name in caplog.text
    assert "tfrec_gateway_unknown_past 1.0" in world.http.get("/metrics").text
    assert items(world.http.post("/v1/recommend", json={"user": "u", "k": 2}).json()) == ["b", "c"]


def test_ready_means_that_the_model_server_answers_and_records_can_be_kept(
    tmp_path: Path, server: Running, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, server.grpc, ready_seconds=0.0)
    assert (world.http.get("/readyz").status_code, world.http.get("/readyz").json()) == (200, {"status": "ok"})
    down = World(tmp_path_factory.mktemp("down"), f"127.0.0.1:{free_port()}")
    assert down.http.get("/readyz").status_code == 503
    assert "Start it with `tfrec serve`" in down.http.get("/readyz").json()["model_server"]
    down.close()

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", full)
    response = world.http.get("/readyz")
    assert (response.status_code, list(response.json())) == (503, ["log"])
    assert "No space left" in response.json()["log"]
    monkeypatch.undo()
    world.close()
