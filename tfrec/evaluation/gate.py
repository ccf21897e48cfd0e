"""May the challenger replace the champion? Ranks of both and of the baselines on the newest events, and of both on earlier ones
and on searches, in; a verdict in words out.

The rule is a point comparison with a margin, so that the same figures always give the same verdict and a person can check
it by hand; the paired interval is stated beside it, for whoever wants to know how sure it is. Comparison alone is blind when
everything falls together, as on a log that no longer says anything: so there is a floor beside it.
"""
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfrec.errors import UsageError
from tfrec.evaluation.baselines import POPULARITY_7D
from tfrec.evaluation.intervals import Interval, UserBootstrap
from tfrec.evaluation.metrics import hits, ndcg
from tfrec.evaluation.policy_value import PolicyValue
from tfrec.evaluation.protocol import Ranks
from tfrec.evaluation.search_ranks import is_above_chance

CALLED = {POPULARITY_7D: "7-day popularity"}
CERTAIN = 0.01  # chance of so few hits, were the floor true, below which they are too few


@dataclass(frozen=True)
class Verdict:
    """Promote or hold, why, and the figures behind it (ready for JSON)."""

    promote: bool
    reason: str
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SearchRanks:
    """Both models' ranks `[n]` of the item that each search was for, among `n_items`."""

    champion: NDArray[np.float64]
    challenger: NDArray[np.float64]
    users: NDArray[np.int64]
    n_items: int
    source: str  # of the queries


@dataclass(frozen=True)
class Floor:
    """What a challenger must reach whatever the champion does: a share of an HR@10 that the log once allowed."""

    rate: float
    share: float
    of: str  # whose rate it was, and when


def verdict(champion: Ranks | None, challenger: Ranks, baselines: Mapping[str, Ranks], *, margin: float,
            earlier: tuple[Ranks, Ranks] | None = None, forget_margin: float = 1.0, value: PolicyValue | None = None,
            value_margin: float = 1.0, search: SearchRanks | None = None, search_margin: float = 1.0,
            floor: Floor | None = None) -> Verdict:
    """Compare by HR@10 on the same events.

    Held when the challenger is more than `margin` below the champion; or more than `margin` below a baseline without being
    better than the champion (a model that improves is not kept out by a count that is better than both); or, beyond doubt, below
    the `floor`; or more than `search_margin` below the champion on searches, or no
    better than chance there where the champion is; or more than `forget_margin` below the champion on `earlier` events; or when
    the lower bound of what it would earn beyond the champion is more than `value_margin` of the logged reward below zero; or when
    there is no event to compare on. A log that cannot tell what a policy would have earned has no say.

    Args:
        champion, challenger, baselines: ranks of the newest events.
        margin: HR@10 that may be lost on these.
        earlier: the champion's and the challenger's ranks of events of before, which both may have learnt. Their difference is
            the backward transfer of what was learnt since (Lopez-Paz & Ranzato 2017, arXiv:1706.08840): below zero, it forgot.
        forget_margin: HR@10 that may be lost on those.
        value: of the exploring policies of both, estimated from logged slates.
        value_margin: share of the logged reward that may be lost, at the lower bound.
        search: ranks of what searches were for.
        search_margin: HR@10 that may be lost on those.
        floor: what the challenger must reach, unless it is within `margin` of the floor's whole rate.

    Raises:
        UsageError: the ranks are not of the same events.
    """
    if earlier is not None and not np.array_equal(earlier[0].events, earlier[1].events):
        raise UsageError("gate: champion and challenger must be ranked on the same earlier events, got "
                         f"{len(earlier[0])} and {len(earlier[1])}.")
    rivals = ({} if champion is None else {"champion": champion}) | dict(baselines)
    for name, ranks in rivals.items():
        if not np.array_equal(ranks.events, challenger.events):
            raise UsageError(
                f"gate: the challenger and {name} must be ranked on the same events, got {len(challenger)} and {len(ranks)}."
            )
    if not len(challenger):
        why = "no event can be asked: nobody in the window has a history, so the challenger cannot be compared"
        return Verdict(False, why, {"events": 0, "margin": margin})
    hit = {name: hits(ranks.rank, k=10) for name, ranks in {"challenger": challenger, **rivals}.items()}
    rate = {name: float(own.mean()) for name, own in hit.items()}
    bootstrap = UserBootstrap(challenger.users)
    gaps = {name: gap for name in rivals if (gap := bootstrap.difference(hit["challenger"], hit[name])) is not None}
    figures = {
        "events": len(challenger),
        "users": len(np.unique(challenger.users)),
        "margin": margin,
        "hr@10": rate,
        "ndcg@10": {name: float(ndcg(ranks.rank, k=10).mean()) for name, ranks in {"challenger": challenger, **rivals}.items()},
        "difference": {name: gap._asdict() for name, gap in gaps.items()},
    }
    said = {name: _in_words(name, gap, rate[name]) for name, gap in gaps.items()}
    ours, on = f"challenger HR@10 {_figure(rate['challenger'])} is", f"on {len(challenger):,} events"
    limit = f"the margin is {_figure(margin)}"
    below = [name for name, gap in gaps.items() if gap.mean < -margin]
    wrongs = []  # what holds it, beside the comparison
    if floor is not None:
        figures["floor"] = asdict(floor)
        if _too_few(int(hit["challenger"].sum()), len(challenger), min(floor.share * floor.rate, floor.rate - margin)):
            wrongs.append(f"it does not know what people want here, or these events do not tell: {floor.of} reached "
                          f"{_figure(floor.rate)}, and retrain.gate_floor asks for {floor.share:.0%} of that")
    if search is not None and len(search.users):
        figures["search"], lost = _searches(search, margin=search_margin)
        wrongs += [lost] * bool(lost)
    if value is not None:
        figures["value"] = value.to_dict()
        if value.gain is not None and value.gain.low < -value_margin * abs(value.logged):
            lost = (f"it may earn less: {value.gain.mean:+.4f} a request beyond the champion at the first place, at least "
                    f"{value.gain.low:+.4f} (95%); {value.logged:.4f} was earned and the margin is {value_margin:.0%} of it")
            wrongs.append(lost)
    if earlier is not None and len(earlier[0]):
        figures["earlier"], forgotten = _backward_transfer(*earlier, margin=forget_margin)
        wrongs += [forgotten] * bool(forgotten)
    if "champion" in below:
        return Verdict(False, f"{ours} {said['champion']} and {limit}, {on}", figures)
    if below and (champion is None or gaps["champion"].mean <= 0):
        rest = "" if champion is None else f"; it is {said['champion']}"
        return Verdict(False, f"{ours} {said[below[0]]} and {limit}{rest}, {on}", figures)
    if wrongs:
        return Verdict(False, f"{wrongs[0]}; {ours} {' and '.join(said.values())}, {on}", figures)
    return Verdict(True, f"{ours} {' and '.join(said.values()) or 'the first'}, {on}", figures)


