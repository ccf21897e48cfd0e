"""The catalogue: the items that can be shown, in an order that never changes for known items.

The position in the catalogue is the item's number everywhere else (interactions, vectors, index), so new items are appended and a
changed item keeps its position. It is read from JSON lines, CSV or Parquet, and written as JSON lines.
"""
import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tfrec.data import durable_files
from tfrec.data.items.column_kinds import ColumnKinds, kinds_of
from tfrec.data.readers.columns import ColumnNames
from tfrec.data.readers.quarantine import GoodRows, Quarantine, reject
from tfrec.data.readers.rows import located_rows
from tfrec.data.readers.validation import check_row
from tfrec.data.records import Item
from tfrec.errors import DataError

log = logging.getLogger(__name__)

_NAMES = ColumnNames(("id",), tuple(name for name in Item.model_fields if name != "id"), {"id": "item"})


class Catalogue:
    """Items by position and by id. A catalogue is immutable; `with_items` makes a new one."""

    def __init__(self, items: Sequence[Item]) -> None:
        """Number the items by their order.

        Raises:
            DataError: an id occurs more than once.
        """
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
        """The text that the encoder reads, by position."""
        return [item.full_text for item in self.items]

    @cached_property
    def kinds(self) -> dict[str, str]:
        """The kind of each column (text, numeric or dense), by which later files are read."""
        return kinds_of(self.items)

    @cached_property
    def available(self) -> npt.NDArray[np.bool_]:
        """`[n_items]`: which may be shown."""
        return np.array([item.available for item in self.items], bool)

    @property
    def numeric_columns(self) -> list[str]:
        """The names of the numeric columns, sorted."""
        return sorted({name for item in self.items for name in item.numeric})

    @property
    def unavailable(self) -> list[str]:
        """Ids of items that must not be shown."""
        return [str(name) for name in self.ids[~self.available]]

    def digest(self) -> str:
        """SHA-256 of the items in their order: equal digests mean equal catalogues."""
        sha = hashlib.sha256()
        for item in self.items:
            sha.update(item.model_dump_json().encode() + b"\n")
        return sha.hexdigest()

    def with_items(self, new: Iterable[Item]) -> "Catalogue":
        """A catalogue in which items of the same id are replaced and others appended. No known item changes its position."""
        merged = {item.id: item for item in self.items}
        merged.update((item.id, item) for item in new)
        return Catalogue(list(merged.values()))

    def write(self, path: str | Path) -> None:
        """Write JSON lines. The file appears whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with durable_files.replacing(path) as out:
            out.writelines(f"{item.model_dump_json(exclude_defaults=True)}\n".encode() for item in self.items)


def read_catalogue(path: str | Path, quarantine: Quarantine | None = None, *,
                   kinds: Mapping[str, str] | None = None) -> Catalogue:
    """Read items from .jsonl, .csv or .parquet, or from a directory of such files.

    Columns named as the fields of `Item` are used as they are (`item` may be written for `id`; tags in CSV are separated by `|`).
    Of the other columns, numbers become `numeric`, lists of numbers `dense`, and the rest text fields (`column_kinds.py`). A
    column that counts the rows is left out. A warning is logged where a value does not fit the kind of its column.

    Args:
        path: a file, or a directory of files.
        quarantine: where bad rows go.
        kinds: the kinds of the trained catalogue's columns (`Catalogue.kinds`), which hold whatever this file looks like.

    Raises:
        DataError: the file cannot be used, holds no usable item, or has a bad row and there is no quarantine.
    """
    path, good, columns = Path(path), GoodRows(path, quarantine), ColumnKinds(kinds or {})
    rows = list(located_rows(path, _NAMES, quarantine=quarantine))
    for number, (file, line, row) in enumerate(rows):
        columns.see(number, _place(file, line, path), row)
    columns.decide()
    items: dict[str, Item] = {}
    for file, line, row in rows:
        by_field = columns.item_row(_place(file, line, path), row)
        item = check_row(Item, by_field, file=file, line=line, quarantine=quarantine, names=_NAMES)
        if item is None:
            continue
        if item.id in items:
            reject(quarantine, file, line, reason=f'"id": {item.id!r} occurs on an earlier line', row=row)
        else:
            items[item.id] = item
            good.count += 1
    good.check()
    if not items:
        raise DataError(f"{path}: no usable item. Expected one item a row with at least `id` and `text`.")
    for warning in columns.warnings():
        log.warning("%s: %s", path, warning)
    return Catalogue(list(items.values()))


def _place(file: Path, line: int, path: Path) -> str:
    return f"line {line}" if file == path else f"{file.relative_to(path)} line {line}"
