"""Filters by the tags that requests allow and deny.

The rule is that of the served index: an item passes when it has one of the allowed tags, or no tag is allowed by name, and when
it has none of the denied tags. Requests share few different filters, so each filter is kept once and requests refer to it by
number.
"""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


class TagFilter(NamedTuple):
    """The tags of one request; without any, every item passes."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class TagFilters:
    """The tag filters of `n` requests."""

    number: npt.NDArray[np.int32]  # [n] in `known`
    known: tuple[TagFilter, ...]
    tagged: Mapping[str, npt.NDArray[np.int32]]  # catalogue positions of the items that have a tag

    @classmethod
    def of(
        cls, wanted: Sequence[tuple[Sequence[str], Sequence[str]]], tagged: Mapping[str, npt.NDArray[np.int32]]
    ) -> "TagFilters":
        """From the allowed and the denied tags of each request; the tag `""` is ignored."""
        numbers: dict[TagFilter, int] = {}
        filters = [TagFilter(*(tuple(sorted(set(names) - {""})) for names in pair)) for pair in wanted]
        number = np.array([numbers.setdefault(one, len(numbers)) for one in filters], np.int32)
        return cls(number, tuple(numbers), tagged)

    def __len__(self) -> int:
        return len(self.number)

    def __getitem__(self, rows: npt.NDArray[Any]) -> "TagFilters":
        return replace(self, number=self.number[rows])

    def passes(self, n_items: int) -> npt.NDArray[np.bool_]:
        """`[n, n_items]`: whether each item of the catalogue passes."""
        numbers, of_request = np.unique(self.number, return_inverse=True)
        found = np.ones((len(numbers), n_items), np.bool_)
        for row, number in zip(found, numbers, strict=True):
            allow, deny = self.known[number]
            if allow:
                row[:] = False
                row[self._positions(allow)] = True
            row[self._positions(deny)] = False
        return np.asarray(found[of_request])

    def _positions(self, tags: tuple[str, ...]) -> npt.NDArray[np.int32]:
        return np.concatenate([np.zeros(0, np.int32), *(self.tagged[tag] for tag in tags if tag in self.tagged)])


def positions_by_tag(tags: Sequence[Sequence[str]]) -> dict[str, npt.NDArray[np.int32]]:
    """Catalogue positions of the items of each tag, from the tags of each item."""
    found: dict[str, list[int]] = {}
    for position, names in enumerate(tags):
        for name in set(names) - {""}:
            found.setdefault(name, []).append(position)
    return {name: np.array(positions, np.int32) for name, positions in found.items()}
