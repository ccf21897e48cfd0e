"""Models side by side: one table of metrics with intervals and paired differences.

All rows are ranks of the same events, so one redraw of the users serves the whole table, and the difference of a row to a
named row is paired. A metric that no event can measure, as when no cold item was evaluated, is None and never 0.
"""
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from rich.table import Table
from rich.text import Text

from tfrec.errors import UsageError
from tfrec.evaluation.intervals import Interval, UserBootstrap
from tfrec.evaluation.metrics import auc, catalogue_coverage, hits, intra_list_diversity, ndcg
from tfrec.evaluation.protocol import Ranks

SLATE = 10  # items of a slate that coverage and diversity look at
FEW_USERS = 10  # with fewer, redrawing them says nothing about other users, and no interval is given
SHOWN = {  # key in JSON -> heading
    "hr@10": "HR@10",
    "ndcg@10": "NDCG@10",
    "hr@50": "HR@50",
    "cold_hr@10": "cold HR@10",
    "untouched_hr@10": "untouched HR@10",
    "auc": "AUC",
    f"coverage@{SLATE}": f"coverage@{SLATE}",
    f"diversity@{SLATE}": f"diversity@{SLATE}",
}


@dataclass(frozen=True)
class ScorecardRow:
    """One model: its metrics, and how far each is above that of the row it is compared with."""

    metrics: dict[str, Interval | None]
    coverage: float | None  # of the catalogue by the first `SLATE` positions of all slates; one number, without an interval
    differences: dict[str, Interval | None]  # empty for the row that the others are compared with


@dataclass(frozen=True)
class Scorecard:
    """Rows by name, in the order they were given."""

    rows: dict[str, ScorecardRow]
    against: str | None
    events: int
    users: int

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Ready for JSON: by name the metrics by key, `intervals` (key -> [low, high]) and, when compared, `difference`."""
        return {name: self._row_dict(row) for name, row in self.rows.items()}

    def _row_dict(self, row: ScorecardRow) -> dict[str, Any]:
        found: dict[str, Any] = {key: None if value is None else value.mean for key, value in row.metrics.items()}
        if row.coverage is not None:
            found[f"coverage@{SLATE}"] = row.coverage
        found["intervals"] = {
            key: [value.low, value.high] for key, value in row.metrics.items() if value is not None and _is_known(value)}
        if row.differences:
            gaps = {key: value._asdict() if _is_known(value) else {"mean": value.mean, "low": None, "high": None}
                    for key, value in row.differences.items() if value is not None}
            found["difference"] = {"against": self.against, **gaps}
        return found

    def to_table(self, *, title: str | None = None) -> Table:
        """A table for a terminal: four digits, the interval of NDCG@10, and the paired difference in HR@10."""
        as_dict = self.to_dict()
        keys = [key for key in SHOWN if any(row.get(key) is not None for row in as_dict.values())]
        few = self.users < FEW_USERS
        note = f"no intervals: fewer than {FEW_USERS} users" if few else "[95% interval, users redrawn]"
        caption = Text(f"{self.events:,} events of {self.users:,} user{'' if self.users == 1 else 's'}; {note}")
        table = Table(title=None if title is None else Text(title), caption=caption, pad_edge=False)
        table.add_column("")
        for key in keys:
            table.add_column(SHOWN[key], justify="right")
        if self.against is not None:
            table.add_column(Text(f"HR@10 against {self.against}"), justify="right")
        for name, row in self.rows.items():
            cells = [_cell(as_dict[name].get(key)) for key in keys]
            interval = row.metrics["ndcg@10"]
            if interval is not None and _is_known(interval):
                cells[keys.index("ndcg@10")] += f" [{_cell(interval.low)}, {_cell(interval.high)}]"
            if self.against is not None:
                gap = row.differences.get("hr@10")
                between = f" [{gap.low:+.4f}, {gap.high:+.4f}]" if gap is not None and _is_known(gap) else ""
                cells.append("" if gap is None else f"{gap.mean:+.4f}{between}")
            table.add_row(*map(Text, (name, *cells)), style="bold" if name == self.against else None)
        return table

    def __rich__(self) -> Table:
        return self.to_table()


def scorecard(ranks: Mapping[str, Ranks], *, against: str | None = None, vectors: ArrayLike | None = None) -> Scorecard:
    """Measure each model's ranks of the same events.

    Args:
        ranks: by name; those with slates (`rank_events(..., top=10)`) get catalogue coverage too.
        against: the row that every other row's paired difference is to.
        vectors: `[n_items, dim]` by which items are alike, for intra-list diversity; text vectors, say, which no row has fitted.

    Raises:
        UsageError: `against` is no row, or the rows are ranks of different events.
    """
    if against is not None and against not in ranks:
        raise UsageError(f"scorecard: against must be one of {', '.join(ranks)}; got {against!r}.")
    if not ranks:
        return Scorecard({}, against, 0, 0)
    (lead, first), *others = ranks.items()
    for name, row in others:
        if not np.array_equal(row.events, first.events):
            raise UsageError(f"scorecard: all rows must rank the same events, but {name!r} ranks others than {lead!r}.")
    bootstrap = UserBootstrap(first.users, least=FEW_USERS)
    values = {name: _values(row, vectors) for name, row in ranks.items()}
    masks = {"cold_hr@10": first.cold, "untouched_hr@10": first.untouched}

    def row_of(name: str) -> ScorecardRow:
        own = values[name]
        where = {key: masks.get(key, ~np.isnan(value)) for key, value in own.items()}
        differences = {}
        if against is not None and name != against:
            theirs = values[against]
            both = {key: where[key] & ~np.isnan(theirs[key]) for key in own if key in theirs}
            differences = {key: bootstrap.difference(own[key], theirs[key], where=mask) for key, mask in both.items()}
        slates = ranks[name].slates
        return ScorecardRow(
            {key: bootstrap.interval(value, where=where[key]) for key, value in own.items()},
            None if slates is None else catalogue_coverage(slates[:, :SLATE], n_items=ranks[name].n_items),
            differences,
        )

    return Scorecard({name: row_of(name) for name in ranks}, against, len(first), len(np.unique(first.users)))


def _values(ranks: Ranks, vectors: ArrayLike | None) -> dict[str, np.ndarray]:
    """Every metric per event, before any average."""
    hit = hits(ranks.rank, k=10)
    found = {"hr@10": hit, "ndcg@10": ndcg(ranks.rank, k=10), "hr@50": hits(ranks.rank, k=50), "cold_hr@10": hit}
    found |= {"untouched_hr@10": hit, "auc": auc(ranks.rank, ranks.candidates)}
    if vectors is not None and ranks.slates is not None:
        found[f"diversity@{SLATE}"] = intra_list_diversity(ranks.slates[:, :SLATE], vectors)
    return found


def _is_known(interval: Interval) -> bool:
    """Whether there were enough users for bounds."""
    return not np.isnan(interval.low)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}".removeprefix("0")
