"""What the users of an arm get, and what the log says of it."""
import json
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.world import KEY, Make, World, ask, items
from tfrec.client.results import Exploration
from tfrec.config.experiment import Arm, Trial
from tfrec.experiments.assignment import arm_of
from tfrec.experiments.state import Started, StateFile
from tfrec.gateway.arms.watch import ExperimentWatch

USERS = [f"u{n}" for n in range(60)]


def started(name: str, number: int = 1, *, kind: Any = "split", **arms: dict[str, Any]) -> Started:
    trial = Trial(kind=kind, arms={arm: Arm(**settings) for arm, settings in arms.items()})
    return Started(name=name, number=number, trial=trial, level=0.05, effect=0.05, since=0)


VERSIONS = started("versions", old={"share": 0.5, "label": "stable"}, new={"share": 0.4, "label": "old"})
WARMTH = started("warmth", 2, plain={"share": 0.5}, warm={"share": 0.5, "temperature": 2.0, "epsilon": 0.2})


def arm_in(experiment: Started, user: str) -> str | None:
    return arm_of(KEY.of(user), experiment.id, {name: arm.share for name, arm in experiment.trial.arms.items()})


def logged_arms(world: World) -> list[dict[str, str]]:
    """Of each request that was logged."""
    return [json.loads(row["context"]).get("arms", {}) for row in world.rows("impressions") if row["context"]]


def drawing(world: World, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is asked of the signature that draws, of which the server's model has none."""
    calls: list[dict[str, Any]] = []

    def explore(**inputs: Any) -> list[Exploration]:
        calls.append(inputs)
        return [Exploration(("c",), (8.0,), 4, (-0.5,)) for _ in inputs["k"]]

    monkeypatch.setattr(world.client, "explore", explore)
    return calls


def test_each_user_gets_the_version_of_an_arm_and_the_log_keeps_which(make: Make) -> None:
    world = make(stable_label="stable")
    world.experiments.run([VERSIONS])
    answers = world.http.post("/v1/recommend", json=[{"user": user, "k": 1} for user in USERS]).json()
    arms = [arm_in(VERSIONS, user) for user in USERS]
    assert {*arms} == {"old", "new", None}
    assert [answer["model_version"] for answer in answers] == [3 if arm == "new" else 4 for arm in arms]
    assert logged_arms(world) == [{"versions.1": arm} if arm else {} for arm in arms]
    assert [row["model_version"] for row in world.rows("impressions")] == [answer["model_version"] for answer in answers]


def test_a_request_that_chooses_itself_takes_no_part(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make(stable_label="stable")
    drawing(world, monkeypatch)
    diverse = started("diverse", 3, plain={"share": 0.5}, mixed={"share": 0.5, "diversity": 0.5})
    user = next(user for user in USERS if all(arm_in(one, user) for one in (VERSIONS, WARMTH, diverse)))
    world.experiments.run([VERSIONS, WARMTH, diverse])
    counted = [({}, {"versions.1", "diverse.3"}), ({"label": "stable"}, {"diverse.3"}), ({"diversity": 0.0}, {"versions.1"}),
               ({"explore": True}, {"versions.1", "warmth.2"}), ({"caps": {"a:": 1}}, {"versions.1", "diverse.3"})]
    for body, _ in counted:
        ask(world, user=user, **body)
    assert [set(arms) for arms in logged_arms(world)] == [experiments for _, experiments in counted]


def test_arms_draw_by_their_own_temperature_and_the_log_names_it(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make(explore=True, temperature=0.5, epsilon=0.1)
    calls = drawing(world, monkeypatch)
    world.experiments.run([WARMTH])
    world.http.post("/v1/recommend", json=[{"user": user, "k": 1} for user in USERS]).raise_for_status()
    assert {(call["temperature"], call["epsilon"]) for call in calls} == {(0.5, 0.1), (2.0, 0.2)}
    policies = {"plain": "plackett_luce(temperature=0.5, epsilon=0.1)", "warm": "plackett_luce(temperature=2, epsilon=0.2)"}
    rows = world.rows("impressions")
    assert [(row["policy"], row["log_propensity"]) for row in rows] == [(policies[str(arm_in(WARMTH, u))], -0.5) for u in USERS]


def test_arms_change_weights_of_heads_and_diversity_as_a_request_would(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make(heads=("buy",))
    sent: list[dict[str, Any]] = []
    real = world.client.recommend
    monkeypatch.setattr(world.client, "recommend", lambda **inputs: sent.append(inputs) or real(
        **inputs | {"diversity": [0.0] * len(inputs["k"]), "head_weights": None}))
    world.experiments.run([started("heads", none={"share": 0.5}, buy={"share": 0.5, "head_weights": {"buy": 2.0}}),
                           started("mix", 2, none={"share": 0.5}, mixed={"share": 0.5, "diversity": 0.3})])
    world.http.post("/v1/recommend", json=[{"user": user, "k": 1} for user in USERS]).raise_for_status()
    arms, contexts = logged_arms(world), [json.loads(row["context"]) for row in world.rows("impressions")]
    sent_weights = [weights for call in sent for weights in call["head_weights"]]
    assert sent_weights == [{"buy": 2.0} if arm["heads.1"] == "buy" else None for arm in arms]
    assert [context.get("head_weights") for context in contexts] == sent_weights  # by which a propensity is made again
    assert [row["policy"] for row in world.rows("impressions")] == [
        "reranked" if arm["mix.2"] == "mixed" else "greedy" for arm in arms]


def test_the_version_of_an_arm_that_is_not_served_is_stood_in_for(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make(stable_label="stable", canary_label="old", canary_share=0.0)
    world.experiments.run([started("gone", here={"share": 0.001, "label": "stable"}, gone={"share": 0.999, "label": "none"})])
    calls = []
    real = world.client.recommend
    monkeypatch.setattr(world.client, "recommend", lambda **inputs: calls.append(inputs["label"]) or real(**inputs))
    answers = [ask(world) for _ in range(3)]
    assert [(answer["label"], answer["fallback"]) for answer in answers] == [("stable", "none is not served")] * 3
    assert calls == ["none", "stable", "stable", "stable"]
    assert logged_arms(world) == [{"gone.1": "gone"}] * 3  # who was assigned to it is compared, whatever answered


def test_a_gateway_takes_up_what_is_started_and_stopped(make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world, file = make(), StateFile(tmp_path / "run")
    watch = ExperimentWatch(file, world.experiments, seconds=60)
    with watch:
        file.change(lambda state: state.with_started(WARMTH).with_started(VERSIONS))
        watch.look()
        ask(world, k=1, user=next(user for user in USERS if arm_in(VERSIONS, user) == "old"))
        file.path.write_text("{")
        watch.look()
        watch.look()
        assert caplog.text.count("the experiments go on as they are") == 1
        ask(world, k=1, user=next(user for user in USERS if arm_in(VERSIONS, user) == "old"))
        file.path.unlink()
        watch.look()
        ask(world, k=1)
    assert logged_arms(world) == [{"versions.1": "old"}, {"versions.1": "old"}, {}]


def test_the_answer_is_explained_by_the_version_of_the_arm(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make(stable_label="stable")
    world.experiments.run([VERSIONS])
    labels: list[str] = []
    monkeypatch.setattr(world.client, "explain", lambda **inputs: labels.append(inputs["label"]) or [])
    user = next(user for user in USERS if arm_in(VERSIONS, user) == "new")
    world.http.post("/v1/explain", json={"user": user, "item": "a"})
    assert labels == ["old"]
    assert items(ask(world, user=user)) == ["a", "b"]
