"""A gateway forgets who was erased, whoever erased them: in memory, in its write-ahead file, and in what it is sent later."""
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.erasure.named import named
from tests.gateway.http.test_admission import key_file, line
from tests.gateway.test_history import did, logged
from tests.gateway.world import KEY, KEY_BYTES, NOW, Make, World, ask, items
from tests.model_server.tiny import Running
from tfrec.config import Config, FeaturesConfig
from tfrec.data.feedback_log.write_ahead_log import WriteAheadFile
from tfrec.data.people.erasures import Erasures, load_people
from tfrec.data.people.pseudonym import Pseudonyms
from tfrec.data.people.queries import query_keeper
from tfrec.data.records import Context
from tfrec.erasure.forget import forget
from tfrec.gateway.erasures import ErasureWatch
from tfrec.gateway.first_seen import FirstSeen
from tfrec.gateway.history import UserHistories
from tfrec.gateway.http.declared_features import DeclaredFeatures
from tfrec.gateway.live_popularity import LivePopularity

KEYS = {"x-api-key": "f" * 32}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv("TFREC_PSEUDONYM_KEY", KEY_BYTES.decode())
    return Config(run=tmp_path)


@pytest.fixture
def world(make: Make, config: Config, tmp_path: Path) -> Iterator[World]:
    """A gateway that looks for tombstones."""
    roles = "serve,log,explain,forget"
    made = make(keys=key_file(tmp_path, line("shop", roles, KEYS["x-api-key"]), line("poor", "serve,log,explain", "p" * 32)),
                forget=lambda user: forget(config, user, now=int(made.now), wait=False))
    made.http.headers.update(KEYS)
    with ErasureWatch(made.people, Erasures(config.log_uri), made.gateway.erase, wal=tmp_path / "wal" / "gateway.wal",
                      seconds=0.05):
        yield made


def act(world: World, user: str, **fields: Any) -> None:
    body = {"user": user, "item": "a", "action": "click", **fields}
    world.http.post("/v1/outcomes", json=body).raise_for_status()


def test_a_user_is_deleted_and_comes_back_as_a_new_person(world: World, config: Config, tmp_path: Path) -> None:
    for user in ("ann/1", "bob"):
        ask(world, user=user, query=f"what {user} wants")
        act(world, user, event_id="e1")
    world.writer.flush()
    assert "a" not in items(ask(world, user="ann/1"))  # which waits in the write-ahead file
    receipt = world.http.delete("/v1/users/ann%2F1").raise_for_status().json()
    assert (receipt["known"], receipt["erasure"], receipt["waits_for"]) == (True, 1, [])
    removed = receipt["removed"]
    assert (removed["log/impressions"] in (2, 4), removed["log/outcomes"]) == (True, 1)  # the second slate may have moved on
    assert named(tmp_path, ["ann/1", KEY.of("ann/1"), "what ann/1 wants"]) == {}
    assert len(named(tmp_path, [KEY.of("bob")])) >= 2

    assert "a" in items(ask(world, user="ann/1"))  # nothing is known of her
    act(world, "ann/1", event_id="late", time=int(world.now))  # it was on its way
    assert {row["user"] for row in world.rows("outcomes")} == {KEY.of("bob")}
    world.now += 1
    act(world, "ann/1", event_id="e1")
    again = load_people(config).of("ann/1")
    assert [(row["user"], row["event_id"]) for row in world.rows("outcomes")][1:] == [(again, "e1")]
    assert named(tmp_path, [KEY.of("ann/1")]) == {}
    assert 'path="/v1/users"' in world.http.get("/metrics").text
    assert "ann" not in world.http.get("/metrics").text


