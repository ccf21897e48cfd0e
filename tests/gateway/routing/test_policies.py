"""Slates by the policy that explores: how they are asked for, and what the log says of them."""
from typing import Any

import pytest

from tests.gateway.world import KEY, Make, ask, items
from tests.model_server.tiny import ITEMS
from tfrec.client.results import Exploration, Recommendation


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
    world.popularity.meet([KEY.of(f"u{n}") for n in range(3)], [0] * 3)
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


def test_a_version_without_the_policys_signature_is_a_failure_of_the_model_server(make: Make) -> None:
    """Every version of tfrec has it, so another policy in its place would hide a wrong model."""
    world = make()
    response = world.http.post("/v1/recommend", json={"user": "u", "explore": True})  # the tiny model has no `explore`
    assert (response.status_code, "FAILED_PRECONDITION" in response.text) == (502, True)
    assert ask(world, explore=False)["policy"] == "greedy"


def test_large_lists_are_asked_in_batches_that_the_server_takes(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make(model_batch=3)
    sizes = []
    real = world.client.recommend
    monkeypatch.setattr(world.client, "recommend", lambda **inputs: sizes.append(len(inputs["k"])) or real(**inputs))
    bodies = [{"user": "u", "query": ITEMS[n % 5], "k": 1} for n in range(8)]
    answers = world.http.post("/v1/recommend", json=bodies).json()
    assert [items(answer)[0] for answer in answers] == [ITEMS[n % 5] for n in range(8)]
    assert sizes == [3, 3, 2]
