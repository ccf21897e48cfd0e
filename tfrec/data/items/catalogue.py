"""The catalogue: the items that can be shown, in an order that never changes for those already known.

Position in the catalogue is the item's number everywhere else (interactions, vectors, index), so new items go to the end and
a changed item keeps its place. Read from JSON lines, CSV or Parquet; written as JSON lines.
"""
import hashlib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tfrec.data.items.column_kinds import ColumnKinds, kinds_of
from tfrec.data.readers.columns import ColumnNames
from tfrec.data.readers.rows import Quarantine, Tally, check, placed_rows, reject
from tfrec.data.records import Item
from tfrec.errors import DataError

log = logging.getLogger(__name__)

_NAMES = ColumnNames(("id",), tuple(name for name in Item.model_fields if name != "id"), {"id": "item"})


class Catalogue:
    """Items by position, by id and as texts. Immutable: `with_items` makes a new one."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items: tuple[Item, ...] = tuple(items)
        self.ids: npt.NDArray[np.str_] = np.array([item.id for item in self.items], dtype=np.str_)
        self.index: dict[str, int] = {item.id: position for position, item in enumerate(self.items)}
        if len(self.index) != len(self.items):
            repeated = next(item.id for position, item in enumerate(self.items) if self.index[item.id] != position)
            raise DataError(f"Catalogue: item id {repeated!r} occurs more than once. Ids must be unique.")

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def texts(self) -> list[str]:
        """What the text encoder reads, by position."""
        return [item.full_text for item in self.items]

    @cached_property
    def kinds(self) -> dict[str, str]:
        """Column -> text, numeric or dense: what later files are read by."""
        return kinds_of(self.items)

    @cached_property
    def available(self) -> npt.NDArray[np.bool_]:
        """`[n_items]`: which may be shown."""
        return np.array([item.available for item in self.items], bool)

    @property
    def unavailable(self) -> list[str]:
        """Ids of items that must not be shown."""
        return [str(name) for name in self.ids[~self.available]]

    def digest(self) -> str:
        """SHA-256 of the contents in order: equal digests, equal catalogues."""
        sha = hashlib.sha256()
        for item in self.items:
            sha.update(item.model_dump_json().encode() + b"\n")
        return sha.hexdigest()

    def with_items(self, new: Iterable[Item]) -> "Catalogue":
        """Replace items of the same id in place and append the others: no known item changes its position."""
        merged = {item.id: item for item in self.items}
        merged.update((item.id, item) for item in new)
        return Catalogue(list(merged.values()))

    def write(self, path: str | Path) -> None:
        """Write JSON lines; the file appears whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = path.with_name(f".{path.name}.{os.getpid()}")
        with staging.open("w", encoding="utf-8") as out:
            out.writelines(item.model_dump_json(exclude_defaults=True) + "\n" for item in self.items)
            out.flush()
            os.fsync(out.fileno())
        staging.replace(path)


def read_catalogue(path: str | Path, quarantine: Quarantine | None = None, *,
                   kinds: Mapping[str, str] | None = None) -> Catalogue:
    """Read items from .jsonl, .csv or .parquet, or from a directory of such files.

    Columns named as the fields of `Item` are taken as they are (`item` stands for `id`; tags in CSV are separated by `|`). Of
    the other columns, those of numbers become `numeric`, those of number lists `dense`, the rest text fields. A column that
    counts the rows is left out. What was decided against a value is logged as a warning (`column_kinds.py`).

    Args:
        kinds: of the columns of the catalogue that was trained (`Catalogue.kinds`), which hold whatever this file looks like.

    Raises:
        DataError: the file cannot be used, holds no usable item, or has a bad row and there is no quarantine.
    """
    path, tally, columns = Path(path), Tally(path, quarantine), ColumnKinds(kinds or {})
    rows = list(placed_rows(path, _NAMES, quarantine=quarantine))
    for number, (file, line, row) in enumerate(rows):
        columns.see(number, _place(file, line, path), row)
    columns.decide()
    items: dict[str, Item] = {}
    for file, line, row in rows:
        by_field = columns.item_row(_place(file, line, path), row)
        item = check(Item, by_field, file=file, line=line, quarantine=quarantine, names=_NAMES)
        if item is None:
            continue
        if item.id in items:
            reject(quarantine, file, line, reason=f'"id": {item.id!r} occurs on an earlier line', row=row)
        else:
            items[item.id] = item
            tally.good += 1
    tally.end()
    if not items:
        raise DataError(f"{path}: no usable item. Expected one item a row with at least `id` and `text`.")
    for warning in columns.warnings():
        log.warning("%s: %s", path, warning)
    return Catalogue(list(items.values()))


def _place(file: Path, line: int, path: Path) -> str:
    return f"line {line}" if file == path else f"{file.relative_to(path)} line {line}"
