"""The figures that the gate decides by: the challenger beside the champion and the baselines, on the same events."""
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tfrec.errors import UsageError
from tfrec.evaluation.intervals import Interval, UserBootstrap
from tfrec.evaluation.metrics import hits, ndcg
from tfrec.evaluation.pair_accuracy import PairAccuracy
from tfrec.evaluation.policy_value import PolicyValue
from tfrec.evaluation.protocol import Ranks

CHALLENGER, CHAMPION = "challenger", "champion"
LEAST_ASKED = 30  # events that came from no slate


@dataclass(frozen=True)
class Comparison:
    """Figures by model name on the same events; the challenger's own stand first in `hit_rate` and `ndcg`."""

    events: int
    users: int
    hits: int  # events whose item is among the challenger's first ten
    hit_rate: dict[str, float]  # HR@10
    ndcg: dict[str, float]  # NDCG@10
    gap: dict[str, Interval]  # HR@10 of the challenger less that of each other model, paired

    def below(self, margin: float) -> list[str]:
        """The models that the challenger is more than `margin` below."""
        return [name for name, gap in self.gap.items() if gap.mean < -margin]


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


@dataclass(frozen=True)
class Figures:
    """All that was measured; what was not is None."""

    newest: Comparison | None  # None when there is no event to compare on
    asked: Comparison | None = None  # of the newest events those that HR@10 decides by; None when slates decide alone
    pairs: PairAccuracy | None = None  # where slates judge
    earlier: Comparison | None = None
    value: PolicyValue | None = None
    searches: SearchRanks | None = None
    search: Comparison | None = None  # of `searches`
    floor: Floor | None = None

    @property
    def slates_judge(self) -> bool:
        """Whether there are slates enough to compare on."""
        return self.pairs is not None


def compare(challenger: NDArray[np.float64], others: Mapping[str, NDArray[np.float64]],
            users: NDArray[np.integer]) -> Comparison | None:
    """Compare ranks `[n]` of the same events by `users` `[n]`, who are redrawn for the intervals. None without events."""
    if not len(users):
        return None
    rank = {CHALLENGER: challenger, **others}
    hit = {name: hits(own, k=10) for name, own in rank.items()}
    bootstrap = UserBootstrap(users)
    gaps = {name: bootstrap.difference(hit[CHALLENGER], hit[name]) for name in others}
    return Comparison(
        events=len(users),
        users=len(np.unique(users)),
        hits=int(hit[CHALLENGER].sum()),
        hit_rate={name: float(own.mean()) for name, own in hit.items()},
        ndcg={name: float(ndcg(own, k=10).mean()) for name, own in rank.items()},
        gap={name: gap for name, gap in gaps.items() if gap is not None},
    )


def measure(champion: Ranks | None, challenger: Ranks, baselines: Mapping[str, Ranks], *,
            of_slates: NDArray[np.bool_] | None = None, pairs: PairAccuracy | None = None,
            earlier: tuple[Ranks, Ranks] | None = None, value: PolicyValue | None = None, search: SearchRanks | None = None,
            floor: Floor | None = None) -> Figures:
    """Compare by HR@10 on the newest events, on earlier ones and on searches, and by what people chose in slates.

    Where there are slates enough to judge, HR@10 is not asked about events that came from slates: the champion chose what could
    be acted on there. With fewer than `LEAST_ASKED` other events it is asked about none.

    Args:
        champion: ranks of the newest events; None for the first model of a run.
        challenger: ranks of the same events.
        baselines: ranks of the same events, by name.
        of_slates: `[all events]`, which of them people acted on in a slate.
        pairs: how often each is right about what was chosen in a slate.
        earlier: the champion's and the challenger's ranks of earlier events, which both may have learnt. Their difference is the
            backward transfer of what was learnt since (Lopez-Paz & Ranzato 2017, arXiv:1706.08840): below zero, it forgot.
        value: what the challenger's exploring policy gains over the champion's, estimated from logged slates.
        search: ranks of what searches were for.
        floor: what the challenger must reach.

    Raises:
        UsageError: the ranks are not of the same events.
    """
    if earlier is not None and not np.array_equal(earlier[0].events, earlier[1].events):
        raise UsageError("gate: champion and challenger must be ranked on the same earlier events, got "
                         f"{len(earlier[0])} and {len(earlier[1])}.")
    others = ({} if champion is None else {CHAMPION: champion}) | dict(baselines)
    for name, ranks in others.items():
        if not np.array_equal(ranks.events, challenger.events):
            raise UsageError(
                f"gate: the challenger and {name} must be ranked on the same events, got {len(challenger)} and {len(ranks)}."
            )
    if pairs is not None and pairs.gap is None:  # too few to tell
        pairs = None
    on_searches = None if search is None else compare(search.challenger, {CHAMPION: search.champion}, search.users)

    def on(ours: Ranks, theirs: Mapping[str, Ranks], *, asked: bool) -> Comparison | None:
        kept = np.ones(len(ours), bool)
        if asked and of_slates is not None and pairs is not None:
            kept = ~of_slates[ours.events]
            if kept.sum() < LEAST_ASKED:
                return None
        return compare(ours.rank[kept], {name: ranks.rank[kept] for name, ranks in theirs.items()}, ours.users[kept])

    return Figures(
        newest=on(challenger, others, asked=False),
        asked=on(challenger, others, asked=True),
        pairs=pairs,
        earlier=None if earlier is None else on(earlier[1], {CHAMPION: earlier[0]}, asked=True),
        value=value,
        searches=None if on_searches is None else search,
        search=on_searches,
        floor=floor,
    )
