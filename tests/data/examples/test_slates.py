"""Slates of a log with a known content: which can be judged, what they earned, and why the others cannot."""
from collections import Counter
from typing import Any

import pytest

from tfrec.config import RewardConfig
from tfrec.data.examples.slates import Slate, SlatePosition, matured_slates, read_slates
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.labels.join import join
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.records import Impression, Outcome, Shown

NOW, HOUR = 1_000_000, 3600
THEN = NOW - 9 * HOUR
RULE = LabelRule(("x", "y", "z", "h"), HOUR, RewardConfig(weights={"click": 2.0}), {})
DRAWN = "plackett_luce(temperature=1, epsilon=0.1)"


def shown(name: str, items: list[tuple[str, float | None]], *, policy: str = DRAWN, time: int = THEN, **more: Any) -> Any:
    slate = [Shown(item=item, position=p, score=1.0, log_propensity=log_pi) for p, (item, log_pi) in enumerate(items)]
    return Impression(request_id=name, time=time, user="u", policy=policy, model_version=1, slate=slate, **more)


def click(request: str, item: str, *, time: int = THEN + 60) -> Outcome:
    return Outcome(event_id=request + item, request_id=request, user=f"of {request}", item=item, action="click", time=time)


@pytest.fixture
def log(tmp_path) -> FeedbackLog:
    log = FeedbackLog(tmp_path / "log")
    add(log, "impressions", [
        shown("a", [("x", -1.0), ("y", -0.5), ("z", 0.0)], query="q", history=("h",), history_action=("view",), history_time=(5,),
              exclude=("h",), allow_tags=("t",), deny_tags=("d",), prior_items=("x", "z"), prior_log_p=(-1.5, -2.5)),
        shown("b", [("y", -2.0), ("x", -0.1), ("z", 0.0)]),
        shown("greedy", [("x", 0.0), ("y", 0.0)], policy="greedy"),
        shown("thompson", [("x", None), ("y", None)], policy="thompson(alpha=1)"),
        shown("half", [("x", -1.0), ("y", None)]),
        shown("unknown", [("x", -1.0), ("nobody", -0.5)]),
        shown("nothing", [("nobody", -0.5)]),
        shown("young", [("x", -1.0), ("y", -0.5)], time=NOW - 60),
    ])
    add(log, "outcomes", [click("a", "y"), click("b", "y"), click("young", "x", time=NOW - 30)])
    return log


def add(log: FeedbackLog, kind: Any, records: list[Any], *, writer: str = "w") -> None:
    log.append(kind, [(n, record.model_dump_json()) for n, record in enumerate(records, 1)], writer=writer)


def read(log: FeedbackLog, *, positions: int | None = None, most: int = 100) -> tuple[list[Slate], Counter[str]]:
    return read_slates(log, log.window(None, now=NOW), RULE, quarantine=None, positions=positions, most=most)


def test_slates_that_were_drawn_come_with_what_they_earned(log: FeedbackLog) -> None:
    (a, b), left_out = read(log)
    assert a.request == {
        "request_id": "a", "time": THEN, "user": "u", "query": "q", "history": ["h"], "history_action": ["view"],
        "history_time": [5], "exclude": ["h"], "allow_tags": ["t"], "deny_tags": ["d"], "live": a.request["live"],
    }
    assert (a.request["live"].items, a.request["live"].log_p.tolist()) == (["x", "z"], [-1.5, -2.5])
    assert b.request["live"].items == []
    assert a.positions == [SlatePosition("x", -1.0, 0.0), SlatePosition("y", -0.5, 2.0, False, 60), SlatePosition("z", 0.0, 0.0)]
    assert b.positions == [SlatePosition("y", -2.0, 2.0, False, 60), SlatePosition("x", -0.1, 0.0), SlatePosition("z", 0.0, 0.0)]
    assert left_out == {
        "greedy: nothing was left to chance": 1, "thompson: no propensities": 1, "plackett_luce: no propensities": 1,
        "labels not mature yet, or items that are not in the catalogue": 3,
    }


def test_only_the_positions_that_count_must_be_known(log: FeedbackLog) -> None:
    slates, _ = read(log, positions=1)
    # "unknown" has an item in its second position that the catalogue lacks; the label of the first of "young" is final
    assert [(slate.request["request_id"], slate.positions) for slate in slates] == [
        ("a", [SlatePosition("x", -1.0, 0.0)]), ("b", [SlatePosition("y", -2.0, 2.0, False, 60)]),
        ("unknown", [SlatePosition("x", -1.0, 0.0)]),
        ("young", [SlatePosition("x", -1.0, 2.0, False, 30)]),
    ]


def test_a_row_that_was_written_twice_is_one_position(log: FeedbackLog) -> None:
    add(log, "impressions", [shown("b", [("y", -2.0), ("x", -0.1), ("z", 0.0)])], writer="again")
    b = read(log)[0][1]
    assert b.positions == [SlatePosition("y", -2.0, 2.0, False, 60), SlatePosition("x", -0.1, 0.0), SlatePosition("z", 0.0, 0.0)]


def test_a_sample_is_the_same_each_time(log: FeedbackLog) -> None:
    add(log, "impressions", [shown(f"r{n}", [("x", -1.0)]) for n in range(50)], writer="more")
    some, again = (read(log, most=20)[0] for _ in range(2))
    assert some == again
    assert 15 <= len(some) <= 20  # the few that are left out may be among them
    assert {slate.request["request_id"] for slate in some} < {slate.request["request_id"] for slate in read(log)[0]}


def test_slates_are_learnt_when_all_of_them_has_matured(log: FeedbackLog) -> None:
    window = log.window(None, now=NOW)
    examples = join(log, window, RULE, quarantine=None).table

    def matured(after: int) -> tuple[list[str], Counter[str]]:
        slates, left_out = matured_slates(log, window, examples, RULE, after=after, most=100)
        return [slate.request["request_id"] for slate in slates], left_out

    # of any policy; "young" has a label that is final and one that is not
    assert matured(0) == (["a", "b", "greedy", "half", "thompson", "unknown"], {"items that are not in the catalogue": 1})
    assert matured(THEN) == ([], {})
    [thompson] = [slate for slate in matured_slates(log, window, examples, RULE, after=0, most=100)[0]
                  if slate.request["request_id"] == "thompson"]
    assert thompson.positions == [SlatePosition("x", None, 0.0), SlatePosition("y", None, 0.0)]