def test_only_who_may_deletes(world: World) -> None:
    assert world.http.delete("/v1/users/ann", headers={"x-api-key": "p" * 32}).json() == {
        "errors": [{"message": "This key lacks the role forget."}]}
    assert world.http.delete("/v1/users/ann", headers={"x-api-key": "?"}).status_code == 401
    assert world.http.delete("/v1/users/").status_code == 422
    assert world.http.delete("/v1/users/" + "x" * 513).status_code == 422
    assert world.http.delete("/v1/users/nobody").json()["note"] == "nobody by this id is known here"


def test_an_erasure_by_another_process_waits_for_the_gateway(world: World, config: Config, tmp_path: Path) -> None:
    act(world, "ann")
    receipt = forget(config, "ann", now=int(world.now))
    assert (receipt.removed, receipt.waits_for) == ({"write-ahead files": 1}, [])
    assert world.rows("outcomes") == []
    assert named(tmp_path, [KEY.of("ann")]) == {}


def test_a_gateway_that_does_not_answer_is_waited_for_by_name(config: Config, tmp_path: Path) -> None:
    wal = WriteAheadFile(tmp_path / "wal", "asleep")
    receipt = forget(config, "ann", now=NOW, wait=False)
    assert receipt.waits_for[0].startswith("gateway 'asleep': it runs and has not taken the erasure up")
    wal.close()
    assert forget(config, "ann", now=NOW).waits_for == []


def test_others_are_remembered_as_before() -> None:
    people = erased("u", "w")
    outcomes = [did(n, user, item, 100 * n) for n, (user, item) in enumerate(
        [("u", "a"), ("v", "b"), ("w", "a"), ("x", "c"), ("v", "a"), ("y", "a")])]
    with_all, without = UserHistories(), UserHistories()
    first = with_all.fill(logged([one for one in outcomes if one.user not in ("u", "w")]))
    assert without.fill(logged(outcomes)).users == ["u", "v", "w", "x", "y"]
    assert without.of("w").seen == ("a",)  # one of them has come since the start
    second = without.erase(people.erased_among)
    assert second is not None
    assert second.users == first.users == ["v", "x", "y"]
    assert [("v", "00001") in second, ("u", "00000") in second] == [True, False]
    for user in "uvwxy":
        assert without.of(user) == with_all.of(user)
    assert without.erase(people.erased_among) is None


def test_popularity_keeps_counts_and_no_names() -> None:
    people = erased("u")
    seen = FirstSeen()
    seen.know(pa.table({"user": ["u", "v"], "time": [5, 5]}))
    seen.fill(["u", "x"], [1, 1])
    seen.erase(people.erased_among)
    assert [seen.is_newcomer(user, 90_000, now=90_000) for user in "uvx"] == [True, False, False]
    live = LivePopularity(lambda: None, limit=1, first_seen=seen)
    live.observe(["u", "v"], ["a", "a"], [1, 1])
    live.override(2)
    live.observe(["u", "v"], ["b", "b"], [1, 1])
    live.erase(people.erased_among)
    assert live.popular(3, 1) is None
    features = DeclaredFeatures(FeaturesConfig(user={"age": "number"}), {"u": {"age": "3"}, "v": {"age": "4"}})
    features.erase(people.erased_among)
    assert [features.completed(Context(), user).profile for user in "uv"] == [{}, {"age": "4"}]


def erased(*names: str) -> Pseudonyms:
    """Pseudonyms, of which some were erased."""
    people = Pseudonyms(KEY_BYTES)
    people.learn({people.mark(name): NOW for name in names})
    return people


def test_a_query_is_asked_as_it_is_and_logged_as_the_setting_says(tmp_path: Path, server: Running) -> None:
    world = World(tmp_path, server.grpc, kept_query=query_keeper("hash", KEY))
    try:
        assert ask(world, query="Red Hat")["items"]
        assert world.http.post("/v1/search", json={"query": "red hat", "k": 1}).raise_for_status().json()["items"]
        assert {row["query"] for row in world.rows("impressions")} == {query_keeper("hash", KEY)("red hat")}
    finally:
        world.close()
    assert named(tmp_path, ["Red Hat", "red hat"]) == {}
