"""What the report says, whichever way the demo went."""
import math

import pytest

from tests.demo.report.sample import loop_sample, sample
from tfrec.demo.report.words import (
    figure,
    finding,
    hits,
    hits_gained,
    later_rounds,
    loop_finding,
    milliseconds,
    percent,
    pooled,
    seconds,
    signed,
)


def report_with(low: float, mean: float, high: float):
    return sample() | {"paired_difference": {"hr@10": mean, "low": low, "high": high}}


def test_retraining_helped():
    found = finding(report_with(0.0004, 0.0031, 0.0061))
    assert found.mood == "better"
    assert found.headline == (
        "Retraining helped: in rounds 2 to 5 the next item was among the ten shown in 8.6% of requests, "
        "against 8.3% for the model that stopped learning."
    )
    assert found.detail == (
        "The paired difference in HR@10 is +.0031, with a 95% interval from +.0004 to +.0061, all of it above zero. "
        "Counting what was popular in the last seven days, which needs no model, finds 2.4%."
    )


def test_retraining_hurt():
    found = finding(report_with(-0.0061, -0.0031, -0.0004))
    assert found.mood == "worse"
    assert found.headline.startswith("Retraining hurt: in rounds 2 to 5")
    assert "from −.0061 to −.0004, all of it below zero" in found.detail


@pytest.mark.parametrize(("low", "said"), [(-0.0049, "above .0050 is ruled out"), (-0.0051, "above .0050 is not ruled out")])
def test_no_difference_that_can_be_told_from_chance(low, said):
    found = finding(report_with(low, 0.0002, 0.0053))
    assert found.mood == "same"
    assert found.headline.startswith("Retraining made no difference that can be told from chance: in rounds 2 to 5")
    assert said in found.detail


def test_every_retrain_was_rejected():
    report = report_with(0.0, 0.0, 0.0)
    for entry in report["rounds"]:
        entry["promoted"] = False
    found = finding(report)
    assert found.mood == "rejected"
    assert found.headline.startswith("No retrained model went live: the gate rejected each one")


def test_the_closed_loop_learns():
    found = loop_finding(loop_sample())  # in rounds 4 and 5, which a retrain after the drift came before
    assert found.mood == "better"
    assert found.headline == (
        "It learns from its own feedback: after people's tastes had drifted, the model that explores and is retrained earned "
        "0.50 clicks a request, against 0.15 for the model that stopped learning."
    )
    assert found.detail == (
        "That is 16.7% of the way from there to the best slates, which earn 2.25; 95% interval 15.0% to 19.0%. Greedy and "
        "retrained: 9.5%."
    )


@pytest.mark.parametrize(("low", "high", "mood"), [(-0.01, 0.02, "same"), (-0.04, -0.01, "worse")])
def test_the_closed_loop_does_not_learn(low, high, mood):
    found = loop_finding(loop_sample() | {"gain": {"exploring": [0.005, low, high]}})
    assert found.mood == mood
    assert f"interval −{-100 * low:.1f}% to" in found.detail
    assert "Greedy" not in found.detail


@pytest.mark.parametrize("gap", [None, {"hr@10": math.nan, "low": math.nan, "high": math.nan}])
def test_nothing_to_compare(gap):
    report = sample()
    found = finding(report | {"rounds": report["rounds"][:1], "paired_difference": gap})
    assert found.mood == "same"
    assert found.headline == "One round was played, so there is nothing yet that retraining could have changed."


def test_rounds_are_pooled_by_request():
    rounds = [
        {"round": 1, "asked": 500, "static": {"hr@10": 0.9}, "retrained": {"hr@10": 0.9}},
        {"round": 2, "asked": 100, "static": {"hr@10": 0.10}, "retrained": {"hr@10": 0.14}},
        {"round": 3, "asked": 300, "static": {"hr@10": 0.02}, "retrained": {"hr@10": 0.01}},
    ]
    assert pooled(later_rounds({"rounds": rounds}), "static") == pytest.approx(16 / 400)
    assert hits(rounds, "retrained") == 450 + 14 + 3
    assert hits_gained(rounds) == [0, 4, -3]
    assert math.isnan(pooled([], "static"))


@pytest.mark.parametrize(
    ("worded", "value", "words"),
    [
        (figure, 0.07971, ".0797"),
        (figure, 0.0, ".0000"),
        (figure, 1.0, "1.0000"),
        (figure, None, "–"),
        (figure, math.nan, "–"),
        (signed, 0.0041, "+.0041"),
        (signed, -0.0041, "−.0041"),
        (percent, 0.0844, "8.4%"),
        (percent, -0.007, "−0.7%"),
        (seconds, 0.042, "0.04 s"),
        (seconds, 7.31, "7.3 s"),
        (seconds, 9.96, "10 s"),
        (seconds, 59.4, "59 s"),
        (seconds, 59.6, "1 min"),
        (seconds, 200.2, "3 min 20 s"),
        (milliseconds, 8.44, "8.4 ms"),
        (milliseconds, 1240.2, "1,240 ms"),
    ],
)
def test_figures(worded, value, words):
    assert worded(value) == words
