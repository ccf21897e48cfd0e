"""The numbers of a catalogue's items as a table, and which items are within the bounds of a request.

The rule is that of the served index: an item passes when its number is not below the least and not above the most; one without
the number does not pass.
"""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tfrec.data.records import Item

MISSING = float(np.finfo(np.float64).min)  # the value of an item that has none: a version's variables must be finite

Bound = tuple[str, float | None, float | None]  # column, least, most; None: no bound
Columns = Mapping[str, npt.NDArray[np.float64]]  # a value of each item, `MISSING` where it has none


def numeric_table(items: Sequence[Item | None]) -> tuple[list[str], npt.NDArray[np.float64]]:
    """The names of the numeric columns, sorted, and their values `[columns, items]`, `MISSING` where an item has none."""
    names = sorted({name for item in items if item for name in item.numeric})
    table = np.full((len(names), len(items)), MISSING)
    row = {name: number for number, name in enumerate(names)}
    for position, item in enumerate(items):
        for name, value in (item.numeric if item else {}).items():
            table[row[name], position] = value
    return names, table


def numeric_columns(items: Sequence[Item]) -> Columns:
    """The values `[items]` of each numeric column."""
    return dict(zip(*numeric_table(items), strict=True))


def within(bounds: Sequence[Bound], columns: Columns, n_items: int) -> npt.NDArray[np.bool_]:
    """`[n_items]`: whether each item is within all bounds."""
    passes = np.ones(n_items, bool)
    for name, least, most in bounds:
        value = columns.get(name)
        if value is None:
            return np.zeros(n_items, bool)
        passes &= value != MISSING
        if least is not None:
            passes &= value >= least
        if most is not None:
            passes &= value <= most
    return passes


@dataclass(frozen=True, eq=False)
class BoundFilters:
    """The bounds of `n` requests. They share few different ones, so each is kept once and requests refer to it by number."""

    number: npt.NDArray[np.int32]  # [n] in `known`
    known: tuple[tuple[Bound, ...], ...]
    columns: Columns

    @classmethod
    def of(cls, wanted: Sequence[Sequence[Bound]], columns: Columns) -> "BoundFilters":
        """From the bounds of each request."""
        numbers: dict[tuple[Bound, ...], int] = {(): 0}
        number = np.array([numbers.setdefault(tuple(bounds), len(numbers)) for bounds in wanted], np.int32)
        return cls(number, tuple(numbers), columns)

    def __len__(self) -> int:
        return len(self.number)

    def __getitem__(self, rows: npt.NDArray[Any]) -> "BoundFilters":
        return replace(self, number=self.number[rows])

    def narrow(self, may: npt.NDArray[np.bool_]) -> None:
        """Set to false, in `may` `[n, n_items]`, each item that is not within the bounds of its row."""
        for number in np.unique(self.number).tolist():
            if self.known[number]:
                may[self.number == number] &= within(self.known[number], self.columns, may.shape[1])
