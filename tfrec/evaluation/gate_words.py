"""A decision of the gate for people, as one sentence, and for machines, as figures ready for JSON."""
from dataclasses import asdict
from typing import Any

from tfrec.evaluation.baselines import POPULARITY_7D
from tfrec.evaluation.gate import Decision, Reason
from tfrec.evaluation.gate_figures import CHALLENGER, CHAMPION, Comparison, Figures, Floor, SearchRanks
from tfrec.evaluation.intervals import Interval
from tfrec.evaluation.pair_accuracy import PairAccuracy
from tfrec.evaluation.policy_value import PolicyValue

_CALLED = {POPULARITY_7D: "7-day popularity", CHAMPION: "the champion"}
_NO_EVENT = "no event can be asked: nobody in the window has a history, so the challenger cannot be compared"


def reason_in_words(decision: Decision) -> str:
    """Why, with the figures that decided."""
    figures, reason, margin = decision.figures, decision.reason, decision.margins.hit_rate
    newest, asked = figures.newest, figures.asked
    if newest is None:
        return _NO_EVENT
    slates = _pairs_in_words(figures.pairs) if figures.pairs is not None else ""
    if asked is None:
        return f"{_objection(decision)}{slates}"
    ours, limit = f"challenger HR@10 {_figure(asked.hit_rate[CHALLENGER])} is", f"the margin is {_figure(margin)}"
    on = f"on {asked.events:,} events" + (" that came from no slate" if slates else "")
    if reason is Reason.BELOW_CHAMPION:
        return f"{ours} {_gap_in_words(asked, CHAMPION)} and {limit}, {on}"
    if reason is Reason.BELOW_BASELINE:
        rest = f"; it is {_gap_in_words(asked, CHAMPION)}" if CHAMPION in asked.gap else ""
        return f"{ours} {_gap_in_words(asked, asked.below(margin)[0])} and {limit}{rest}, {on}"
    gaps = " and ".join(_gap_in_words(asked, name) for name in asked.gap)
    return f"{_objection(decision)}{slates}{'; ' if slates else ''}{ours} {gaps or 'the first'}, {on}"


def figures_of(decision: Decision) -> dict[str, Any]:
    """What was measured, ready for JSON; what was not is left out."""
    figures, margins = decision.figures, decision.margins
    if figures.newest is None:
        return {"events": 0, "margin": margins.hit_rate}
    found = {**_compared(figures.newest, margins.hit_rate), "ndcg@10": figures.newest.ndcg}
    if figures.pairs is not None:
        found["pairs"] = figures.pairs.to_dict() | {"margin": margins.pairs}
        if figures.asked is not None:
            found["of_no_slate"] = _compared(figures.asked, margins.hit_rate)
    if figures.floor is not None:
        found["floor"] = asdict(figures.floor)
    if figures.search is not None and figures.searches is not None:
        compared = _compared(figures.search, margins.search)
        found["search"] = {"queries": compared.pop("events"), "source": figures.searches.source, **compared}
        del found["search"]["users"]
    if figures.value is not None:
        found["value"] = figures.value.to_dict()
    if figures.earlier is not None:
        found["earlier"] = _compared(figures.earlier, margins.earlier)
    return found


def _compared(comparison: Comparison, margin: float) -> dict[str, Any]:
    return {
        "events": comparison.events, "users": comparison.users, "margin": margin, "hr@10": comparison.hit_rate,
        "difference": {name: gap._asdict() for name, gap in comparison.gap.items()},
    }


def _objection(decision: Decision) -> str:
    """What is said before the comparison, when it is not the comparison itself that rejects."""
    margins = decision.margins
    match decision.reason, decision.figures:
        case Reason.MISORDERS, _:
            return f"it is less often right about what people chose, and the margin is {_figure(margins.pairs)}; "
        case Reason.MOVES_TOO_FAR, Figures(newest=Comparison() as newest):
            return (f"it moves too far at once: its HR@10 {_figure(newest.hit_rate[CHALLENGER])} on the newest {newest.events:,} "
                    f"events is less than {margins.keep:.0%} of the champion's {_figure(newest.hit_rate[CHAMPION])} "
                    "(retrain.keep_share); ")
        case Reason.BELOW_FLOOR, Figures(floor=Floor() as floor):
            return (f"it does not know what people want here, or these events do not tell: {floor.of} reached "
                    f"{_figure(floor.rate)}, and retrain.gate_floor asks for {floor.share:.0%} of that; ")
        case Reason.DEAD_SEARCH, Figures(searches=SearchRanks() as ranks):
            return (f"its search is dead: on {len(ranks.users):,} searches ({ranks.source}) the mean rank of what was wanted is "
                    f"{ranks.challenger.mean():.1f} of {ranks.n_items:,} items, no better than chance; the champion's is "
                    f"{ranks.champion.mean():.1f}; ")
        case Reason.WORSE_SEARCH, Figures(searches=SearchRanks() as ranks, search=Comparison() as search):
            return f"it searches worse: on {search.events:,} searches ({ranks.source}) {_below(search, margins.search)}; "
        case Reason.LOWER_VALUE, Figures(value=PolicyValue(logged=logged, gain=Interval() as gain)):
            less = "earns less" if decision.figures.slates_judge else "may earn less"
            return (f"it {less}: {gain.mean:+.4f} a request beyond the champion (95%: {gain.low:+.4f} to {gain.high:+.4f}); "
                    f"{logged:.4f} was earned and the margin is {margins.value:.0%} of it; ")
        case Reason.FORGETS, Figures(earlier=Comparison() as earlier):
            return f"it forgets: on {earlier.events:,} earlier events {_below(earlier, margins.earlier)}; "
    return ""


def _pairs_in_words(pairs: PairAccuracy) -> str:
    if pairs.gap is None:
        return ""
    return (f"challenger is right about {_figure(pairs.challenger)} of pairs in slates, "
            + _distance(pairs.gap, f"the champion's {_figure(pairs.champion)}") + f", on {pairs.slates:,} slates")


def _below(comparison: Comparison, margin: float) -> str:
    rate = _figure(comparison.hit_rate[CHALLENGER])
    return f"its HR@10 {rate} is {_gap_in_words(comparison, CHAMPION)} and the margin is {_figure(margin)}"


def _gap_in_words(comparison: Comparison, name: str) -> str:
    return _distance(comparison.gap[name], f"{_CALLED.get(name, name)}'s {_figure(comparison.hit_rate[name])}")


def _distance(gap: Interval, theirs: str) -> str:
    interval = f"(paired interval [{_figure(gap.low)}, {_figure(gap.high)}])"
    if gap.mean == 0:
        return f"equal to {theirs} {interval}"
    return f"{_figure(abs(gap.mean))} {'above' if gap.mean > 0 else 'below'} {theirs} {interval}"


def _figure(value: float) -> str:
    """.0712, -.0041: four digits, as in the scorecard, so that a gap and the margin can be told apart."""
    return f"{value:.4f}".replace("0.", ".", 1)
