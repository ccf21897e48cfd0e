"""Rules as they are written: which requests each holds for, and what a wrong file is told."""
from datetime import UTC, datetime, timedelta, timezone
from math import log
from typing import Any

import pytest

from tests.docs.pages import block
from tfrec.errors import UsageError
from tfrec.gateway.rules.rule import BusinessRule, read_rules, words_of

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
PIN = '[[rule]]\nname = "top"\ndo = "pin"\nitems = ["a"]\nposition = 0\n'


def rule(**said: Any) -> BusinessRule:
    return BusinessRule.model_validate({"name": "r", "do": "exclude", "items": ["a"], **said})


@pytest.mark.parametrize(("said", "holds"), [
    ({}, True),
    ({"from": NOW}, True),
    ({"from": NOW + timedelta(seconds=1)}, False),
    ({"until": NOW}, False),
    ({"until": NOW + timedelta(seconds=1)}, True),
    ({"until": NOW.astimezone(timezone(timedelta(hours=9))) + timedelta(seconds=1)}, True),
    ({"when": {"device": "tv"}}, True),
    ({"when": {"device": ["phone", "tv"], "country": "de"}}, True),
    ({"when": {"device": "tv", "country": "at"}}, False),
    ({"when": {"plan": "gold"}}, False),
    ({"query": "SHOES red"}, True),
    ({"query": ["boots", "shoes"]}, True),
    ({"query": ["red boots"]}, False),
    ({"query": ["shoe"]}, False),
    ({"on": "searches"}, True),
    ({"on": "recommendations"}, False),
])
def test_a_rule_holds_for_some_requests(said: dict[str, Any], holds: bool) -> None:
    context = {"device": "tv", "country": "de"}
    assert rule(**said).holds(now=NOW, context=context, words=words_of("Red shoes, size 42")) is holds


def test_without_a_query_a_request_is_a_recommendation() -> None:
    for said, holds in (({"on": "recommendations"}, True), ({"on": "searches"}, False), ({"query": "shoes"}, False)):
        assert rule(**said).holds(now=NOW, context={}, words=words_of("")) is holds


def test_the_rules_of_the_page_are_rules() -> None:
    found = read_rules(block("docs/rules.md", "[[rule]]").text.encode(), where="docs/rules.md").rules
    assert {one.do for one in found} == {"pin", "exclude", "boost"}


def test_the_version_is_that_of_the_text() -> None:
    one, same, other = (read_rules(text.encode(), where="f") for text in (PIN, PIN, PIN + "# a word\n"))
    assert one.version == same.version != other.version
    assert one.rules == other.rules
    assert one.rules[0].positions == {0: "a"}
    assert read_rules(b"", where="f").rules == ()


def test_the_items_of_a_pin_stand_one_after_another() -> None:
    [found] = read_rules(PIN.replace('["a"]', '["a", "b"]').replace("position = 0", "position = 3").encode(), where="f").rules
    assert found.positions == {3: "a", 4: "b"}


def test_a_boost_is_the_logarithm_of_its_factor() -> None:
    said = {"items": ["a"], "tags": ["t"], "bounds": {"price": {"max": 9, "min": 1}}, "factor": 2.0}
    up, down = rule(do="boost", **said), rule(do="bury", **said)
    value = log(2)
    assert up.boosts == (("item", "a", value, None, None), ("tag", "t", value, None, None), ("column", "price", value, 1.0, 9.0))
    assert [one[2] for one in down.boosts] == [-log(2)] * 3
    assert rule().boosts == ()


def text(**said: str) -> str:
    lines = {"name": '"r"', "do": '"exclude"', "items": '["a"]'} | said
    return "[[rule]]\n" + "".join(f"{name} = {value}\n" for name, value in lines.items() if value)


@pytest.mark.parametrize(("said", "words"), [
    (text(do='"hide"'), "line 1: rule 'r': do: .*'pin'.*'exclude'"),
    (text(items=""), "names no item: give items, tags or bounds"),
    (text(do='"pin"'), "needs items and a position"),
    (text(do='"pin"', position="0", items="", tags='["t"]'), "needs items and a position"),
    (text(do='"pin"', position="-1"), "position: .*greater than or equal to 0"),
    (text(do='"pin"', position="0", items='["a", "a"]'), "names an item twice"),
    (text(position="1"), "position is of a pin, and this is exclude"),
    (text(bounds="{ price = { min = 1, max = 2 } }"), "bounds one column at one end"),
    (text(bounds="{ price = { min = 1 }, year = { min = 1 } }"), "bounds one column at one end"),
    (text(bounds="{ price = { } }"), "names no number: give min, max or both"),
    (text(bounds="{ price = { min = nan } }"), "bounds.price.min: .*finite"),
    (text(**{"from": "2026-12-01"}), "from: expected a time with its zone"),
    (text(**{"from": "2026-12-01T00:00:00"}), r"from: expected a time with its zone, such as 2026-12-01T00:00:00\+01:00"),
    (text(**{"from": "2026-12-02T00:00:00Z", "until": "2026-12-01T00:00:00Z"}), "is not before until"),
    (text(query='["..."]'), "has no word in it"),
    (text(query='["a"]', on='"recommendations"'), "query words are of searches"),
    (text(do='"boost"'), "need a factor above 1, such as factor = 2.0"),
    (text(factor="2"), "no other rule takes one"),
    (text(do='"bury"', factor="1"), "factor: .*greater than 1"),
    (text(do='"bury"', factor="2", bounds="{ a = { min = 1 }, b = { min = 1 } }"), "bury bounds one column: write a rule"),
    (text(name='"a b"'), "name: .*pattern"),
    (text(weight="2"), "weight: there is no such setting; there are name, do, items"),
    (text() + "\n# more\n" + text(), r"line 7: rule 'r': this name is on f line 1 already"),
    (PIN + PIN.replace('"top"', '"other"').replace('"a"', '"b"'), "position 0 has a pin by 'top', for the same requests"),
    ("rule = 1", r"expected tables \[\[rule\]\] alone, got 'rule'"),
    (text() + "[other]\n", r"expected tables \[\[rule\]\] alone, got 'other'"),
    ("[[rule]", "expected TOML, got .*line 1"),
    ("".join(text(name=f'"r{n}"') for n in range(501)), "at most 500 rules, got 501"),
    (text(items=f"{[f'a{n}' for n in range(1001)]}"), "items: .*at most 1000"),
])
def test_a_wrong_file_is_told_where_and_why(said: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_rules(said.encode(), where="f")


def test_other_text_is_refused() -> None:
    with pytest.raises(UsageError, match="not UTF-8 from byte 0"):
        read_rules(b"\xff", where="f")


@pytest.mark.parametrize("apart", [
    {"until": "2026-12-01T00:00:00Z"}, {"when": '{ device = "tv" }'}, {"query": '["shoes"]'}, {"on": '"searches"'},
    {"position": "1"},
])
def test_pins_of_other_requests_or_times_or_positions_are_no_conflict(apart: dict[str, str]) -> None:
    one = {"do": '"pin"', "position": "0"} | apart
    other = {"name": '"s"', "do": '"pin"', "position": "0", "items": '["b"]', "from": "2026-12-01T00:00:00Z"}
    assert len(read_rules((text(**one) + text(**other)).encode(), where="f").rules) == 2
