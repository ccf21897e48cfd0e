"""The table of models: keys for machines, cells for people."""
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from tfrec import terminal
from tfrec.errors import UsageError
from tfrec.evaluation.intervals import UserBootstrap
from tfrec.evaluation.protocol import Ranks
from tfrec.evaluation.scorecard import scorecard

BEST = Ranks(
    events=np.array([4, 5, 6, 7]),
    users=np.array([0, 0, 1, 1], np.int32),
    rank=np.array([1.0, 3, 60, 20]),
    candidates=np.array([101, 101, 101, 101]),
    cold=np.array([True, True, False, False]),
    untouched=np.zeros(4, bool),
    n_items=200,
    slates=np.array([[0, 1], [0, 1], [0, -1], [0, 2]]),
)
FEW = BEST  # users
BEST = replace(  # the same five times, by other users each time
    FEW, users=np.concatenate([FEW.users + 2 * k for k in range(5)]), events=np.arange(20),
    **{name: np.concatenate([getattr(FEW, name)] * 5) for name in ("rank", "candidates", "cold", "untouched", "slates")})
NEXT = replace(BEST, rank=np.array([20.0, 3, 60, 20] * 5), slates=None)


def test_rows_hold_means_intervals_and_paired_differences() -> None:
    vectors = np.eye(200)
    rows = scorecard({"static": BEST, "EASE": NEXT}, against="EASE", vectors=vectors).to_dict()
    static = rows["static"]
    assert {key: static[key] for key in ("hr@10", "ndcg@10", "hr@50", "cold_hr@10", "untouched_hr@10")} == {
        "hr@10": 0.5,
        "ndcg@10": pytest.approx((1 + 1 / 2) / 4),
        "hr@50": 0.75,
        "cold_hr@10": 1,
        "untouched_hr@10": None,  # nothing untouched was asked
    }
    assert static["auc"] == pytest.approx((100 + 98 + 41 + 81) / 400)
    assert static["coverage@10"] == 3 / 200
    assert static["diversity@10"] == 1  # unit vectors of their own; the slate of one item has no pair
    bootstrap = UserBootstrap(BEST.users)
    hit = np.array([1, 1, 0, 0] * 5)
    assert static["intervals"]["hr@10"] == list(bootstrap.interval(hit)[1:])
    assert static["difference"]["against"] == "EASE"
    gap = bootstrap.difference(hit, [0, 1, 0, 0] * 5)
    assert static["difference"]["hr@10"] == {"mean": 0.25, "low": gap.low, "high": gap.high}
    assert "difference" not in rows["EASE"]
    assert "coverage@10" not in rows["EASE"]
    json.dumps(rows, allow_nan=False)


def test_the_table_shows_what_was_measured() -> None:
    console = Console(width=240, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(scorecard({"static": BEST, "EASE": NEXT}, against="EASE"))
    text = capture.get()
    assert "cold HR@10" in text
    assert "untouched" not in text
    assert re.search(r"\.3750 \[\.\d{4}, \.\d{4}\]", text)
    assert re.search(r"\+0\.2500 \[\+0\.\d{4}, \+0\.\d{4}\]", text)
    assert "20 events of 10 users; [95% interval, users redrawn]" in text


def test_brackets_are_shown_as_they_are_wherever_a_table_is_printed(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "240")
    terminal.show(scorecard({"[a]": BEST, "EASE": NEXT}, against="EASE"), as_json=False)
    text = capsys.readouterr().out
    assert "\\" not in text
    assert "[a]" in text
    assert re.search(r"\.3750 \[\.\d{4}, \.\d{4}\]", text)


def test_a_few_users_have_no_interval_but_a_note() -> None:
    after = replace(FEW, rank=np.array([20.0, 3, 60, 20]), slates=None)
    found = scorecard({"static": FEW, "EASE": after}, against="EASE")
    rows = found.to_dict()
    assert (rows["static"]["hr@10"], rows["static"]["intervals"]) == (0.5, {})
    assert rows["static"]["difference"]["hr@10"] == {"mean": 0.25, "low": None, "high": None}
    json.dumps(rows, allow_nan=False)
    console = Console(width=240)
    with console.capture() as capture:
        console.print(found)
    text = capture.get()
    assert "[" not in text
    assert "4 events of 2 users; no intervals: fewer than 10 users" in text


def test_a_metric_of_a_few_users_has_no_interval_among_others_that_have() -> None:
    cold = np.zeros(20, bool)
    cold[:2] = True  # of one user
    row = scorecard({"static": replace(BEST, cold=cold)}).to_dict()["static"]
    assert row["cold_hr@10"] == 1
    assert "cold_hr@10" not in row["intervals"]
    assert "hr@10" in row["intervals"]


def test_rows_of_other_events_and_unknown_names_are_refused() -> None:
    with pytest.raises(UsageError, match="'EASE' ranks others than 'static'"):
        scorecard({"static": BEST, "EASE": replace(NEXT, events=np.arange(1, 21))})
    with pytest.raises(UsageError, match="against must be one of static; got 'EASE'"):
        scorecard({"static": BEST}, against="EASE")
    assert scorecard({}).to_dict() == {}
