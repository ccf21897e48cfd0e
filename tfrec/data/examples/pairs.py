"""Pairs of a query and the item that answers it, on which the text encoder is tuned.

They come from a file of queries, from the feedback log, or from behaviour. After tuning, the vectors of a query and of an item
that was chosen for it are near each other.
"""
import logging
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.items.unknown_ids import LOOKED_AT, explain_unknown
from tfrec.data.readers.quarantine import Quarantine
from tfrec.data.readers.validation import read_records
from tfrec.data.records import Key, Record
from tfrec.errors import DataError

log = logging.getLogger(__name__)


class QueryRow(Record):
    """A row of a file of queries."""

    query: str = Field(min_length=1)
    item: Key
    weight: float = Field(default=1.0, gt=0)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Item `item[i]` of the catalogue answers `queries[query[i]]`, with the weight `weight[i]`."""

    queries: tuple[str, ...]
    query: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]
    weight: npt.NDArray[np.float32]
    unknown_items: int = 0  # pairs left out because their item is not in the catalogue
    unknown_ids: tuple[str, ...] = ()  # some of these items, the most frequent first

    @classmethod
    def of(cls, rows: Iterable[tuple[str, str, float]], catalogue: Catalogue) -> "Pairs":
        """From rows (query, item id, weight). The weights of equal pairs are added."""
        queries: dict[str, int] = {}
        weights: dict[tuple[int, int], float] = {}
        unknown: Counter[str] = Counter()
        for query, name, weight in rows:
            if (item := catalogue.index.get(name)) is None:
                unknown[name] += 1
            elif query.strip():
                key = queries.setdefault(query, len(queries)), item
                weights[key] = weights.get(key, 0.0) + weight
        codes = np.array(list(weights), np.int32).reshape(-1, 2)
        return cls(tuple(queries), codes[:, 0], codes[:, 1], np.array(list(weights.values()), np.float32), unknown.total(),
                   tuple(name for name, _ in unknown.most_common(LOOKED_AT)))

    def __len__(self) -> int:
        return len(self.query)

    def take(self, rows: npt.NDArray[np.bool_]) -> "Pairs":
        """The pairs where a mask holds; queries keep their numbers."""
        return Pairs(self.queries, self.query[rows], self.item[rows], self.weight[rows])

    def held_out(self, share: float) -> npt.NDArray[np.bool_]:
        """`[len(self)]`: the pairs of this share of the queries, chosen by a digest of their text, so the same in every run."""
        digest = np.array([zlib.crc32(query.encode()) for query in self.queries], np.uint64)
        return (digest < share * 2**32)[self.query]

    def relevant(self, *, most: int) -> npt.NDArray[np.int32]:
        """`[queries, r]`: the items of each query, at most `most`, padded with -1."""
        order = np.argsort(self.query, kind="stable")
        first = np.searchsorted(self.query[order], np.arange(len(self.queries)))
        column = np.arange(len(self)) - first[self.query[order]]
        table = np.full((len(self.queries), min(most, int(column.max(initial=0)) + 1)), -1, np.int32)
        kept = column < table.shape[1]
        table[self.query[order][kept], column[kept]] = self.item[order][kept]
        return table


def joined(parts: Sequence[Pairs]) -> Pairs:
    """The pairs of several sources together."""
    queries = {query: None for part in parts for query in part.queries}
    code = {query: n for n, query in enumerate(queries)}
    numbers = [np.array([code[q] for q in part.queries], np.int32)[part.query] for part in parts]
    return Pairs(tuple(queries), np.concatenate(numbers), np.concatenate([part.item for part in parts]),
                 np.concatenate([part.weight for part in parts]), sum(part.unknown_items for part in parts))


def read_queries(path: str | Path, catalogue: Catalogue, *, quarantine: Quarantine | None) -> Pairs:
    """Read pairs from a file with the columns `query`, `item` and, optionally, `weight`.

    Raises:
        DataError: the file or a row cannot be used, or no row names an item of the catalogue.
    """
    rows = read_records(path, QueryRow, quarantine=quarantine)
    found = Pairs.of(((row.query, row.item, row.weight) for row in rows), catalogue)
    why = explain_unknown(found.unknown_ids, catalogue.ids.tolist()) if found.unknown_items else ""
    if not len(found):
        unknown = f": {found.unknown_items} name items that are not in the catalogue: {why}" if why else ""
        raise DataError(f"{path}: no usable pair{unknown}. Expected rows with `query` and `item`, an id of the catalogue.")
    if why:
        log.warning("%s: %d pairs name items that are not in the catalogue; they are left out: %s", path,
                    found.unknown_items, why)
    return found


def pairs_of_log(searches: pa.Table, catalogue: Catalogue) -> Pairs:
    """Pairs of the feedback log: `item` that was chosen after a `query`, weighted by its `reward`."""
    return Pairs.of(zip(*(searches[name].to_pylist() for name in ("query", "item", "reward")), strict=True), catalogue)


def pairs_of_behaviour(inter: Interactions, catalogue: Catalogue, *, within_seconds: int = 1 << 40) -> Pairs:
    """Pairs of consecutive items of one user, with the text of the first as the query. `inter` is coded by `catalogue`."""
    order = np.argsort(inter.user, kind="stable")
    user, item, time = inter.user[order], inter.item[order], inter.time[order]
    near = (user[1:] == user[:-1]) & (time[1:] - time[:-1] <= within_seconds) & (item[1:] != item[:-1])
    texts, ids = catalogue.texts, catalogue.ids
    return Pairs.of(((texts[a], str(ids[b]), 1.0) for a, b in zip(item[:-1][near], item[1:][near], strict=True)), catalogue)
