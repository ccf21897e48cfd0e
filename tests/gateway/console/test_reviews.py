"""The verbs of a review: the queue, a decision, and who may take one."""
import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.rules.test_held_items import flagged
from tests.gateway.world import Make, World, ask, items
from tfrec.review.standing import digest_of


def post(world: World, verb: str, key: str = "", **body: Any) -> Any:
    return world.http.post(f"/v1/{verb}", json=body, headers={"x-api-key": key} if key else {})


def test_the_queue_and_a_decision(world: World, tmp_path: Path) -> None:
    assert post(world, "reviews").json() == {"waiting": 0, "hidden": 0, "labels": ["harmful", "adult", "spam"], "queue": [],
                                             "decided": []}
    flagged(tmp_path, "a", "b")
    found = post(world, "reviews", limit=1).json()
    assert (found["waiting"], found["hidden"]) == (2, 2)
    assert found["queue"] == [{"item": "a", "digest": digest_of("spam"), "text": "spam", "since": "1970-01-01 00:00:10 UTC",
                               "reasons": [{"label": "spam", "by": "list", "term": "spam", "score": None}]}]
    done = post(world, "review", item="a", decision="approve", note="a joke", digest=digest_of("spam"))
    assert (done.status_code, done.json()["who"], done.json()["note"]) == (200, "anyone", "a joke")
    assert items(ask(world, k=1)) == ["a"]
    assert [one["item"] for one in post(world, "reviews").json()["decided"]] == ["a"]


@pytest.mark.parametrize(("body", "status", "words"), [
    ({"item": "nobody", "decision": "approve"}, 404, "nothing has flagged it"),
    ({"item": "a", "decision": "approve", "digest": "0"}, 409, "its text has changed since it was read"),
    ({"item": "a", "decision": "reject", "label": "rude"}, 422, "expected a label of review.labels"),
    ({"item": "a", "decision": "perhaps"}, 422, "Input should be 'approve' or 'reject'"),
    ({"item": "a", "decision": "reject", "note": "x" * 1001}, 422, "at most 1000"),
    ({"item": "b", "decision": "approve"}, 409, "it was rejected by ben at "),
    ({"item": "gone", "decision": "approve"}, 410, "it is gone from the catalogue since"),
])
def test_what_is_refused_says_why(world: World, tmp_path: Path, body: dict[str, Any], status: int, words: str) -> None:
    from tfrec.data.records import Item
    from tfrec.review.scan import scan

    config = flagged(tmp_path, "a", "b")
    kept = [Item(id=one, text="spam") for one in ("a", "b")]
    scan(config, [*kept, Item(id="gone", text="spam")], now=30)
    scan(config, kept, now=40)
    post(world, "review", item="b", decision="reject", who="ben").raise_for_status()
    answer = post(world, "review", **body)
    assert answer.status_code == status
    assert words in answer.json()["errors"][0]["message"]
    assert "nobody" not in answer.text
    assert post(world, "review", item="b", decision="approve", overrule=True).status_code == 200


def test_who_may_see_may_not_decide(make: Make, tmp_path: Path) -> None:
    flagged(tmp_path, "a")
    keys = tmp_path / "keys"
    keys.write_text("".join(f"{role} {role} {hashlib.sha256(role.encode()).hexdigest()}\n" for role in ("explain", "review")))
    world = make(keys=keys)
    body = {"item": "a", "decision": "reject"}
    assert [post(world, "reviews", key).status_code for key in ("", "explain", "review")] == [401, 200, 403]
    assert [post(world, "review", key, **body).status_code for key in ("", "explain", "review")] == [401, 403, 200]
    assert post(world, "reviews", "explain").json()["decided"][0]["who"] == "review"  # the name of the key
