"""What a scan flags and clears, what a decision holds for, and what becomes of it after a kill."""
import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tfrec.config import Config
from tfrec.data.records import Item
from tfrec.errors import DataError, UsageError
from tfrec.review.decide import ReviewRefused, decide
from tfrec.review.scan import scan
from tfrec.review.standing import ReviewState, digest_of

SPAM, LONG = "Free money for you", "free money " * 100_000
LABELS = ("harmful", "adult", "spam")
ITEMS = [Item(id="a", text=SPAM), Item(id="b", text={"title": "<b>Adult</b>", "plot": "18+"}), Item(id="c", text=""),
         Item(id="d", text="A garden"), Item(id="e", text="成人 movies 免费领取")]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "terms.toml").write_text('spam = ["free money", "免费领取"]\nadult = ["adult", "成人"]\n')
    return Config.model_validate({"run": tmp_path / "run", "review": {"terms": tmp_path / "terms.toml"}})


def stand(config: Config) -> dict[str, str]:
    return {item: one.status for item, one in ReviewState.of(config.run).items.items()}


def hidden(config: Config, *, hold: bool = True) -> tuple[str, ...]:
    return ReviewState.of(config.run).hidden(hold=hold)


def judged(config: Config, item: str, verdict: Any, now: int = 50, **said: Any) -> None:
    decide(ReviewState(config.run), item, verdict, now=now, labels=LABELS, who="anna", **said)


def lines(config: Config) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (config.run / "review" / "record.jsonl").read_text().splitlines()]


def changed(text: str, item: str = "a") -> list[Item]:
    return [one.model_copy(update={"text": text}) if one.id == item else one for one in ITEMS]


def test_flags_wait_with_their_texts_and_are_put_on_record_once(config: Config) -> None:
    done = scan(config, ITEMS, now=10)
    assert (done.items, done.judged, done.flagged, done.waiting, done.hidden) == (5, 5, 3, 3, 3)
    queue = ReviewState.of(config.run).waiting()
    assert [(one.flag.item, [why.term for why in one.flag.reasons]) for one in queue] == [
        ("a", ["free money"]), ("b", ["adult"]), ("e", ["成人", "免费领取"])]
    assert queue[1].flag.text == "<b>Adult</b>. 18+"
    again = scan(config, ITEMS, now=20)
    assert (again.judged, again.flagged, again.waiting) == (3, 0, 3)  # what was clean is not looked at
    assert len(lines(config)) == 3
    assert (hidden(config), hidden(config, hold=False)) == (("a", "b", "e"), ())


def test_an_empty_catalogue_and_items_that_are_not_shown(config: Config) -> None:
    assert scan(config, [], now=10).items == 0
    assert scan(config, [Item(id="a", text=SPAM, available=False)], now=20).flagged == 0
    assert not (config.run / "review" / "record.jsonl").read_text()


def test_an_approval_holds_for_its_text(config: Config) -> None:
    scan(config, ITEMS, now=10)
    judged(config, "a", "approve", note="a joke")
    assert scan(config, ITEMS, now=60).flagged == 0
    assert hidden(config) == ("b", "e")
    assert scan(config, changed(f"{SPAM}!"), now=70).flagged == 1  # judged anew
    assert hidden(config) == ("a", "b", "e")
    judged(config, "a", "reject", label="harmful")
    assert scan(config, ITEMS, now=80).flagged == 0  # the approved text is back
    assert stand(config)["a"] == "approved"
    assert scan(config, changed(f"{SPAM}!"), now=90).flagged == 0  # and the rejected one
    assert stand(config)["a"] == "rejected"


def test_a_rejected_item_does_not_come_back_by_another_text(config: Config) -> None:
    scan(config, ITEMS, now=10)
    judged(config, "a", "reject")
    assert scan(config, changed("A fine lamp"), now=60).flagged == 1
    (one,) = [one for one in ReviewState.of(config.run).waiting() if one.flag.item == "a"]
    assert [(why.label, why.by) for why in one.flag.reasons] == [("spam", "earlier")]
    assert hidden(config, hold=False) == ("a",)  # until somebody has read it
    judged(config, "a", "approve")
    assert hidden(config, hold=False) == ()
    assert scan(config, changed("Another lamp"), now=80).flagged == 0


def test_what_is_gone_is_refused_and_judged_anew_when_it_is_back(config: Config) -> None:
    scan(config, ITEMS, now=10)
    judged(config, "e", "reject")
    assert scan(config, ITEMS[1:4], now=60).cleared == 2
    assert stand(config) == {"a": "gone", "b": "waiting", "e": "gone"}
    assert hidden(config, hold=False) == ("e",)  # an older version may have it still
    with pytest.raises(ReviewRefused, match="item 'a': it is gone from the catalogue since 1970-01-01 00:01:00 UTC") as refused:
        judged(config, "a", "approve")
    assert refused.value.status == 410
    assert scan(config, ITEMS[1:4], now=65).cleared == 0
    assert scan(config, ITEMS, now=70).flagged == 1
    assert stand(config) == {"a": "waiting", "b": "waiting", "e": "rejected"}


@pytest.mark.parametrize(("text", "why"), [("", "its text has changed, and nothing"), ("A lamp", "its text has changed")])
def test_what_nothing_flags_any_more_waits_no_more(config: Config, text: str, why: str) -> None:
    scan(config, ITEMS, now=10)
    assert scan(config, changed(text), now=60).cleared == 1
    with pytest.raises(ReviewRefused, match=why) as refused:
        judged(config, "a", "approve")
    assert refused.value.status == 409
    assert scan(config, ITEMS, now=70).flagged == 1
    assert config.review.terms is not None
    config.review.terms.write_text('adult = ["adult", "成人"]\n')
    assert scan(config, ITEMS, now=80).cleared == 1
    config.review.terms.write_text('spam = ["garden", "free money"]\nadult = ["adult", "成人"]\n')
    assert scan(config, ITEMS, now=90).flagged == 2  # what was clean is looked at by a new list


