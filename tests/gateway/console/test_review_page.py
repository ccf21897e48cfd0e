"""The view Review in a browser: the queue is decided by mouse, by keyboard, at a telephone's width, and by two people at once."""
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.gateway.console.test_page import address, browser, page, pictured, pytestmark  # noqa: F401  fixtures
from tests.gateway.console.world import NASTY
from tests.gateway.world import Make, World, ask, items
from tfrec.config import Config
from tfrec.data.records import Item
from tfrec.review.decide import decide
from tfrec.review.scan import scan
from tfrec.review.standing import ReviewState

if TYPE_CHECKING:
    from playwright.sync_api import Page

TEXTS = {"a": f"Free money {NASTY}", "b": {"title": "Adult", "plot": "免费领取 \u202e" + "word " * 400 + "x" * 500},
         "c": "a garden", "d": "free money for all"}
LABELS = ("harmful", "adult", "spam")


def flagged(root: Path) -> Config:
    (root / "terms.toml").write_text('spam = ["free money", "免费领取"]\nadult = ["adult"]\n')
    config = Config.model_validate({"run": root / "run", "review": {"terms": root / "terms.toml", "labels": LABELS}})
    scan(config, [Item(id=one, text=text) for one, text in TEXTS.items()], now=10)  # type: ignore[arg-type]
    return config


def decided(config: Config) -> list[tuple[str, str, str, str, str]]:
    lines = map(json.loads, (config.run / "review" / "record.jsonl").read_text().splitlines())
    return [(one["item"], one["do"], one.get("label", ""), one.get("who", ""), one.get("note", ""))
            for one in lines if one["do"] in ("approve", "reject")]


def test_nothing_waits(world: World, page: "Page") -> None:  # noqa: F811
    page.goto(address(world))
    page.get_by_role("link", name="Review").click()
    page.get_by_text("Waiting: 0. Items that are not shown: 0.").wait_for()
    page.get_by_text("Nothing is decided yet.").wait_for()


def test_the_queue_is_decided_by_mouse(world: World, page: "Page", tmp_path: Path) -> None:  # noqa: F811
    config = flagged(tmp_path)
    page.goto(f"{address(world)}/#review")
    queue = page.locator("#review-queue article")
    queue.nth(2).wait_for()
    assert page.locator("#review-count").inner_text() == "Waiting: 3. Items that are not shown: 3."
    assert f"Free money {NASTY}" in queue.nth(0).inner_text()
    assert 'spam has the words "free money"' in queue.nth(0).inner_text()
    assert queue.nth(1).locator("li").all_inner_texts() == ['adult has the words "adult"', 'spam has the words "免费领取"']
    pictured(page, "review")
    page.get_by_label("Your name").fill("anna")
    queue.nth(0).get_by_label("Note").fill(f"no {NASTY}")
    queue.nth(0).get_by_label("Rejected for").select_option("harmful")
    page.get_by_role("button", name="Reject a").click()
    page.get_by_text("a is rejected.").wait_for()
    page.get_by_role("button", name="Approve b").click()
    page.get_by_text("b is approved.").wait_for()
    assert decided(config) == [("a", "reject", "harmful", "anna", f"no {NASTY}"), ("b", "approve", "", "anna", "")]
    assert items(ask(world, k=2)) == ["b", "c"]
    page.get_by_role("button", name="Change: approve a").click()
    page.get_by_text("a is approved.").wait_for()
    assert items(ask(world, k=2)) == ["a", "b"]
    pictured(page, "reviewed")


def test_by_keyboard(world: World, page: "Page", tmp_path: Path) -> None:  # noqa: F811
    config = flagged(tmp_path)
    page.goto(f"{address(world)}/#review")
    queue = page.locator("#review-queue article")
    queue.nth(2).wait_for()
    page.get_by_label("Your name").focus()
    page.keyboard.type("ar")  # in a field, letters are letters
    page.keyboard.press("Tab")
    for key in "jjkr":  # to the third, back to the second
        page.keyboard.press(key)
    page.get_by_text("b is rejected.").wait_for()
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Item d"
    page.keyboard.press("a")
    page.get_by_text("d is approved.").wait_for()
    page.keyboard.press("Control+a")  # it selects all, and decides nothing
    page.keyboard.press("a")
    page.get_by_text("Waiting: 0.").wait_for()
    assert decided(config) == [("b", "reject", "adult", "ar", ""), ("d", "approve", "", "ar", ""), ("a", "approve", "", "ar", "")]


@pytest.mark.parametrize(("meanwhile", "words"), [
    (lambda config: decide(ReviewState(config.run), "a", "approve", now=20, labels=LABELS, who="ben"), "it was approved by ben"),
    (lambda config: scan(config, [Item(id="d", text=TEXTS["d"])], now=20), "it is gone from the catalogue since"),
    (lambda config: scan(config, [Item(id="a", text="free money again")], now=20), "its text has changed since it was read"),
])
def test_what_has_changed_meanwhile_is_said(world: World, page: "Page", tmp_path: Path, meanwhile: Any,  # noqa: F811
                                            words: str) -> None:
    config = flagged(tmp_path)
    page.goto(f"{address(world)}/#review")
    page.get_by_role("button", name="Reject a").wait_for()
    meanwhile(config)
    page.get_by_role("button", name="Reject a").click()
    page.get_by_role("status").get_by_text(words).wait_for()
    assert not [one for one in decided(config) if one[1] == "reject"]
    shown = page.locator("#review-queue article").all_inner_texts()
    assert ("free money again" in shown[0]) == ("its text" in words)


def test_a_key_that_may_only_see_keeps_what_was_typed(make: Make, page: "Page", tmp_path: Path) -> None:  # noqa: F811
    flagged(tmp_path)
    (tmp_path / "keys").write_text(f"me explain {hashlib.sha256(b'secret').hexdigest()}\n")
    world = make(keys=tmp_path / "keys")
    page.goto(f"{address(world)}/#review")
    page.get_by_label("Key of the gateway").fill("secret")
    page.keyboard.press("Enter")
    note = page.locator("#review-queue article").nth(0).get_by_label("Note")
    note.fill("typed")
    page.get_by_role("button", name="Reject a").click()
    page.get_by_text("This key lacks the role review.").wait_for()
    assert note.input_value() == "typed"
