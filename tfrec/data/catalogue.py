"""The catalogue: the items that can be shown, in an order that never changes for those already known.

Position in the catalogue is the item's number everywhere else (interactions, vectors, index), so new items go to the end and
a changed item keeps its place. Read from JSON lines, CSV or Parquet; written as JSON lines.
"""
import hashlib
import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tfrec.data.records import Item
from tfrec.data.rows import Quarantine, Row, check, read_rows, reject
from tfrec.errors import DataError

_OWN = frozenset(Item.model_fields)


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


def read_catalogue(path: str | Path, quarantine: Quarantine | None = None) -> Catalogue:
    """Read items from .jsonl, .csv or .parquet.

    Columns named as the fields of `Item` are taken as they are (`item` stands for `id`; tags in CSV are separated by `|`). Of
    the other columns, those that hold only numbers become `numeric`, those of number lists `dense`, the rest text fields.

    Raises:
        DataError: the file cannot be used, holds no usable item, or has a bad row and there is no quarantine.
    """
    path = Path(path)
    rows = list(read_rows(path, quarantine=quarantine))
    kinds = _kinds(row for _, row in rows)
    items: dict[str, Item] = {}
    for line, row in rows:
        item = check(Item, _item_row(row, kinds), file=path, line=line, quarantine=quarantine)
        if item is None:
            continue
        if item.id in items:
            reject(quarantine, path, line, reason=f'"id": {item.id!r} occurs on an earlier line', row=row)
        else:
            items[item.id] = item
    if not items:
        raise DataError(f"{path}: no usable item. Expected one item a row with at least `id` and `text`.")
    return Catalogue(list(items.values()))


def _kinds(rows: Iterable[Row]) -> dict[str, str]:
    """Column -> the field of `Item` that takes it, for columns that `Item` does not name."""
    kinds: dict[str, str] = {}
    for row in rows:
        for column, value in row.items():
            if column in _OWN or column == "item" or kinds.get(column) == "text":
                continue
            kind = _kind(value)
            kinds[column] = kind if kinds.get(column, kind) == kind else "text"
    return kinds


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return "dense" if value and all(isinstance(v, (int, float)) for v in value) else "text"
    try:
        float(value)
    except (TypeError, ValueError):
        return "text"
    return "numeric"


def _item_row(row: Row, kinds: dict[str, str]) -> Row:
    out: Row = {k: v for k, v in row.items() if k in _OWN}
    if "id" not in out and "item" in row:
        out["id"] = row["item"]
    if isinstance(out.get("tags"), str):
        out["tags"] = [tag.strip() for tag in out["tags"].split("|") if tag.strip()]
    texts: dict[str, str] = {}
    for column, value in row.items():
        kind = kinds.get(column)
        if kind == "text":
            texts[column] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        elif kind is not None and isinstance(out.setdefault(kind, {}), dict):
            out[kind] = {**out[kind], column: value}
    if texts:
        own = out.get("text", {})
        out["text"] = {**(own if isinstance(own, dict) else {"text": own}), **texts}
    return out