@pytest.mark.parametrize(("said", "status", "words"), [
    ({"item": "d"}, 404, "nothing has flagged it"),
    ({"item": "b", "label": "rude"}, 422, "expected a label of review.labels"),
    ({"item": "b", "note": "x" * 1001}, 422, "at most 1000 characters, got 1001"),
    ({"item": "b", "digest": digest_of("other")}, 409, "its text has changed since it was read"),
    ({"item": "a"}, 409, "it was approved by anna at 1970-01-01 00:00:50 UTC. To change that, overrule it."),
])
def test_what_cannot_be_decided_says_why(config: Config, said: dict[str, Any], status: int, words: str) -> None:
    scan(config, ITEMS, now=10)
    judged(config, "a", "approve")
    with pytest.raises(ReviewRefused) as refused:
        judged(config, verdict="reject", **said)
    assert (refused.value.status, words in str(refused.value)) == (status, True)
    assert len(lines(config)) == 4
    judged(config, "a", "reject", overrule=True)
    assert stand(config)["a"] == "rejected"


def test_of_two_who_decide_at_once_one_is_told_of_the_other(config: Config) -> None:
    scan(config, [Item(id=str(n), text=SPAM) for n in range(20)], now=10)
    told: list[str] = []

    def work(who: str) -> None:
        state = ReviewState(config.run)
        for item in range(20):
            try:
                decide(state, str(item), "approve" if who == "anna" else "reject", now=50, labels=LABELS, who=who)
            except ReviewRefused as error:
                told.append(str(error))

    people = [threading.Thread(target=work, args=(who,)) for who in ("anna", "ben")]
    for one in people:
        one.start()
    for one in people:
        one.join()
    assert len(told) == 20
    assert all("ed by anna" in words or "ed by ben" in words for words in told)
    assert [line["do"] for line in lines(config)].count("flag") == 20 == len(lines(config)) - 20


def test_a_huge_text_is_kept_in_part(config: Config) -> None:
    scan(config, [Item(id="a", text=LONG)], now=10)
    assert len(lines(config)[0]["text"]) == 4000
    assert scan(config, [Item(id="a", text=LONG)], now=20).flagged == 0


def test_a_damaged_line_is_named_and_an_unfinished_one_is_replaced(config: Config) -> None:
    scan(config, ITEMS, now=10)
    path = config.run / "review" / "record.jsonl"
    with path.open("a") as file:
        file.write('{"do":"approve","item":"a"')  # a power cut
    assert stand(config)["a"] == "waiting"
    judged(config, "a", "approve")
    assert stand(config) == {"a": "approved", "b": "waiting", "e": "waiting"}
    path.write_text(path.read_text().replace('"do":"approve"', '"do":"perhaps"'))
    with pytest.raises(DataError, match=r"record\.jsonl line 4: expected a flag or a decision"):
        scan(config, ITEMS, now=60)
    assert len(lines(config)) == 4


def test_a_record_that_is_gone_is_no_empty_one(config: Config) -> None:
    scan(config, ITEMS, now=10)
    state = ReviewState.of(config.run)
    (config.run / "review" / "record.jsonl").unlink()
    with pytest.raises(DataError, match="the record is gone"):
        state.record.read()
    assert state.hidden(hold=True) == ("a", "b", "e")


def test_a_record_that_was_put_back_is_read_anew(config: Config) -> None:
    scan(config, ITEMS, now=10)
    path = config.run / "review" / "record.jsonl"
    copy = path.read_text()
    judged(config, "a", "approve")
    state = ReviewState.of(config.run)
    path.with_name("copy").write_text(copy)
    path.with_name("copy").replace(path)
    assert state.record.read()
    assert state.hidden(hold=True) == ("a", "b", "e")


KILLS = [f"tfrec.data.durable_files.{name}" for name in ("write_all", "replace", "sync_directory")] + ["os.fsync", "os.ftruncate"]


@pytest.mark.parametrize("name", KILLS)
@pytest.mark.parametrize("when", ["before", "after", "half"])
def test_killed_anywhere_nothing_is_lost_or_done_twice(config: Config, name: str, when: str) -> None:
    import pkgutil

    real: Callable[..., Any] = pkgutil.resolve_name(name)

    def deadly(*words: Any) -> None:
        if when == "after":
            real(*words)
        elif when == "half" and name.endswith("write_all"):
            real(words[0], words[1][: len(words[1]) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    scan(config, ITEMS[:1], now=10)
    child = os.fork()
    if not child:
        with mock.patch(name, deadly):
            judged(config, "a", "approve")
            scan(config, ITEMS, now=60)
        os._exit(0)
    os.waitpid(child, 0)
    known = stand(config)["a"]
    if known == "waiting":
        judged(config, "a", "approve")
    scan(config, ITEMS, now=70)
    scan(config, ITEMS, now=80)
    assert stand(config) == {"a": "approved", "b": "waiting", "e": "waiting"}
    assert sorted((line["do"], line["item"]) for line in lines(config)) == [
        ("approve", "a"), ("flag", "a"), ("flag", "b"), ("flag", "e")]


def test_a_wrong_list_changes_nothing(config: Config) -> None:
    assert config.review.terms is not None
    config.review.terms.write_text("spam = 3\n")
    with pytest.raises(UsageError, match="expected a list"):
        scan(config, ITEMS, now=10)
    assert not (config.run / "review").exists()
