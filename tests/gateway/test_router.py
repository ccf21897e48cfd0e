"""Which version answers whom, and what answers when none does."""
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.world import KEY, NOW, World, items
from tests.model_server.tiny import ITEMS, Running
from tfrec.client.client import Exploration, Recommendation, RequestFailed
from tfrec.config import GatewayConfig
from tfrec.model_server.process import free_port
from tfrec.models.popularity_prior import PopularityPrior
from tfrec.release.popularity_files import PRIOR_FILE, write_prior

Make = Callable[..., World]


@pytest.fixture
def make(tmp_path: Path, server: Running) -> Iterator[Make]:
    worlds = []

    def made(*, down: bool = False, **settings: Any) -> World:
        address = f"127.0.0.1:{free_port()}" if down else server.grpc
        worlds.append(World(tmp_path, address, GatewayConfig(**settings)))
        return worlds[-1]

    yield made
    for world in worlds:
        world.close()


def ask(world: World, **body: Any) -> dict[str, Any]:
    return world.http.post("/v1/recommend", json={"user": "u", "k": 2, **body}).raise_for_status().json()


def test_a_user_stays_with_the_version_that_the_keyed_hash_gives(make: Make) -> None:
    world = make(stable_label="stable", canary_label="old", canary_share=0.3)
    users = [f"u{n}" for n in range(200)]
    answers = [world.http.post("/v1/recommend", json=[{"user": user} for user in users]).json() for _ in range(2)]
    labels = [[answer["label"] for answer in some] for some in answers]
    assert labels[0] == labels[1]
    # what the hash says, worked out beside it
    assert labels[0] == ["old" if int(KEY.of(user), 16) < 0.3 * 16**32 else "stable" for user in users]
    assert 40 <= labels[0].count("old") <= 80  # 60 expected, standard deviation 6.5
    assert {(answer["label"], answer["model_version"]) for answer in answers[0]} == {("stable", 4), ("old", 3)}
    text = world.http.get("/metrics").text
    assert f'answers_total{{label="old",model_version="3",policy="greedy"}} {2 * labels[0].count("old")}.0' in text


