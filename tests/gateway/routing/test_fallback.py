"""What answers when the version that should answer does not."""
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.routing.words import Searched
from tests.gateway.world import KEY, NOW, Make, World, ask, items, popular
from tfrec.client.request_errors import RequestFailed
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item
from tfrec.models.popularity_prior import PopularityPrior
from tfrec.release.popularity_files import PRIOR_FILE


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
    world.popularity.meet([KEY.of(f"v{n}") for n in range(20)], [0] * 20)
    world.http.post("/v1/outcomes", json=[{"user": f"v{n}", "item": "a", "action": "click", "time": NOW} for n in range(20)])
    world.now += 1
    assert items(ask(world, k=1, user="w")) == ["a"]


def test_popularity_is_no_answer_to_a_search_without_words_to_tags_or_without_counts(make: Make) -> None:
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


@pytest.mark.parametrize("claimed", [0, 1, 10**11])
def test_no_time_of_a_request_changes_the_answer_to_another_user(make: Make, claimed: int) -> None:
    world = make(down=True)
    popular(world)
    expected = PopularityPrior.load(world.prior / PRIOR_FILE)
    ask(world, user="x", time=claimed)
    world.popularity.meet([KEY.of(f"v{n}") for n in range(20)], [0] * 20)
    world.http.post("/v1/outcomes", json=[{"user": f"v{n}", "item": "a", "action": "click", "time": NOW} for n in range(20)])
    world.now += 1
    ask(world, user="x", time=claimed)
    expected.update([0] * 20, [NOW] * 20)
    best = ask(world, k=1, user="w")["items"][0]
    assert (best["item"], best["score"]) == ("a", pytest.approx(float(expected.log_p()[0]), abs=1e-6))


@pytest.fixture
def down(make: Make, tmp_path: Path) -> World:
    """A gateway whose model server is down, with a version that has words."""
    titles = ["heat", "the inception", "interstellar", "heat and dust", "heated"]
    films = Catalogue([Item(id=f"f{n}", text=title, available=n != 4) for n, title in enumerate(titles)])
    made = make(down=True)
    made.prior, made.is_fresh = Searched(films, tmp_path / "version").version, True
    return made


def test_a_search_is_answered_and_says_so(down: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        answer = down.http.post("/v1/search", json={"query": "inceptoin", "k": 3}).raise_for_status().json()
    assert items(answer)[0] == "f1"
    assert (answer["policy"], answer["model_version"], answer["label"]) == ("words", 0, "")
    assert answer["fallback"] == "the model server does not answer"
    assert "words of queries answer: " in caplog.text
    rows = down.rows("impressions")
    assert {(row["policy"], row["query"], row["log_propensity"]) for row in rows} == {("words", "inceptoin", None)}
    assert 'tfrec_gateway_fallbacks_total{to="words"} 1.0' in down.http.get("/metrics").text


def test_what_the_user_has_had_and_what_is_excluded_is_left_out(down: World) -> None:
    assert down.http.post("/v1/outcomes", json={"user": "u", "item": "f0", "action": "click"}).status_code == 200
    body = {"user": "u", "query": "heat", "k": 3}
    assert items(down.http.post("/v1/recommend", json=body).json())[0] == "f3"
    found = items(down.http.post("/v1/recommend", json=body | {"exclude": ["f3"]}).json())
    assert not {"f0", "f4", "f3"} & {*found}


def test_tags_numbers_and_caps_are_not_known_here(down: World) -> None:
    for more in ({"allow_tags": ["x"]}, {"deny_tags": ["x"]}, {"bounds": {"year": {"min": 1}}}, {"caps": {"brand:": 1}}):
        for path in ("search", "recommend"):
            assert down.http.post(f"/v1/{path}", json={"query": "heat", "user": "u", **more}).status_code == 503


def test_a_query_without_known_words_is_answered_as_without_words(down: World) -> None:
    body = {"user": "u", "query": "🙂", "k": 2}
    assert down.http.post("/v1/recommend", json=body).json()["policy"] == "popularity"
    assert down.http.post("/v1/search", json=body).status_code == 503
    answers = down.http.post("/v1/recommend", json=[body, body | {"query": "heat"}, {"user": "v"}]).json()
    assert [answer["policy"] for answer in answers] == ["popularity", "words", "popularity"]
    assert down.http.post("/v1/search", json=[body, body | {"query": "heat"}]).status_code == 503  # one of them has no answer
