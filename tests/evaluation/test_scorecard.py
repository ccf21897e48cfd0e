"""The table of models: keys for machines, cells for people."""
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from tfrec.errors import UsageError
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
NEXT = replace(BEST, rank=np.array([20.0, 3, 60, 20]), slates=None)


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
    # one user has both hits: redrawn twice, once or never
    assert static["intervals"]["hr@10"] == [0, 1]
    assert static["difference"]["against"] == "EASE"
    assert static["difference"]["hr@10"] == {"mean": 0.25, "low": 0, "high": 0.5}
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
    assert ".3750 [.0000, .7500]" in text
    assert "+0.2500 [+0.0000, +0.5000]" in text
    assert "4 events of 2 users" in text


def test_rows_of_other_events_and_unknown_names_are_refused() -> None:
    with pytest.raises(UsageError, match="'EASE' ranks others than 'static'"):
        scorecard({"static": BEST, "EASE": replace(NEXT, events=np.array([1, 2, 3, 4]))})
    with pytest.raises(UsageError, match="against must be one of static; got 'EASE'"):
        scorecard({"static": BEST}, against="EASE")
    assert scorecard({}).to_dict() == {}
