"""What requests add to the scores of items, as rules of a business ask: by item, tag and range of a number.

The rule is that of the served graph: boosts add up, and an item without the number is in no range.
"""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tfrec.data.items.numeric_columns import Columns, within
from tfrec.data.records import Boost


@dataclass(frozen=True, eq=False)
class BoostedItems:
    """The boosts of `n` requests. They share few different ones, so each is kept once and requests refer to it by number."""

    number: npt.NDArray[np.int32]  # [n] in `known`
    known: tuple[tuple[Boost, ...], ...]
    positions: Mapping[str, int]  # of items in the catalogue, of those that boosts name
    tagged: Mapping[str, npt.NDArray[np.int32]]
    columns: Columns

    @classmethod
    def of(cls, wanted: Sequence[tuple[Boost, ...]], items: Sequence[str], tagged: Mapping[str, npt.NDArray[np.int32]],
           columns: Columns) -> "BoostedItems":
        """From the boosts of each request, and the catalogue: ids, positions by tag, and numbers."""
        numbers: dict[tuple[Boost, ...], int] = {(): 0}
        number = np.array([numbers.setdefault(boosts, len(numbers)) for boosts in wanted], np.int32)
        named = {name for boosts in numbers for kind, name, *_ in boosts if kind == "item"}
        positions = {item: position for position, item in enumerate(items) if item in named} if named else {}
        return cls(number, tuple(numbers), positions, tagged, columns)

    def __len__(self) -> int:
        return len(self.number)

    def __getitem__(self, rows: npt.NDArray[Any]) -> "BoostedItems":
        return replace(self, number=self.number[rows])

    def added(self, n_items: int) -> npt.NDArray[np.float32]:
        """`[n, n_items]`: what is added to the score of each item of the catalogue; `[n, 0]` where nothing is."""
        numbers, of_request = np.unique(self.number, return_inverse=True)
        if not any(self.known[number] for number in numbers):
            return np.zeros((len(self), 0), np.float32)
        found = np.zeros((len(numbers), n_items), np.float32)
        for row, number in zip(found, numbers, strict=True):
            for kind, name, value, least, most in self.known[number]:
                if kind == "item":
                    row[[self.positions[name]] if name in self.positions else []] += value
                elif kind == "tag":
                    row[self.tagged.get(name, np.zeros(0, np.int32))] += value
                else:
                    row[within([(name, least, most)], self.columns, n_items)] += value
        return np.asarray(found[of_request])
