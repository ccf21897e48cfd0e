"""Items that a review hides: from every answer, within a look of the decision, and marked in the log."""
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.rules.test_through_gateway import ruled
from tests.gateway.world import Make, World, ask, items, popular
from tests.model_server.tiny import ITEMS
from tfrec.config import Config
from tfrec.data.records import Item
from tfrec.review.decide import decide
from tfrec.review.scan import scan
from tfrec.review.standing import ReviewState

LABELS = ("spam",)


def flagged(root: Path, *ids: str, now: int = 10) -> Config:
    """A run in which these items of the tiny model wait."""
    (root / "terms.toml").write_text('spam = ["spam"]\n')
    config = Config.model_validate({"run": root / "run", "review": {"terms": root / "terms.toml", "labels": LABELS}})
    scan(config, [Item(id=one, text="spam" if one in ids else one) for one in dict.fromkeys([*ITEMS, *ids])], now=now)
    return config


def judged(config: Config, item: str, verdict: Any, **said: Any) -> None:
    decide(ReviewState(config.run), item, verdict, now=20, labels=LABELS, who="anna", **said)


def test_what_waits_is_not_shown_until_it_is_approved(make: Make, tmp_path: Path) -> None:
    config = flagged(tmp_path, "a", "c")
    world = make()
    assert items(ask(world, k=3)) == ["b", "d", "e"]
    judged(config, "a", "approve")
    assert items(ask(world, k=3)) == ["a", "b", "d"]
    judged(config, "c", "reject")
    assert items(ask(world, k=3)) == ["a", "b", "d"]
    judged(config, "a", "reject", overrule=True)
    assert items(ask(world, k=3)) == ["b", "d", "e"]


def test_it_is_an_input_of_the_model_and_stands_in_the_log(make: Make, tmp_path: Path,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    flagged(tmp_path, "a")
    world = make()
    sent: list[Any] = []
    real = world.client.recommend
    monkeypatch.setattr(world.client, "recommend", lambda **inputs: sent.append(inputs["exclude"]) or real(**inputs))
    assert items(ask(world, k=2)) == ["b", "c"]
    assert sent == [[["a"]]]
    rows = world.rows("impressions")
    assert rows[0]["exclude"] == ["a"]
    assert json.loads(rows[0]["context"])["rules"] == {"version": "", "names": ["(review)"], "pinned": [], "boosts": []}


def test_a_held_item_that_a_rule_pins_is_not_shown(make: Make, tmp_path: Path) -> None:
    flagged(tmp_path, "e")
    world = ruled(make, tmp_path)
    answer = ask(world, k=3)
    assert (items(answer), answer["pinned"]) == (["a", "b", "c"], [])
    assert 'tfrec_gateway_rules_skipped_total{reason="excluded",rule="campaign"} 1.0' in world.http.get("/metrics").text


def test_in_searches_previews_and_similar_items(make: Make, tmp_path: Path) -> None:
    flagged(tmp_path, "b", "e")
    world = make()
    found = world.http.post("/v1/search", json={"query": "b", "k": 3}).json()
    assert not {"b", "e"} & set(items(found))
    assert not {"b", "e"} & set(items(world.http.post("/v1/preview", json={"k": 5}).json()))
    assert "b" not in items(world.http.post("/v1/similar", json={"item": "a", "k": 4}).json())


def test_without_a_model(make: Make, tmp_path: Path) -> None:
    config = flagged(tmp_path, "b", "e")
    down = make(down=True)
    popular(down)  # e, d, c, b, a
    assert items(ask(down, k=3)) == ["d", "c", "a"]
    judged(config, "e", "approve")
    assert items(ask(down, k=3)) == ["e", "d", "c"]


def test_what_waits_can_be_shown_meanwhile(make: Make, tmp_path: Path) -> None:
    config = flagged(tmp_path, "a", "b")
    world = make(hold=False)
    assert items(ask(world, k=2)) == ["a", "b"]
    judged(config, "a", "reject")
    assert items(ask(world, k=2)) == ["b", "c"]


def test_the_queue_is_a_metric_and_a_damaged_record_hides_what_it_hid(make: Make, tmp_path: Path,
                                                                     caplog: pytest.LogCaptureFixture) -> None:
    config = flagged(tmp_path, "a", "b")
    judged(config, "a", "reject")
    world = make()

    def metric(name: str) -> str:
        text: str = world.http.get("/metrics").text
        return next(line.split()[-1] for line in text.splitlines() if line.startswith(f"tfrec_gateway_review_{name}"))

    assert [metric(name) for name in ("waiting", "hidden", "problem")] == ["1.0", "2.0", "0.0"]
    with (config.run / "review" / "record.jsonl").open("a") as file:
        file.write("no JSON\n")
    with caplog.at_level(logging.ERROR):
        assert items(ask(world, k=2)) == ["c", "d"]
    assert "what was hidden before stays hidden" in caplog.text
    assert metric("problem") == "1.0"
    (config.run / "review" / "record.jsonl").unlink()
    assert items(ask(world, k=2)) == ["c", "d"]


def test_without_a_record_nothing_is_marked(world: World) -> None:
    ask(world)
    assert "rules" not in json.loads(world.rows("impressions")[0]["context"])


def test_a_thousand_hidden_items(make: Make, tmp_path: Path) -> None:
    config = flagged(tmp_path)
    scan(config, [Item(id=f"x{n}", text="spam") for n in range(1000)], now=30)
    world = make()
    assert items(ask(world, k=3)) == ["a", "b", "c"]
    assert len(world.rows("impressions")[0]["exclude"]) == 1000