def _too_few(found: int, asked: int, rate: float) -> bool:
    """Whether `found` hits or fewer among `asked` would be as good as impossible at a true hit rate of `rate`.

    The binomial distribution's lower tail; events of one user are alike, so `CERTAIN` is strict.
    """
    if rate <= 0 or found >= rate * asked:
        return False
    logs = [math.lgamma(asked + 1) - math.lgamma(k + 1) - math.lgamma(asked - k + 1) + k * math.log(rate)
            + (asked - k) * math.log1p(-rate) for k in range(found + 1)]
    return float(np.exp(np.logaddexp.reduce(logs))) < CERTAIN


def _searches(ranks: SearchRanks, *, margin: float) -> tuple[dict[str, Any], str]:
    """The figures of searches, and what to say when the challenger lost more than `margin` on them, or all."""
    hit = {"challenger": hits(ranks.challenger, k=10), "champion": hits(ranks.champion, k=10)}
    rate = {name: float(own.mean()) for name, own in hit.items()}
    gap = UserBootstrap(ranks.users).difference(hit["challenger"], hit["champion"])
    figures = {"queries": len(ranks.users), "source": ranks.source, "margin": margin, "hr@10": rate,
               "difference": {} if gap is None else {"champion": gap._asdict()}}
    asked = f"on {len(ranks.users):,} searches ({ranks.source})"
    alive, still = (is_above_chance(own, ranks.n_items, deviations=clear)
                    for own, clear in ((ranks.champion, 2.0), (ranks.challenger, 1.0)))
    if alive and not still:
        return figures, (f"its search is dead: {asked} the mean rank of what was wanted is {ranks.challenger.mean():.1f} of "
                         f"{ranks.n_items:,} items, no better than chance; the champion's is {ranks.champion.mean():.1f}")
    if gap is None or gap.mean >= -margin:
        return figures, ""
    return figures, (f"it searches worse: {asked} its HR@10 {_figure(rate['challenger'])} is "
                     f"{_in_words('champion', gap, rate['champion'])} and the margin is {_figure(margin)}")


def _backward_transfer(champion: Ranks, challenger: Ranks, *, margin: float) -> tuple[dict[str, Any], str]:
    """The figures of the earlier events, and what to say when more than `margin` was lost on them."""
    hit = {"challenger": hits(challenger.rank, k=10), "champion": hits(champion.rank, k=10)}
    rate = {name: float(own.mean()) for name, own in hit.items()}
    gap = UserBootstrap(challenger.users).difference(hit["challenger"], hit["champion"])
    figures = {"events": len(challenger), "users": len(np.unique(challenger.users)), "margin": margin, "hr@10": rate,
               "difference": {} if gap is None else {"champion": gap._asdict()}}
    if gap is None or gap.mean >= -margin:
        return figures, ""
    return figures, (f"it forgets: on {len(challenger):,} earlier events its HR@10 {_figure(rate['challenger'])} is "
                     f"{_in_words('champion', gap, rate['champion'])} and the margin is {_figure(margin)}")


def _in_words(name: str, gap: Interval, theirs: float) -> str:
    called = f"{'the ' if name == 'champion' else ''}{CALLED.get(name, name)}"
    interval = f"(paired interval [{_figure(gap.low)}, {_figure(gap.high)}])"
    if gap.mean == 0:
        return f"equal to {called}'s {_figure(theirs)} {interval}"
    return f"{_figure(abs(gap.mean))} {'above' if gap.mean > 0 else 'below'} {called}'s {_figure(theirs)} {interval}"


def _figure(value: float) -> str:
    """.0712, -.0041: four digits, as in the scorecard, so that a gap and the margin can be told apart."""
    return f"{value:.4f}".replace("0.", ".", 1)
