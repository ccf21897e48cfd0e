"""What the catalogue of a version says of the items that rules touch.

A gateway has no catalogue, and a large one would cost it gigabytes. So the file of a version is read for what rules need: the
pinned items with their tags and numbers, and the ids of what rules exclude by tag or number, which must not be shown by
popularity or words either, while no model server answers. Arrow reads it, and no answer waits for that.
"""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from tfrec.errors import DataError
from tfrec.gateway.rules.rule import BusinessRule, RuleBook
from tfrec.release.manifest import CHECKPOINT
from tfrec.release.popularity_files import read_columns

CATALOGUE = Path(CHECKPOINT, "catalogue.jsonl")
_BLOCK = 64 << 20  # bytes: no item is longer


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
    table = read_items(version_dir, columns)
    touched = {rule.name: frozenset(table["id"].filter(pa.array(_touched(table, rule))).to_pylist())
               for rule in book.rules if rule.do != "pin"}
    wanted = sorted({item for rule in book.rules if rule.do == "pin" for item in rule.items})
    rows = table.filter(pc.is_in(table["id"], value_set=pa.array(wanted, pa.string()))).to_pylist()
    pinned = {row["id"]: PinnedItem(frozenset(row["tags"] or ()), _numbers(row), row["available"] is not False) for row in rows}
    return KnownItems(pinned, touched, frozenset(columns))


def read_items(version_dir: Path, columns: Sequence[str] = ()) -> pa.Table:
    """`id`, `tags` and `available` of the items of a version, null where the default holds, and some of their numbers.

    Raises:
        DataError: the version has no catalogue that can be read.
    """
    path = version_dir / CATALOGUE
    try:
        return _read(path, columns)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise DataError(f"{path}: the catalogue cannot be read: {error}. Publish the version again.") from error


def _read(path: Path, columns: Sequence[str]) -> pa.Table:
    numeric = [("numeric", pa.struct([(name, pa.float64()) for name in columns]))] if columns else []
    schema = pa.schema([("id", pa.string()), ("tags", pa.list_(pa.string())), ("available", pa.bool_()), *numeric])
    return pa.json.read_json(path, read_options=pa.json.ReadOptions(block_size=_BLOCK), parse_options=pa.json.ParseOptions(
        explicit_schema=schema, unexpected_field_behavior="ignore")).combine_chunks()


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