def test_everyone_gets_stable_while_the_canary_is_not_served(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = make(stable_label="stable", canary_label="none", canary_share=1.0)
    calls = []
    real = world.client.recommend
    monkeypatch.setattr(world.client, "recommend", lambda **inputs: calls.append(inputs["label"]) or real(**inputs))
    with caplog.at_level(logging.WARNING):
        answers = [ask(world) for _ in range(3)]
    for answer in answers:
        assert (answer["model_version"], answer["label"], answer["fallback"]) == (4, "stable", "none is not served")
    assert calls == ["none", "stable", "stable", "stable"]  # it is asked again after a while
    assert caplog.text.count("none is not served; its users get stable") == 1
    assert [row["model_version"] for row in world.rows("impressions")] == [4] * 6


def test_a_canary_that_fails_is_answered_for(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make(stable_label="stable", canary_label="old", canary_share=1.0)
    real = world.client.recommend

    def recommend(**inputs: Any) -> Any:
        if inputs["label"] == "old":
            raise RequestFailed("it broke", code="INTERNAL")
        return real(**inputs)

    monkeypatch.setattr(world.client, "recommend", recommend)
    assert ask(world)["fallback"] == "old failed: INTERNAL"
    response = world.http.post("/v1/recommend", json={"user": "u", "label": "old"})  # the caller wants this one
    assert response.status_code == 502


def test_epsilon_falls_by_steps(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    fallen = {"since": "1970-01-02", "epsilon": 0.02}
    world = make(explore=True, temperature=2.0, epsilon=0.1, epsilon_changes=[fallen])
    monkeypatch.setattr(world.client, "explore", lambda **inputs: [
        Exploration((f"{inputs['epsilon']}",), (8.0,), 4, (-1.5,)) for _ in inputs["k"]])
    for when, epsilon in ((86_399, 0.1), (86_400, 0.02)):
        world.now = when
        answer = world.http.post("/v1/recommend", json={"user": "u", "time": 86_400}).json()
        assert (items(answer), answer["policy"]) == ([f"{epsilon}"], f"plackett_luce(temperature=2, epsilon={epsilon})")


def test_an_exploring_gateway_logs_what_it_drew_with_its_propensities(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make(explore=True, temperature=2.0, epsilon=0.1)
    drawn: list[dict[str, Any]] = []

    def explore(**inputs: Any) -> list[Exploration]:
        drawn.append(inputs)
        return [Exploration(("c", "a"), (8.0, 10.0), 4, (-1.5, 1e-9)) for _ in inputs["k"]]  # the second is rounded

    monkeypatch.setattr(world.client, "explore", explore)
    answer = ask(world)
    assert (items(answer), answer["policy"]) == (["c", "a"], "plackett_luce(temperature=2, epsilon=0.1)")
    assert (drawn[0]["temperature"], drawn[0]["epsilon"], drawn[0]["seed"]) == (2.0, 0.1, [int(answer["request_id"][:15], 16)])
    assert [(row["item"], row["log_propensity"], row["policy"]) for row in world.rows("impressions")] == [
        ("c", -1.5, answer["policy"]),
        ("a", 0.0, answer["policy"]),
    ]
    assert ask(world, explore=False)["policy"] == "greedy"
    assert world.http.post("/v1/search", json={"query": "d"}).json()["policy"] == "greedy"
    assert len(drawn) == 1


def test_a_drawn_slate_is_logged_with_the_popularity_that_it_was_drawn_with(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make(explore=True)
    world.is_fresh = True
    world.models.meet([KEY.of(f"u{n}") for n in range(3)], [0] * 3)
    rush = [{"user": f"u{n}", "item": "c", "action": "click"} for n in range(3)]
    world.http.post("/v1/outcomes", json=rush).raise_for_status()
    drawn: list[dict[str, Any]] = []

    def explore(**inputs: Any) -> list[Exploration]:
        drawn.append(inputs)
        return [Exploration(("a",), (10.0,), 4, (-0.5,)) for _ in inputs["k"]]

    monkeypatch.setattr(world.client, "explore", explore)
    ask(world)
    ask(world, explore=False)
    (sent,) = drawn[0]["prior"]
    assert sent.ids == ["c"]
    logged, greedy = world.rows("impressions")[0], world.rows("impressions")[-1]
    assert (logged["prior_items"], logged["prior_log_p"]) == (["c"], pytest.approx(sent.log_p.tolist(), abs=1e-5))
    assert (greedy["policy"], greedy["prior_items"]) == ("greedy", None)  # nothing was left to chance, so nothing is weighed


@pytest.mark.parametrize("policy", ["thompson", "linucb"])
def test_a_bandits_slate_is_logged_without_propensities(make: Make, monkeypatch: pytest.MonkeyPatch, policy: str) -> None:
    world = make(explore=True, policy=policy, alpha=2.5)
    calls: list[dict[str, Any]] = []

    def answered(**inputs: Any) -> list[Recommendation]:
        calls.append(inputs)
        return [Recommendation(("c", "a"), (8.0, 7.0), 4) for _ in inputs["k"]]

    monkeypatch.setattr(world.client, policy, answered)
    answer = ask(world)
    assert (items(answer), answer["policy"], calls[0]["alpha"]) == (["c", "a"], f"{policy}(alpha=2.5)", 2.5)
    assert [row["log_propensity"] for row in world.rows("impressions")] == [None, None]


def test_a_version_that_cannot_explore_answers_greedily_and_says_so(make: Make) -> None:
    world = make()
    (answer,) = world.http.post("/v1/recommend", json=[{"user": "u", "k": 2, "explore": True}]).json()
    assert (items(answer), answer["policy"], answer["fallback"]) == (["a", "b"], "greedy", "this version does not explore")
    assert [row["log_propensity"] for row in world.rows("impressions")] == [0.0, 0.0]


def test_large_lists_are_asked_in_batches_that_the_server_takes(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make(model_batch=3)
    sizes = []
    real = world.client.recommend
    monkeypatch.setattr(world.client, "recommend", lambda **inputs: sizes.append(len(inputs["k"])) or real(**inputs))
    bodies = [{"user": "u", "query": ITEMS[n % 5], "k": 1} for n in range(8)]
    answers = world.http.post("/v1/recommend", json=bodies).json()
    assert [items(answer)[0] for answer in answers] == [ITEMS[n % 5] for n in range(8)]
    assert sizes == [3, 3, 2]


def popular(world: World, *, hidden: tuple[str, ...] = ()) -> None:
    """Let the newest version's counts be e 5, d 4, c 3, b 2, a 1."""
    prior = PopularityPrior(len(ITEMS))
    prior.update([place for place in range(5) for _ in range(place + 1)], [NOW] * 15)
    write_prior(world.prior, prior, ITEMS, hidden=hidden)
    world.is_fresh = True


def test_when_the_model_server_is_down_popularity_answers_and_says_so(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    world = make(down=True)
    popular(world, hidden=("d",))
    with caplog.at_level(logging.WARNING):
        answer = ask(world, k=3)
    assert items(answer) == ["e", "c", "b"]
    assert (answer["policy"], answer["model_version"]) == ("popularity", 0)
    assert answer["fallback"] == "the model server does not answer"
    assert "popularity answers: " in caplog.text
    rows = world.rows("impressions")
    assert {(row["policy"], row["model_version"], row["log_propensity"]) for row in rows} == {("popularity", 0, None)}
    assert [row["score"] for row in rows] == [shown["score"] for shown in answer["items"]]
    assert rows[0]["score"] > rows[1]["score"] > rows[2]["score"]
    assert 'tfrec_gateway_fallbacks_total{to="popularity"} 1.0' in world.http.get("/metrics").text


def test_popularity_leaves_out_what_the_request_excludes_and_rolls_on(make: Make) -> None:
    world = make(down=True)
    popular(world)
    assert world.http.post("/v1/outcomes", json={"user": "u", "item": "e", "action": "click"}).status_code == 200
    assert items(ask(world, exclude=["c"])) == ["d", "b"]  # e is what she did
    assert items(ask(world, history=[{"item": "d"}])) == ["e", "c"]
    assert items(ask(world, history=[{"item": "d"}], exclude_history=False)) == ["e", "d"]
    world.models.meet([KEY.of(f"v{n}") for n in range(20)], [0] * 20)
    world.http.post("/v1/outcomes", json=[{"user": f"v{n}", "item": "a", "action": "click", "time": NOW} for n in range(20)])
    world.now += 1
    assert items(ask(world, k=1, user="w")) == ["a"]


def test_popularity_is_no_answer_to_a_search_to_tags_or_without_counts(make: Make) -> None:
    world = make(down=True)
    assert world.http.post("/v1/recommend", json={"user": "u"}).status_code == 503
    popular(world)
    for path, body in (
        ("recommend", {"user": "u", "allow_tags": ["x"]}),
        ("recommend", {"user": "u", "deny_tags": ["x"]}),
        ("search", {"query": "q"}),
        ("similar", {"item": "a"}),
    ):
        response = world.http.post(f"/v1/{path}", json=body)
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")


def test_a_model_server_that_hangs_is_left_alone_for_a_while(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make()
    popular(world)
    calls, hangs = [], [True]
    real = world.client.recommend

    def recommend(**inputs: Any) -> Any:
        calls.append(time.monotonic())
        if hangs:
            raise RequestFailed("too late", code="DEADLINE_EXCEEDED")
        return real(**inputs)

    monkeypatch.setattr(world.client, "recommend", recommend)
    assert {ask(world)["policy"] for _ in range(10)} == {"popularity"}
    assert len(calls) == 3
    hangs.clear()
    time.sleep(max(0.0, calls[-1] + 1.05 - time.monotonic()))
    assert ask(world)["policy"] == "greedy"


@pytest.mark.parametrize("claimed", [0, 1, 10**11])
def test_no_time_of_a_request_changes_the_answer_to_another_user(make: Make, claimed: int) -> None:
    world = make(down=True)
    popular(world)
    expected = PopularityPrior.load(world.prior / PRIOR_FILE)
    ask(world, user="x", time=claimed)
    world.models.meet([KEY.of(f"v{n}") for n in range(20)], [0] * 20)
    world.http.post("/v1/outcomes", json=[{"user": f"v{n}", "item": "a", "action": "click", "time": NOW} for n in range(20)])
    world.now += 1
    ask(world, user="x", time=claimed)
    expected.update([0] * 20, [NOW] * 20)
    best = ask(world, k=1, user="w")["items"][0]
    assert (best["item"], best["score"]) == ("a", pytest.approx(float(expected.log_p()[0]), abs=1e-6))


def test_an_event_id_of_one_user_is_free_for_another(make: Make) -> None:
    world = make()
    for user in ("u", "v", "u"):
        body = {"user": user, "item": "a", "action": "click", "event_id": "e"}
        assert world.http.post("/v1/outcomes", json=body).status_code == 200
    assert len({row["user"] for row in world.rows("outcomes")}) == len(world.rows("outcomes")) == 2


def test_an_outcome_that_claims_to_be_later_than_now_is_logged_as_of_now(make: Make) -> None:
    world = make()
    world.http.post("/v1/outcomes", json={"user": "u", "item": "a", "action": "click", "time": 10**11})
    assert [row["time"] for row in world.rows("outcomes")] == [NOW]


def test_between_the_steps_of_a_promotion_the_newest_version_answers(make: Make) -> None:
    world = make(stable_label="gone", canary_label="gone too", canary_share=0.5)
    answer = ask(world)
    assert (answer["model_version"], answer["label"], answer["fallback"]) == (4, "", "gone is not served")
    for path, body in (("search", {"query": "d"}), ("similar", {"item": "a"}), ("recommend", {"user": "v"})):
        response = world.http.post(f"/v1/{path}", json=body)
        assert (response.status_code, response.json()["model_version"]) == (200, 4)
    # a label that the caller names is the caller's mistake
    for path, body in (("recommend", {"user": "u"}), ("similar", {"item": "a"})):
        response = world.http.post(f"/v1/{path}", json=body | {"label": "gone"})
        assert (response.status_code, response.json()["errors"][0]["field"]) == (422, "label")
    assert 'fallbacks_total{to="newest"}' in world.http.get("/metrics").text  # an alarm sees it


def test_while_the_server_hangs_one_call_finds_out_and_the_others_are_answered(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make()
    popular(world)
    calls, go = [], threading.Event()

    def hang(**inputs: Any) -> Any:
        calls.append(1)
        if len(calls) > 3:
            go.wait(20)
        raise RequestFailed("too late", code="DEADLINE_EXCEEDED")

    monkeypatch.setattr(world.client, "recommend", hang)
    monkeypatch.setattr("tfrec.gateway.router._DOWN_SECONDS", 0.0)
    for _ in range(3):
        assert ask(world)["policy"] == "popularity"
    with ThreadPoolExecutor(1) as pool:
        finding_out = pool.submit(ask, world)
        while len(calls) < 4:
            time.sleep(0.01)
        assert [ask(world)["policy"] for _ in range(5)] == ["popularity"] * 5
        assert len(calls) == 4
        go.set()
        assert finding_out.result()["policy"] == "popularity"


def test_a_caller_with_little_time_is_no_sign_that_the_server_is_down(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make()
    popular(world)
    real = world.client.recommend

    def late(**inputs: Any) -> Any:
        raise RequestFailed("too late", code="DEADLINE_EXCEEDED")

    monkeypatch.setattr(world.client, "recommend", late)
    for _ in range(5):
        response = world.http.post("/v1/recommend", json={"user": "u"}, headers={"x-timeout-seconds": "0.5"})
        assert response.json()["policy"] == "popularity"
    monkeypatch.setattr(world.client, "recommend", real)
    assert ask(world)["policy"] == "greedy"
