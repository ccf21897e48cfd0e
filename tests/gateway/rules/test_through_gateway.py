"""Rules through a gateway: what is answered and logged, with a model and without."""
import json
from math import log
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.world import Make, World, ask, items, popular
from tests.model_server.tiny import ITEMS
from tfrec.client.request_errors import InputNotServed
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item, boosts_of, pinned_of
from tfrec.release.manifest import CATALOGUE

RULES = """
[[rule]]
name = "campaign"
do = "pin"
items = ["e"]
position = 1

[[rule]]
name = "tv"
do = "exclude"
items = ["a"]
tags = ["adult"]
when = { device = "tv" }
"""
TV = {"context": {"device": "tv"}}


@pytest.fixture
def world(make: Make, tmp_path: Path) -> World:
    return ruled(make, tmp_path)


def ruled(make: Make, root: Path, **settings: Any) -> World:
    (root / "rules.toml").write_text(RULES)
    Catalogue([Item(id=one, text=one, tags=("adult",) if one in "bd" else ()) for one in ITEMS]).write(root / "prior" / CATALOGUE)
    return make(rules=root / "rules.toml", **settings)


def test_a_pin_stands_in_the_answer_and_is_marked_in_the_log(world: World) -> None:
    answer = ask(world, k=3)
    assert (items(answer), answer["pinned"], answer["policy"]) == (["a", "e", "b"], [1], "greedy")
    assert [one["score"] for one in answer["items"]] == [10, 0, 9]
    rows = world.rows("impressions")
    assert [(row["item"], row["position"], row["log_propensity"]) for row in rows] == [("a", 0, 0), ("e", 1, 0), ("b", 2, 0)]
    assert rows[0]["exclude"] == ["e"]  # it was no choice of the policy
    assert pinned_of(rows[0]["context"]) == ("e",)
    said = json.loads(rows[0]["context"])["rules"]
    assert said == {"version": world.rules.version, "names": ["campaign"], "pinned": ["e"], "boosts": []}


def test_what_a_segment_must_not_see(world: World) -> None:
    answer = ask(world, k=3, **TV)
    assert items(answer) == ["b", "e", "c"]  # the tiny model knows no tags
    [row, *_] = world.rows("impressions")
    assert (row["exclude"], row["deny_tags"]) == (["a", "e"], ["adult"])
    assert json.loads(row["context"])["rules"]["names"] == ["campaign", "tv"]


def test_a_pin_gives_way_to_what_the_user_has_seen_and_to_the_caller(world: World) -> None:
    assert items(ask(world, k=2, exclude=["e"])) == ["a", "b"]
    assert items(ask(world, k=2, history=[{"item": "e"}])) == ["a", "b"]
    assert "rules" not in json.loads(world.rows("impressions")[0]["context"])
    text = world.http.get("/metrics").text
    assert 'tfrec_gateway_rules_skipped_total{reason="excluded",rule="campaign"} 2.0' in text


def test_without_a_model_pins_and_exclusions_hold(make: Make, tmp_path: Path) -> None:
    world = ruled(make, tmp_path, down=True)
    popular(world)  # e, d, c, b, a
    assert items(ask(world, k=3)) == ["d", "e", "c"]
    answer = ask(world, k=3, **TV)
    assert (items(answer), answer["policy"], answer["pinned"]) == (["c", "e"], "popularity", [1])


BOOST = '[[rule]]\nname = "spring"\ndo = "boost"\ntags = ["adult"]\nfactor = 4.0\n'


def test_boosts_go_to_the_model_and_into_the_log(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rules.toml").write_text(BOOST)
    world = make(rules=tmp_path / "rules.toml")
    sent: list[Any] = []
    real = world.client.recommend
    monkeypatch.setattr(world.client, "recommend", lambda **inputs: sent.append(inputs["boosts"]) or real(**inputs))
    assert ask(world)["policy"] == "greedy"
    assert sent == [[(("tag", "adult", log(4), None, None),)]]
    assert boosts_of(world.rows("impressions")[0]["context"]) == (("tag", "adult", log(4), None, None),)


def test_a_version_that_takes_no_boosts_answers_without_them(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rules.toml").write_text(BOOST + RULES)
    world = make(rules=tmp_path / "rules.toml")
    real = world.client.recommend

    def older(**inputs: Any) -> Any:
        if any(inputs["boosts"]):
            raise InputNotServed("exported before", code="INVALID_ARGUMENT")
        return real(**inputs)

    monkeypatch.setattr(world.client, "recommend", older)
    assert items(ask(world, k=3)) == ["a", "e", "b"]
    said = json.loads(world.rows("impressions")[0]["context"])["rules"]
    assert (said["names"], said["pinned"], said["boosts"]) == (["spring", "campaign"], ["e"], [])
    assert "tfrec_gateway_rules_unboosted_total 1.0" in world.http.get("/metrics").text


def test_similar_items_are_not_excluded_ones(world: World) -> None:
    (text := world.rules)
    path = world.prior.parent / "rules.toml"
    path.write_text('[[rule]]\nname = "recall"\ndo = "exclude"\nitems = ["b"]\ntags = ["adult"]\n')
    text.problem()
    text.wait_until_read()
    answer = world.http.post("/v1/similar", json={"item": "a", "k": 4}).raise_for_status().json()
    assert items(answer) == ["c", "e"]


def test_readyz_says_that_the_file_is_wrong(world: World) -> None:
    (world.prior.parent / "rules.toml").write_text("[[rule]]\nname = 1\n")
    world.rules.problem()
    world.rules.wait_until_read()
    response = world.http.get("/readyz")
    assert (response.status_code, response.json()["rules"]) == (200, "the file of rules is wrong, and the rules of before hold")
    assert items(ask(world, k=2)) == ["a", "e"]


def test_several_requests_of_one_call_have_their_own_rules(world: World) -> None:
    bodies = [{"user": "u", "k": 2}, {"user": "v", "k": 1}, {"user": "w", "k": 2, **TV}, {"user": "x", "k": 2, "diversity": 0.5}]
    answers = world.http.post("/v1/recommend", json=bodies).raise_for_status().json()
    assert [items(one) for one in answers] == [["a", "e"], ["a"], ["b", "e"], ["a", "e"]]
    assert [one["pinned"] for one in answers] == [[1], [], [1], [1]]
