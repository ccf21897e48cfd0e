"""The report in words and figures: one sentence that says whether retraining helped, and how figures are written.

Figures are pooled over the rounds from the second on, and each asked request counts once. In the first round the retrained and
the static model are the same.
"""
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Report = Mapping[str, Any]

TOLERANCE = 0.005  # HR@10; people would notice a greater loss
NAMES = {
    "retrained": "retrained",
    "static": "static",
    "frozen": "frozen",
    "popularity": "popularity",
    "popularity_7d": "7-day popularity",
    "best": "best slates",
}
STAGES = ("train", "evaluate", "export", "verify")


@dataclass(frozen=True)
class Finding:
    """What was found. `mood` is better, same, worse or rejected; `headline` is a sentence, `detail` the figures behind it."""

    mood: str
    headline: str
    detail: str


def finding(report: Report) -> Finding:
    """What the demo found about retraining, in plain words."""
    rounds, gap = later_rounds(report), paired(report)
    retrained, static, popular = (pooled(rounds, who) for who in ("retrained", "static", "popularity_7d"))
    popularity = f"Counting what was popular in the last seven days, which needs no model, finds {percent(popular)}."
    if not rounds or gap is None:
        return Finding("same", "One round was played, so there is nothing yet that retraining could have changed.", popularity)
    when = f"in rounds {rounds[0]['round']} to {rounds[-1]['round']}" if len(rounds) > 1 else f"in round {rounds[0]['round']}"
    place = f"{when} the next item was among the ten shown in {percent(retrained)} of requests"
    low, high = gap["low"], gap["high"]
    if not any(entry["promoted"] for entry in report["rounds"][:-1]):
        found = f"found the next item {when} in {percent(static)} of requests"
        headline = f"No retrained model went live: the gate rejected each one. The first model, which {found}, kept answering."
        return Finding("rejected", headline, popularity)
    size = signed(gap["hr@10"])
    interval = f"The paired difference in HR@10 is {size}, with a 95% interval from {signed(low)} to {signed(high)}"
    if low > 0:
        headline = f"Retraining helped: {place}, against {percent(static)} for the model that stopped learning."
        return Finding("better", headline, f"{interval}, all of it above zero. {popularity}")
    if high < 0:
        headline = f"Retraining hurt: {place}, against {percent(static)} for the model that stopped learning."
        return Finding("worse", headline, f"{interval}, all of it below zero. {popularity}")
    headline = f"Retraining made no difference that can be told from chance: {place}, and in {percent(static)} without it."
    bound = f"a loss above {figure(TOLERANCE)} is {'ruled out' if low > -TOLERANCE else 'not ruled out'}"
    return Finding("same", headline, f"{interval}: {bound}. {popularity}")


def loop_finding(loop: Mapping[str, Any]) -> Finding:
    """What the closed loop found about learning from what was shown, in plain words."""
    share, low, high = loop["gain"]["exploring"]
    earned = {arm: mean([number for number, _, _ in loop["reward"][arm][loop["drift"] + 1 :]])
              for arm in ("exploring", "static", "best")}
    place = (f"after people's tastes had drifted, the model that explores and is retrained earned {clicks(earned['exploring'])} "
             f"clicks a request, against {clicks(earned['static'])} for the model that stopped learning")
    greedy = f" Greedy and retrained: {percent(loop['gain']['greedy'][0])}." if "greedy" in loop["gain"] else ""
    detail = (f"That is {percent(share)} of the way from there to the best slates, which earn {clicks(earned['best'])}; 95% "
              f"interval {percent(low)} to {percent(high)}.{greedy}")
    if low > 0:
        return Finding("better", f"It learns from its own feedback: {place}.", detail)
    if high < 0:
        return Finding("worse", f"Learning from its own feedback hurt: {place}.", detail)
    return Finding("same", f"No difference that can be told from chance: {place}.", detail)


def paired(report: Report) -> Mapping[str, float] | None:
    """Retrained less static in HR@10 with its interval; None when there was nothing to compare."""
    gap = report.get("paired_difference")
    return gap if gap is not None and all(known(gap.get(key)) for key in ("hr@10", "low", "high")) else None


def later_rounds(report: Report) -> list[Mapping[str, Any]]:
    """The rounds in which retrained and static can differ."""
    return [entry for entry in report["rounds"] if entry["round"] >= 2]


def pooled(rounds: Sequence[Mapping[str, Any]], who: str, *, metric: str = "hr@10") -> float:
    """The metric over all requests of the rounds; NaN when none was asked."""
    told = [(entry["asked"], entry[who][metric]) for entry in rounds if known(entry[who].get(metric))]
    asked = sum(n for n, _ in told)
    return sum(n * value for n, value in told) / asked if asked else math.nan


def hits_gained(rounds: Sequence[Mapping[str, Any]]) -> list[int]:
    """By how many hits the retrained model was ahead of the static one, in each round."""
    return [round(entry["asked"] * (entry["retrained"]["hr@10"] - entry["static"]["hr@10"])) for entry in rounds]


def hits(rounds: Sequence[Mapping[str, Any]], who: str) -> int:
    """Requests of all rounds whose item was among the first ten."""
    return sum(round(entry["asked"] * entry[who]["hr@10"]) for entry in rounds)


def known(value: Any) -> bool:
    """Whether the value is a number, and neither None nor NaN."""
    return value is not None and not math.isnan(value)


def figure(value: float | None) -> str:
    """.0797: four digits and no zero before the point, as in tables of results."""
    return "–" if value is None or not known(value) else f"{value:.4f}".replace("0.", ".", 1)


def signed(value: float | None) -> str:
    """+.0041 or −.0041, with a true minus."""
    return figure(value) if value is None or not known(value) else f"{'−' if value < 0 else '+'}{figure(abs(value))}"


def percent(value: float | None) -> str:
    """A share as a percentage: 8.4%, or −0.7% with a true minus."""
    return "–" if value is None or not known(value) else f"{100 * value:.1f}%".replace("-", "−")


def clicks(value: float) -> str:
    """Expected clicks of a request: 1.27."""
    return f"{value:.2f}"


def seconds(value: float | None) -> str:
    """0.42 s, 7.3 s, 48 s, 3 min 20 s."""
    if value is None or not known(value):
        return "–"
    if value < 59.5:
        return f"{value:.2f} s" if value < 0.995 else f"{value:.1f} s" if value < 9.95 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


def milliseconds(value: float | None) -> str:
    """0.8 ms, 12 ms, 1,240 ms."""
    return "–" if value is None or not known(value) else f"{value:.1f} ms" if value < 9.95 else f"{value:,.0f} ms"


def name_of(model: str) -> str:
    """The name for people of a model's key in the report."""
    return NAMES.get(model, model)


def whole_retrain(entry: Mapping[str, Any]) -> float:
    """Seconds of a round's retrain, from its first line to its last."""
    spent = entry["retrain_seconds"]
    return float(spent.get("total") or sum(spent.get(stage, 0.0) for stage in STAGES))


def mean(values: Sequence[float]) -> float:
    """The mean; NaN without a value."""
    return sum(values) / len(values) if values else math.nan
