"""Exposure by group: how the attention that answers give is shared among groups of items, such as the brands of a shop.

A position counts 1 / log2(position + 2), as in DCG: the first counts 1, the tenth 0.29 (the exposure of a position; Singh
and Joachims 2018, arXiv:1802.07281). A group's exposure is its share of what all positions count. Beside it stands the
group's share of the items that may be shown: a ratio of 1 says that positions might as well have been given by chance. An
item of several groups counts for each, so shares may add up to more than 1.
"""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class GroupedItems:
    """The items of a catalogue by group.

    Args:
        ids: of the items, `[n_items]`.
        available: which may be shown, `[n_items]`.
        member: positions of items, one for each group that an item is in, `[m]`.
        group: the group of each, by its number, `[m]`.
        names: of the groups.
    """

    ids: pa.Array
    available: np.ndarray
    member: np.ndarray
    group: np.ndarray
    names: Sequence[str]

    @classmethod
    def of(cls, ids: pa.Array, tags: pa.ListArray, available: np.ndarray, *, prefix: str) -> "GroupedItems":
        """The groups are the tags that begin with `prefix`; `tags` `[n_items]` are those of each item."""
        named, member = pc.list_flatten(tags), pc.list_parent_indices(tags).to_numpy()
        kept = pc.starts_with(named, prefix).to_numpy(zero_copy_only=False).astype(bool)
        coded = named.filter(pa.array(kept)).dictionary_encode()
        pairs = np.unique(np.stack([member[kept], coded.indices.to_numpy()]).astype(np.int64), axis=1)  # a tag counts once
        return cls(ids, available, pairs[0], pairs[1], coded.dictionary.to_pylist())

    def shares(self, mass: np.ndarray, total: float) -> np.ndarray:
        """The share of each group `[groups]` in the mass of items `[n_items]`."""
        return np.bincount(self.group, mass[self.member], len(self.names)) / max(total, 1e-300)


def attention(position: np.ndarray) -> np.ndarray:
    """What each position `[n]`, from 0, counts."""
    return np.asarray(1 / np.log2(position + 2))


def exposure(shown: pa.Table, items: GroupedItems) -> dict[str, Any]:
    """Exposure by group, the most exposed first; ready for JSON.

    Args:
        shown: columns `request_id`, `item` and `position` of what was shown.
        items: of the catalogue. What is shown and not in it has no group.
    """
    code = pc.index_in(shown["item"], value_set=items.ids).fill_null(len(items.ids)).to_numpy()
    position = shown["position"].to_numpy()
    counts = attention(position)
    by_item = np.bincount(code, counts, len(items.ids) + 1)
    first = np.bincount(code[position == 0], minlength=len(items.ids) + 1).astype(np.float64)
    of_items = items.shares(items.available.astype(np.float64), float(items.available.sum()))
    exposed, at_top = items.shares(by_item, float(counts.sum())), items.shares(first, float(first.sum()))
    grouped = np.zeros(len(items.ids) + 1, bool)
    grouped[items.member] = True
    return {
        "requests": pc.count_distinct(shown["request_id"]).as_py(),
        "shown": shown.num_rows,
        "groups": {items.names[number]: {
            "exposure": round(float(exposed[number]), 4), "first_position": round(float(at_top[number]), 4),
            "items": round(float(of_items[number]), 4),
            "ratio": round(float(exposed[number] / of_items[number]), 2) if of_items[number] else None}
            for number in np.argsort(-exposed, kind="stable").tolist()},
        "without_group": round(float(by_item[~grouped].sum() / max(counts.sum(), 1e-300)), 4),
    }
