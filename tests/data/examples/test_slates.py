"""Slates of a log with a known content: which can be judged, what they earned, and why the others cannot."""
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tfrec.config import RewardConfig
from tfrec.data.examples.slates import SLATES, drawn_slates, matured_slates
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.records import Context, Impression, Outcome, Shown
from tfrec.data.settled.examples import SettledExamples
from tfrec.data.settled.settle import settle

NOW, HOUR = 1_000_000, 3600
THEN = NOW - 9 * HOUR
ITEMS = ("x", "y", "z", "h")
RULE = LabelRule(ITEMS, HOUR, RewardConfig(weights={"click": 2.0}), {})
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


def settled(log: FeedbackLog, *, now: int = NOW) -> SettledExamples:
    found = SettledExamples(Path(log.root).with_name("examples"))
    settle(log, found, RULE, now=now, quarantine=None)
    return found


def drawn(log: FeedbackLog, *, positions: int | None = None, most: int = 100) -> tuple[pa.Table, Counter[str]]:
    return drawn_slates(settled(log), upto=10, items=ITEMS, positions=positions, most=most)


def positions(row: dict[str, Any]) -> list[tuple[object, ...]]:
    return list(zip(*(row[name] for name in ("item", "log_propensity", "reward", "converted", "delay")), strict=True))


def brief(slates: pa.Table) -> dict[str, list[tuple[object, ...]]]:
    return {row["request_id"]: positions(row) for row in slates.to_pylist()}


def test_slates_that_were_drawn_come_with_what_they_earned(log: FeedbackLog) -> None:
    slates, left_out = drawn(log)
    assert slates.schema == SLATES
    a, b = slates.to_pylist()
    assert {name: a[name] for name in a if name not in ("item", "log_propensity", "reward", "converted", "delay")} == {
        "request_id": "a", "time": THEN, "user": "u", "query": "q", "history": ["h"], "history_action": ["view"],
        "history_time": [5], "exclude": ["h"], "allow_tags": ["t"], "deny_tags": ["d"], "prior_items": ["x", "z"],
        "prior_log_p": [-1.5, -2.5], "context": Context().model_dump_json(),
    }  # fmt: skip
    assert b["prior_items"] == []
    assert positions(a) == [("x", -1.0, 0.0, False, 0), ("y", -0.5, 2.0, False, 60), ("z", 0.0, 0.0, False, 0)]
    assert positions(b) == [("y", -2.0, 2.0, False, 60), ("x", -0.1, 0.0, False, 0), ("z", 0.0, 0.0, False, 0)]
    assert left_out == {
        "greedy: nothing was left to chance": 1, "thompson: no propensities": 1, "plackett_luce: no propensities": 1,
        "labels not mature yet": 1, "items that are not in the catalogue": 2,
    }  # fmt: skip


def test_only_the_positions_that_count_must_be_known(log: FeedbackLog) -> None:
    slates, _ = drawn(log, positions=1)
    # "unknown" has an item in its second position that the catalogue lacks; the label of the first of "young" is final
    assert brief(slates) == {
        "a": [("x", -1.0, 0.0, False, 0)], "b": [("y", -2.0, 2.0, False, 60)], "unknown": [("x", -1.0, 0.0, False, 0)],
        "young": [("x", -1.0, 2.0, False, 30)],
    }  # fmt: skip


def test_a_row_that_was_written_twice_is_one_position(log: FeedbackLog) -> None:
    add(log, "impressions", [shown("b", [("y", -2.0), ("x", -0.1), ("z", 0.0)])], writer="again")
    assert brief(drawn(log)[0])["b"] == [("y", -2.0, 2.0, False, 60), ("x", -0.1, 0.0, False, 0), ("z", 0.0, 0.0, False, 0)]


def test_a_sample_is_the_same_each_time(log: FeedbackLog) -> None:
    add(log, "impressions", [shown(f"r{n}", [("x", -1.0)]) for n in range(50)], writer="more")
    some, again = (drawn(log, most=20)[0] for _ in range(2))
    assert some.equals(again)
    assert 15 <= len(some) <= 20  # the few that are left out may be among them
    assert set(brief(some)) < set(brief(drawn(log)[0]))


def test_slates_are_learnt_when_all_of_them_has_matured(log: FeedbackLog) -> None:
    def matured(after: int, *, until: int = NOW - HOUR) -> tuple[list[str], Counter[str]]:
        slates, left_out = matured_slates(settled(log), upto=10, items=ITEMS, after=after, until=until, most=100)
        return slates["request_id"].to_pylist(), left_out

    # of any policy; "young" has a label that is final and one that is not
    assert matured(0) == (["a", "b", "greedy", "half", "thompson", "unknown"], {"items that are not in the catalogue": 1})
    assert matured(THEN) == ([], {})
    assert matured(0, until=THEN) == ([], {})
    slates, _ = matured_slates(settled(log), upto=10, items=ITEMS, after=0, until=NOW, most=100)
    assert brief(slates)["thompson"] == [("x", None, 0.0, False, 0), ("y", None, 0.0, False, 0)]


def test_positions_that_settle_in_several_parts_are_one_slate(log: FeedbackLog) -> None:
    settled(log)  # the first of "young", whose click is final
    later = settled(log, now=NOW + 2 * HOUR)
    slates, left_out = matured_slates(later, upto=10, items=ITEMS, after=THEN, until=NOW + HOUR, most=100)
    assert brief(slates) == {"young": [("x", -1.0, 2.0, False, 30), ("y", -0.5, 0.0, False, 0)]}
    assert left_out == {}
    assert matured_slates(later, upto=1, items=ITEMS, after=THEN, until=NOW + HOUR, most=100)[0].num_rows == 1  # as it was then


def test_an_unknown_item_keeps_its_position(log: FeedbackLog) -> None:
    slates, _ = matured_slates(settled(log), upto=10, items=ITEMS, after=0, until=NOW - HOUR, most=100)
    assert [item for item, *_ in brief(slates)["unknown"]] == ["x", "nobody"]
