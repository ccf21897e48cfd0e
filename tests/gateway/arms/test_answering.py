"""Two rankings in one answer, arms that are asked and not shown, and what the application shows itself."""
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.docs.pages import block
from tests.gateway.arms.test_assigned import USERS, arm_in, drawing, logged_arms, started
from tests.gateway.world import Make, World, ask, items
from tfrec.client.results import Recommendation
from tfrec.gateway.arms.interleaving import team_draft
from tfrec.gateway.http.schemas import RecommendRequest

BOTH = started("both", kind="interleave", old={"share": 1.0, "label": "stable"}, new={"share": 1.0, "label": "old"})
SHADOW = started("beside", 2, kind="shadow", new={"share": 0.5, "label": "old"})
RANKINGS = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8)


def ranking(world: World, monkeypatch: pytest.MonkeyPatch, **rankings: str) -> None:
    """Let each label have a ranking of its own."""
    def recommend(*, label: str, k: Any, **_: Any) -> list[Recommendation]:
        found = rankings[label]
        return [Recommendation(tuple(found[:n]), tuple(9.0 - i for i in range(len(found[:n]))), 4 - (label == "old")) for n in k]

    monkeypatch.setattr(world.client, "recommend", recommend)


def contexts(world: World) -> list[dict[str, Any]]:
    return [json.loads(row["context"]) for row in world.rows("impressions") if row["context"]]


@given(RANKINGS, RANKINGS, st.integers(0, 10), st.integers(0, 99))
def test_an_answer_of_two_rankings_has_no_item_twice_and_teams_of_one_size(first: list[str], second: list[str], k: int,
                                                                        seed: int) -> None:
    ranks, teams = team_draft(first, second, k, seed=seed)
    drafted = [(first, second)[int(team)][rank] for rank, team in zip(ranks, teams, strict=True)]
    assert len(set(drafted)) == len(drafted) == min(k, len({*first, *second}))
    for length in range(len(teams)):  # while both have items left, no team is two ahead
        left = [set(own) - set(drafted[:length]) for own in (first, second)]
        if all(left):
            assert abs(teams[: length + 1].count("0") - teams[: length + 1].count("1")) <= 1
    # each item is the best that its team had left
    for place, (item, team) in enumerate(zip(drafted, teams, strict=True)):
        assert item == next(own for own in (first, second)[int(team)] if own not in drafted[:place])
    # with the coins the other way round the teams change places
    assert team_draft(first, first, k, seed=seed)[1].count("0") in {k // 2, (k + 1) // 2, len(first) // 2, (len(first) + 1) // 2}


def test_both_rankings_come_first_equally_often() -> None:
    firsts = [team_draft("abc", "xyz", 3, seed=seed)[1][0] for seed in range(400)]
    assert 160 <= firsts.count("0") <= 240  # 200 expected, deviation 10


def test_an_interleaved_answer_is_logged_with_teams_and_without_propensities(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make(stable_label="stable")
    world.experiments.run([BOTH])
    ranking(world, monkeypatch, stable="abcde", old="xayb")
    answer = ask(world, k=4)
    [context] = contexts(world)
    rows = world.rows("impressions")
    assert sorted(context["teams"]) == ["0", "0", "1", "1"]
    assert (context["arms"], "shadows" in context) == ({"both.1": "both"}, False)
    assert [row["log_propensity"] for row in rows] == [None] * 4
    assert {row["policy"] for row in rows} == {"interleaved(greedy, greedy)"}
    assert items(answer) == [row["item"] for row in rows]
    left = {"0": list("abcde"), "1": list("xayb")}
    for row, team in zip(rows, context["teams"], strict=True):
        assert row["item"] == left[team][0]
        left = {name: [item for item in own if item != row["item"]] for name, own in left.items()}


def test_a_shadow_is_asked_and_logged_and_never_shown(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make(stable_label="stable")
    world.experiments.run([SHADOW])
    ranking(world, monkeypatch, stable="abc", old="xyz")
    answers = world.http.post("/v1/recommend", json=[{"user": user, "k": 2} for user in USERS]).json()
    assert {tuple(items(answer)) for answer in answers} == {("a", "b")}
    assert [row["policy"] for row in world.rows("impressions")] == ["greedy"] * 2 * len(USERS)
    arms = [arm_in(SHADOW, user) for user in USERS]
    assert [context.get("shadows") for context in contexts(world)] == [{"beside.2": ["x", "y"]} if arm else None for arm in arms]
    assert logged_arms(world) == [{"beside.2": arm} if arm else {} for arm in arms]


def test_shadows_stand_beside_two_rankings_and_a_split(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make(stable_label="stable", explore=True)
    calls = drawing(world, monkeypatch)
    warmth = started("warmth", 3, warm={"share": 0.999, "temperature": 2.0}, plain={"share": 0.001})
    world.experiments.run([BOTH, SHADOW, warmth])
    user = next(user for user in USERS if arm_in(SHADOW, user))
    ask(world, user=user, k=1)
    assert [(call["label"], call["temperature"], len(call["k"])) for call in calls] == [("stable", 2.0, 1), ("old", 2.0, 2)]
    [context] = contexts(world)
    assert context["arms"] == {"both.1": "both", "beside.2": "new", "warmth.3": "warm"}
    assert (len(context["teams"]), context["shadows"]) == (1, {"beside.2": ["c"]})


def test_what_the_application_shows_itself_is_logged_beside_what_tfrec_would_have_shown(make: Make) -> None:
    world = make(stable_label="stable")
    world.experiments.run([BOTH, SHADOW])
    answer = ask(world, shown=[{"item": "e", "log_propensity": -1.5}, {"item": "d"}])
    assert items(answer) == ["a", "b"]
    rows = world.rows("impressions")
    assert [(row["item"], row["log_propensity"], row["policy"]) for row in rows] == [
        ("e", -1.5, "application"), ("d", None, "application")]
    assert {row["request_id"] for row in rows} == {answer["request_id"]}
    assert contexts(world)[0]["shadows"] == {"tfrec": ["a", "b"]}
    assert logged_arms(world) == [{}]


@pytest.mark.parametrize("shown", [[], [{"item": "a"}, {"item": "a"}], [{"item": "a", "log_propensity": 0.5}], [{}]])
def test_a_slate_that_nobody_can_have_shown_is_refused(world: World, shown: list[dict[str, Any]]) -> None:
    assert world.http.post("/v1/recommend", json={"user": "u", "shown": shown}).status_code == 422
    assert world.rows("impressions") == []


def test_the_request_of_the_documentation_is_one() -> None:
    asked = RecommendRequest.model_validate_json(block("docs/experiments.md", '{"user"').text)
    assert [one.log_propensity for one in asked.shown or ()] == [-1.2, None]


def test_a_pinned_item_is_of_no_team_and_not_of_what_the_application_shows(
        make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text('[[rule]]\nname = "first"\ndo = "pin"\nitems = ["e"]\nposition = 1\n')
    world = make(stable_label="stable", rules=tmp_path / "rules.toml")
    world.experiments.run([BOTH])
    ranking(world, monkeypatch, stable="abc", old="xyz")
    answer = ask(world, k=3)
    assert items(answer)[1] == "e"
    [context] = contexts(world)
    assert (context["teams"][1], sorted(context["teams"])) == ("-", ["-", "0", "1"])
    ask(world, k=3, shown=[{"item": "e"}])
    assert "rules" not in contexts(world)[1]
    assert contexts(world)[1]["shadows"]["tfrec"][1] == "e"
