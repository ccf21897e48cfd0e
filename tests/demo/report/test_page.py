"""The page needs nothing but itself, says what the figures say, and lets nothing of the data become markup."""
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.demo.report.sample import a_round, loop_sample, sample
from tfrec.demo.report import write_report
from tfrec.demo.report.page import render_page

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Text(HTMLParser):
    """Words outside of tags; fails on tags that do not match."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data.strip())


@pytest.fixture(scope="module")
def page() -> str:
    return render_page(sample())


def test_both_files_are_written(tmp_path, page):
    path = write_report(sample(), tmp_path / "runs" / "demo")
    assert path == tmp_path / "runs" / "demo" / "report.html"
    assert json.loads(path.with_name("report.json").read_text(encoding="utf-8")) == sample()
    assert path.read_text(encoding="utf-8") == page  # rendered again: the same report gives the same page
    assert sorted(p.name for p in path.parent.iterdir()) == ["report.html", "report.json"]


def test_numpy_and_nan_are_written(tmp_path):
    report = sample()
    report["static"]["hr@10"] = np.float32(0.25)
    report["static"]["auc"] = float("nan")
    report["rejected"] = np.int64(1)
    path = write_report(report, tmp_path)
    again = json.loads(path.with_name("report.json").read_text(encoding="utf-8"))
    assert (again["static"]["hr@10"], again["static"]["auc"], again["rejected"]) == (0.25, None, 1)
    assert ">.2500<" in path.read_text(encoding="utf-8")


def test_it_asks_for_nothing(page):
    assert not re.search(r"<(script|link|iframe|img|object|embed)\b|@import|url\(\s*['\"]?[^#'\"]|\ssrc=", page)
    assert not [link for link in re.findall(r"https?://[^\s\"'<]+", page) if "www.w3.org" not in link]


def test_tags_match_and_the_figures_are_there(page):
    words = Text(page).words
    shown = [".0834", ".0797", "+.0031", "1 of 5", "p99\u00a031\u00a0ms", "tfrec, static", "Toy Story 2 (1999)"]
    for figure in shown:
        assert any(figure in word for word in words), figure
    assert "$" not in page


def test_models_stand_by_hit_rate(page):
    names = ["tfrec, static", "EASE", "tfrec, frozen", "item-kNN", "popularity", "7-day popularity"]
    assert re.findall("|".join(rf"(?<=<td>){name}(?=</td>)" for name in names), page) == names


def test_charts_are_drawn_in_the_colours_of_the_page(page):
    charts = re.findall(r"<svg .*?</svg>", page, re.DOTALL)
    assert len(charts) == 4
    used = set(re.findall(r"var\((--[\w-]+)\)", page))
    assert used <= set(re.findall(r"(--[\w-]+):", page))
    for chart in charts:
        ElementTree.fromstring(chart.replace("xlink:href", "href"))
        assert not re.search(r"#[0-9a-f]{6}\b|DejaVu|font: ", chart)


def test_the_closed_loop_stands_first(page):
    whole = render_page(sample() | {"closed_loop": loop_sample()})
    words = Text(whole).words
    assert "It learns from its own feedback" in whole[: whole.index("Reward per request")]
    order = ["Expected clicks per request", "no difference that can be told from chance", "HR@10 by round"]
    assert sorted(order, key=whole.index) == order
    for word in ("tastes drift", "exploring 0.60", "greedy 0.40", "static 0.15", "best slates 2.20", "it learns"):
        assert word in words, word
    assert any("retrains, 3 went live; the gate" in word for word in words)
    assert len(re.findall("<svg ", whole)) == len(re.findall("<svg ", page)) + 1
    assert set(re.findall(r"var\((--[\w-]+)\)", whole)) <= set(re.findall(r"(--[\w-]+):", whole))


def test_data_never_becomes_markup():
    report = sample()
    report["data"]["name"] = report["rounds"][0]["verdict"] = report["examples"][0]["query"] = "<i>&"
    report["neighbours"][0]["similar"][0] = "<script>"
    report["steps"]["<b>$x^2$"] = 1.0
    page = render_page(report)
    Text(page)
    assert not re.search("<i>|<script|<b>\\$", page)
    assert page.count("&lt;i&gt;&amp;") >= 4


def test_whatever_is_missing_is_left_out():
    report = sample()
    report |= {"neighbours": [], "examples": [], "paired_difference": None, "rounds": report["rounds"][:1]}
    for model in (report["static"], report["frozen"]):
        del model["auc"]
    del report["baselines"]["EASE"]["intervals"]
    page = render_page(report)
    Text(page)
    assert "What it answers" not in page
    assert "Retrained −" not in page
    assert "<th>AUC</th>" not in page


def test_a_loss_and_many_rounds_are_drawn():
    report = sample()
    report["rounds"] = [a_round(i, 0.08, 0.074, 0.08, promoted=i % 2 == 0, verdict="rejected") for i in range(1, 11)]
    page = render_page(report | {"failed_requests": 3})
    Text(page)
    assert "−60" in page
    assert "tile bad" in page
