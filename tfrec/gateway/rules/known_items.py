"""What the catalogue of a version says of the items that rules touch.

A gateway has no catalogue, and a large one would cost it gigabytes. So the file of a version is read for what rules need: the
pinned items with their tags and numbers, and the ids of what rules exclude by tag or number, which must not be shown by
popularity or words either, while no model server answers. No answer waits for that.
"""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.data.items.item_table import read_items
from tfrec.gateway.rules.rule import BusinessRule, RuleBook
from tfrec.release.manifest import CATALOGUE
from tfrec.release.popularity_files import read_columns


@dataclass(frozen=True)
class PinnedItem:
    """What a catalogue says of an item that a rule pins."""

    tags: frozenset[str]
    numbers: Mapping[str, float]
    available: bool


@dataclass(frozen=True)
class KnownItems:
    """Of one version and one book of rules."""

    pinned: Mapping[str, PinnedItem] = field(default_factory=dict)  # by id; one that is not here is not in the catalogue
    touched: Mapping[str, frozenset[str]] = field(default_factory=dict)  # ids by the name of a rule that pins nothing
    columns: frozenset[str] = frozenset()


def read_known_items(version_dir: Path, book: RuleBook) -> KnownItems:
    """Read the catalogue of a version for a book of rules.

    Raises:
        DataError: the version has no catalogue that can be read.
    """
    columns = read_columns(version_dir) or ()
    table = read_items(version_dir / CATALOGUE, columns)
    touched = {rule.name: frozenset(table["id"].filter(pa.array(_touched(table, rule))).to_pylist())
               for rule in book.rules if rule.do != "pin"}
    wanted = sorted({item for rule in book.rules if rule.do == "pin" for item in rule.items})
    rows = table.filter(pc.is_in(table["id"], value_set=pa.array(wanted, pa.string()))).to_pylist()
    pinned = {row["id"]: PinnedItem(frozenset(row["tags"] or ()), _numbers(row), row["available"] is not False) for row in rows}
    return KnownItems(pinned, touched, frozenset(columns))


def _touched(table: pa.Table, rule: BusinessRule) -> npt.NDArray[np.bool_]:
    """Which items a rule touches, `[items]`. An excluded range hides what has no number in its column too, as a filter does."""
    found = _is_in(table["id"].combine_chunks(), rule.items)
    if rule.tags:
        tags = table["tags"].combine_chunks()
        found[pc.list_parent_indices(tags).to_numpy()[_is_in(pc.list_flatten(tags), rule.tags)]] = True
    known = {field.name for field in table.schema.field("numeric").type} if "numeric" in table.column_names else set()
    if rule.bounds.keys() <= known and rule.bounds:
        within = np.ones(table.num_rows, bool)
        for name, bound in rule.bounds.items():
            value = pc.struct_field(table["numeric"].combine_chunks(), name).to_numpy(zero_copy_only=False)
            below, above = (False if end is None else wrong for end, wrong in (
                (bound.min, value < (bound.min or 0)), (bound.max, value > (bound.max or 0))))
            within &= ~(np.isnan(value) & (rule.do != "exclude")) & ~np.asarray(below) & ~np.asarray(above)
        found |= within
    return found


def _is_in(names: pa.Array, wanted: Sequence[str]) -> npt.NDArray[np.bool_]:
    return np.array(pc.is_in(names, value_set=pa.array(wanted, pa.string())).to_numpy(zero_copy_only=False), bool)


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in (row.get("numeric") or {}).items() if value is not None}
