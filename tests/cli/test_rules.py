"""`tfrec rules`: what each rule touches today, and what cannot hold."""
import json

import pytest

from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item
from tfrec.release.manifest import CATALOGUE, Manifest, write_manifest
from tfrec.release.popularity_files import write_columns

ITEMS = [Item(id="a", text="x", tags=("new",), numeric={"price": 5}), Item(id="b", text="y", tags=("new",)),
         Item(id="gone", text="z", available=False)]


@pytest.fixture
def run(tmp_path):
    version = tmp_path / "models" / "tfrec" / "7"
    Catalogue(ITEMS).write(version / CATALOGUE)
    write_columns(version, ["price"])
    write_manifest(version, Manifest(version=7, created_at=1))
    return tmp_path


def rule(name, do, **said):
    return f"[[rule]]\nname = '{name}'\ndo = '{do}'\n" + "".join(f"{key} = {value}\n" for key, value in said.items())


def pin(name, *items, position=0, **said):
    return rule(name, "pin", items=list(items), position=position, **said)


def check(call, run, text):
    (run / "rules.toml").write_text(text)
    code, out, err = call("rules", "--set", f"run={run}", "--set", f"gateway.rules={run / 'rules.toml'}", "--json")
    return code, json.loads(out) if out else None, err


def test_what_each_rule_touches(call, run):
    code, found, _ = check(call, run, pin("top", "a") + rule("old", "exclude", tags="['new']", until="2020-01-01T00:00:00Z")
                           + rule("soon", "exclude", items="['b']", **{"from": "2999-01-01T00:00:00+01:00"}))
    assert (code, found["catalogue"], found["problems"]) == (0, "7", [])
    assert found["rules"] == {
        "top": {"do": "pin", "holds": "today", "items": 1, "such as": ["a"]},
        "old": {"do": "exclude", "holds": "until 2020-01-01T00:00:00+00:00", "items": 2, "such as": ["a", "b"]},
        "soon": {"do": "exclude", "holds": "from 2999-01-01T00:00:00+01:00", "items": 1, "such as": ["b"]}}


@pytest.mark.parametrize(("text", "words"), [
    (pin("top", "nowhere"), "rule 'top': the catalogue has no item 'nowhere'"),
    (pin("top", "gone"), "rule 'top': item 'gone' is not available"),
    (pin("top", "a") + rule("out", "exclude", tags="['new']"), "rule 'top': item 'a' is excluded by 'out'"),
    (rule("out", "exclude", tags="['none']"), "rule 'out': touches no item of the catalogue"),
    (rule("out", "exclude", bounds="{ size = { min = 1 } }"), "the catalogue has no numeric column 'size'; there are ['price']"),
    (pin("top", "a") + pin("tv", "b", when="{ device = 'tv' }"), "rule 'tv': 'top' may have position 0 for the same request"),
    (pin("top", "a") + pin("low", "a", position=4), "rule 'low': 'top' may pin 'a' for the same request, and comes first"),
])
def test_what_cannot_hold_is_a_failure(call, run, text, words):
    code, found, err = check(call, run, text)
    assert code == 1
    assert found["problems"][0].startswith(words) or words in found["problems"][0]
    assert "The first: " in " ".join(err.split())


@pytest.mark.parametrize("apart", [
    ({"when": "{ device = 'tv' }"}, {"when": "{ device = ['phone', 'pc'] }"}),
    ({"until": "2998-01-01T00:00:00Z"}, {"from": "2998-01-01T00:00:00Z"}),
    ({"query": "['shoes']"}, {"on": "'recommendations'"}),
])
def test_rules_that_never_meet_are_no_conflict(call, run, apart):
    one, other = apart
    text = pin("one", "a", **one) + pin("other", "b", **other) + rule("out", "exclude", items="['b']", **one)
    code, found, _ = check(call, run, text)
    assert (code, found["problems"]) == (0, [])


def test_a_wrong_file_and_no_file(call, tmp_path):
    code, _, err = check(call, tmp_path, "[[rule]]\n")
    assert (code, "line 1: rule '?': name: Field required" in " ".join(err.split())) == (2, True)
    code, _, err = call("rules")
    assert (code, "needs a FILE, or gateway.rules" in err) == (2, True)
    code, _, err = call("rules", tmp_path / "none.toml")
    assert (code, "cannot be read" in err) == (2, True)
