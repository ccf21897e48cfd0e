"""`tfrec review`: scan, list, approve and reject."""
import json
import shlex

import pytest

from tests.cli.test_rules import run  # noqa: F401  a run with a published version
from tests.docs.pages import BLOCKS
from tfrec.errors import ServingError
from tfrec.review.standing import ReviewState


@pytest.fixture
def review(call, run):  # noqa: F811
    (run / "terms.toml").write_text('spam = ["x"]\nadult = ["z"]\n')

    def reviewed(*words):
        code, out, err = call("review", *words, "--set", f"run={run}", "--set", f"review.terms={run / 'terms.toml'}", "--json")
        return code, json.loads(out) if out else " ".join(err.split())

    return reviewed


def test_from_a_scan_to_a_decision(review):
    code, found = review("scan")
    assert (code, found["items"], found["flagged"], found["waiting"]) == (0, 2, 1, 1)  # what is not available is not looked at
    code, found = review("list")
    assert (code, found["waiting"], found["hidden"]) == (0, 1, 1)
    assert (found["queue"][0]["item"], found["queue"][0]["why"]) == ("a", ["spam list x"])
    code, found = review("reject", "a", "--note", "no", "--by", "anna", "--label", "adult")
    assert (code, found["do"], found["label"], found["who"], found["note"]) == (0, "reject", "adult", "anna", "no")
    code, words = review("approve", "a", "--by", "ben")
    assert (code, "item 'a': it was rejected by anna at" in words) == (2, True)
    code, found = review("approve", "a", "--overrule")
    assert (code, bool(found["who"])) == (0, True)
    assert review("list")[1] == {"waiting": 0, "hidden": 0, "queue": []}


def test_an_item_that_is_gone_and_one_that_was_never_flagged(review, run):  # noqa: F811
    review("scan")
    (run / "items.jsonl").write_text('{"id": "b", "text": "y"}\n')
    assert review("scan", "--items", run / "items.jsonl")[1]["cleared"] == 1
    code, words = review("approve", "a")
    assert (code, "item 'a': it is gone from the catalogue since" in words) == (2, True)
    code, words = review("reject", "b")
    assert (code, "item 'b': nothing has flagged it" in words) == (2, True)


def test_the_commands_of_the_documentation(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = [one for one in BLOCKS if one.page == "docs/review.md"]
    settings, terms, commands = page[:3]
    items = [{"id": "2840", "text": "How to make a BOMB: a museum's catalogue"}, {"id": "1721", "text": "现在免费领取"}]
    (tmp_path / "items.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in items))
    (tmp_path / "shop.toml").write_text(f'run = "run"\n[data]\nitems = "items.jsonl"\n{settings.text}')
    (tmp_path / "terms.toml").write_text(terms.text)
    said = []
    for command in commands.commands:
        code, out, err = call(*shlex.split(command)[1:], "--json")
        assert code == 0, err
        said.append(json.loads(out))
    scanned, listed, approved, rejected = said
    assert scanned["flagged"] == 2
    assert [one["why"] for one in listed["queue"]] == [["spam list 免费领取"], ["harmful list how to make a bomb"]]
    assert (approved["note"], rejected["who"], rejected["label"]) == ("a museum's catalogue", "anna", "spam")
    assert ReviewState.of(tmp_path / "run").hidden(hold=True) == ("1721",)


def test_an_export_is_looked_at_before_it_is_published(call, run, monkeypatch):  # noqa: F811
    (run / "terms.toml").write_text('spam = ["x"]\n')

    def publish(*_, **__):
        assert ReviewState.of(run).hidden(hold=True) == ("a",)
        raise ServingError("as far as this")

    monkeypatch.setattr("tfrec.release.publish.publish", publish)
    code, _, err = call("publish", run / "models" / "tfrec" / "7", "--set", f"run={run}",
                        "--set", f"review.terms={run / 'terms.toml'}")
    assert (code, "as far as this" in err) == (1, True)


def test_what_is_missing_is_asked_for(call, tmp_path):
    code, _, err = call("review", "scan", "--set", f"run={tmp_path}")
    assert (code, "needs review.terms" in err) == (2, True)
    (tmp_path / "terms.toml").write_text("")
    code, _, err = call("review", "scan", "--set", f"run={tmp_path}", "--set", f"review.terms={tmp_path / 'terms.toml'}")
    assert (code, "--items or data.items" in " ".join(err.split())) == (2, True)
    code, _, err = call("review", "scan", "--set", "review.labels=['a', 'a']")
    assert (code, "must name each label once" in err) == (2, True)
    assert call("review", "list", "--set", f"run={tmp_path}")[0] == 0
