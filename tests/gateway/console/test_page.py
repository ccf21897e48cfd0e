"""The page in a browser: each view is opened and used, by mouse, by keyboard and on a telephone."""
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.gateway.console.world import NASTY, full
from tests.gateway.world import Make, World
from tfrec.client.results import Explanation

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: "Browser") -> Iterator["Page"]:
    page = browser.new_page(viewport={"width": 390, "height": 800})  # a telephone's
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if "Content Security" in message.text else None)
    yield page
    assert page.title() == "tfrec console"  # no text was run as a script
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert wrong == []
    page.close()


def address(world: World) -> str:
    return str(world.http.base_url)


def pictured(page: "Page", name: str) -> None:
    """Keep a picture of the page, where TFREC_PICTURES names a directory."""
    if directory := os.environ.get("TFREC_PICTURES"):
        page.screenshot(path=Path(directory) / f"{name}.png", full_page=True)


def explained(**inputs: Any) -> list[Explanation]:
    return [Explanation(9.0, 0.5, tuple(-1.0 * n for n in range(len(own))), (("q", 1.5),) if query else (), 4)
            for own, query in zip(inputs["history"], inputs["query"], strict=True)]


def test_ask_compare_and_explain(world: World, page: "Page", tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full(tmp_path)
    monkeypatch.setattr(world.client, "explain", explained)
    page.goto(address(world))
    page.get_by_label("Query", exact=True).fill("b")
    page.get_by_label("History instead").fill("e, d")
    page.get_by_label("Beside it").fill("old")
    page.get_by_label("Items").fill("3")
    page.get_by_role("button", name="Ask").click()
    slates = page.locator(".slate")
    slates.nth(1).wait_for()
    assert NASTY in slates.nth(0).locator("li").nth(0).inner_text()
    assert slates.nth(0).locator("li").nth(1).locator("strong").inner_text() == "Alpha"
    assert [slates.nth(n).locator("li").count() for n in (0, 1)] == [3, 3]
    slates.nth(0).get_by_role("button", name="Why a?").click()
    why = page.get_by_role("region", name="Explanation")
    assert "Score 9, by version 4" in why.inner_text()
    assert [bar.evaluate("bar => bar.style.width") for bar in why.locator(".bar").all()] == [
        "33.3333%", "0%", "66.6667%", "100%"]
    pictured(page, "ask")
    assert world.rows("impressions") == []


def test_what_moved_between_two_versions(world: World, page: "Page") -> None:
    def answered(*items: str) -> dict[str, Any]:
        return {"model_version": 1, "label": "", "policy": "greedy", "fallback": None, "pinned": [1], "request_id": "r",
                "items": [{"item": item, "position": position, "score": 0.0} for position, item in enumerate(items)]}

    page.route("**/v1/preview", lambda route: route.fulfill(json=[answered("a", "b", "c"), answered("a", "c", "d")]))
    page.goto(address(world))
    page.get_by_label("Beside it").fill("canary")
    page.get_by_role("button", name="Ask").click()
    page.locator(".slate").nth(1).wait_for()
    told = [[row.locator(".moved").all_inner_texts() for row in slate.locator("li").all()]
            for slate in page.locator(".slate").all()]
    assert told == [[[], ["only here"], ["1 lower than beside"]], [[], ["1 higher than beside"], ["only here"]]]
    assert page.get_by_text("pinned by a rule").count() == 2


def test_runs_and_experiments(world: World, page: "Page", tmp_path: Path) -> None:
    full(tmp_path)
    page.goto(f"{address(world)}/#runs")
    first = page.locator("#runs tbody tr").nth(0)
    first.wait_for()
    assert first.locator(".rejected").count() == 1
    assert NASTY in first.inner_text()
    assert page.locator("#versions tbody tr").count() == 2
    pictured(page, "runs")
    page.get_by_role("link", name="Experiments").click()
    worse = page.locator(".worse")
    worse.wait_for()
    assert "earns less, by 10.0% at least" in page.locator("#experiments").inner_text()
    assert page.locator("#experiments svg line").count() == 3
    pictured(page, "experiments")


def test_monitors_show_alarms_first(world: World, page: "Page", tmp_path: Path) -> None:
    page.goto(f"{address(world)}/#monitors")
    page.get_by_text("The monitors have not looked here yet").wait_for()
    full(tmp_path)
    page.reload()
    rows = page.locator("#monitors > .scroll tbody tr")
    rows.nth(2).wait_for()
    assert [row.split()[:2] for row in rows.all_inner_texts()] == [["slices", "alarm"], ["context", "ok"], ["skew", "unknown"]]
    assert NASTY in rows.nth(0).inner_text()
    assert rows.nth(0).locator("svg line").count() == 5
    page.get_by_text("Reward by device").click()
    assert NASTY in page.locator("#monitors details").inner_text()
    pictured(page, "monitors")


def test_by_keyboard_with_a_key(make: Make, page: "Page", tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"me explain {hashlib.sha256(b'secret').hexdigest()}\n")
    world = make(keys=keys)
    page.goto(address(world))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the content"
    page.get_by_label("Query", exact=True).focus()
    page.keyboard.type("c")
    page.keyboard.press("Enter")
    page.get_by_label("Key of the gateway").wait_for()
    assert "Send a key" in page.get_by_role("status").inner_text()
    page.keyboard.type("wrong")  # the field has the focus
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Forget the key").wait_for()
    page.get_by_role("button", name="Ask").press("Enter")
    page.get_by_label("Key of the gateway").wait_for()
    page.keyboard.type("secret")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Forget the key").wait_for()
    page.get_by_label("Query", exact=True).press("Enter")
    page.locator(".slate li").nth(0).wait_for()
    assert page.locator(".slate li strong").nth(0).inner_text() == "c"


def test_a_gateway_that_is_gone_is_said(make: Make, page: "Page") -> None:
    page.goto(address(make()))
    page.route("**/v1/*", lambda route: route.abort())
    page.get_by_role("button", name="Ask").click()
    page.get_by_text("The gateway does not answer.").wait_for()
