"""`tfrec exposure`: from the log and the newest version's catalogue."""
import json
import time

import pytest

from tests.cli.test_rules import run  # noqa: F401  a run with a published version
from tests.logged_slates import log
from tfrec.config import Config
from tfrec.data.records import Impression, Shown


@pytest.mark.usefixtures("run")
def test_it_counts_what_was_shown_lately(call, tmp_path):
    now = int(time.time())
    slates = [Impression(request_id=f"r{number}", time=then, user="u", policy="greedy", model_version=7,
                         slate=[Shown(item=item, position=at, score=1.0) for at, item in enumerate(items)])
              for number, (then, items) in enumerate(
                  [(now - 60, ["a", "gone"]), (now - 60, ["b"]), (now - 9 * 86_400, ["gone"])])]
    log(Config(run=tmp_path), "impressions", slates)
    code, out, _ = call("exposure", "new", "--set", f"run={tmp_path}", "--json")
    found = json.loads(out)
    assert (code, found["version"], found["requests"], found["shown"]) == (0, 7, 2, 3)
    assert found["groups"]["new"]["items"] == 1.0  # the third item is not available
    assert found["groups"]["new"]["first_position"] == 1.0
    assert found["without_group"] == pytest.approx(1 - found["groups"]["new"]["exposure"], abs=1e-4)


@pytest.mark.usefixtures("run")
def test_what_it_cannot_measure_is_said(call, tmp_path):
    code, _, err = call("exposure", "brand:", "--set", f"run={tmp_path}")
    assert (code, "no tag of version 7 begins with 'brand:'" in " ".join(err.split())) == (2, True)
    code, _, err = call("exposure", "new", "--set", f"run={tmp_path}")
    assert (code, "nothing was shown in the last 7 days" in " ".join(err.split())) == (1, True)
    code, _, err = call("exposure", "new", "--set", f"run={tmp_path / 'none'}")
    assert (code, "no version is published" in " ".join(err.split())) == (2, True)
