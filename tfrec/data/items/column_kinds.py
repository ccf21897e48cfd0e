"""Decides what each column of a catalogue holds: text for the encoder, numbers, vectors, or the number of the row.

The kinds of the trained catalogue hold for every later file: a film called "1917" that comes alone still has a title, and one
"$8" among prices does not turn the column into text. Where nothing is known yet the kind is guessed, so that one value cannot
decide for all others: a column is numeric when at least `NUMERIC_SHARE` of its filled cells are numbers, and never when its name
says title, name, description or the like. A value that does not fit a numeric column is missing there, and is counted and
reported. A column named `text.x`, `numeric.x` or `dense.x` states its kind.
"""
import ast
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tfrec.data.readers.rows import Row, brief
from tfrec.data.records import Item

KINDS = ("text", "numeric", "dense")
NUMERIC_SHARE = 0.8
_SHOWN = 40  # characters of a value that a warning repeats
OWN = frozenset({*Item.model_fields, "item"})
ABSENT = ("nan", "none", "null", "n/a", "na", "<na>", "nat", "nil", "n.a.", "-", "--", "–", "—", "?", ".",
          "tbd", "tba", "unknown")
_TEXT = re.compile(r"(?:title|name|text|description|headline|heading|subtitle|summary|abstract|body|caption|synopsis|overview|"
                   r"plot|authors?|artists?|actors?|directors?|brand|publisher|series)$")
_AMOUNT = re.compile(r"[^\w\s]{0,3}\s*[-+]?\d[\d.,'\s]*(?:%|[^\w\s]|[A-Za-z]{1,3})?\.?")  # $8, 1,299.00, 8 €, 12 cm
_ROW_NUMBER = re.compile(r"|Unnamed: \d+|__index_level_\d+__|_c0|\.\.\.1")  # the whole name: of none, by pandas, Spark, R
_MAY_NUMBER = re.compile(r"index|level_0|row|row_?(?:number|num|nr|id)|#|X1?", re.IGNORECASE)  # where its values count up
_NO_TEXT = frozenset({"nan", "NaN", "None", "NULL", "<NA>", "NaT"})  # a missing value that became text


@dataclass
class _SeenValues:
    """Counts of the values that a column held so far."""

    numbers: int = 0
    vectors: int = 0
    amounts: int = 0
    words: int = 0
    rows: int = 0
    start: float | None = None
    counts_up: bool = True
    oddity: str = ""  # the line and value of the first cell that is not a number

    @property
    def filled(self) -> int:
        return self.numbers + self.vectors + self.amounts + self.words


@dataclass
class _LeftOut:
    count: int = 0
    first: str = ""


@dataclass
class ColumnKinds:
    """Call `see` for every row, `decide` once, and `item_row` for each row; `warnings` then reports values that do not fit."""

    known: Mapping[str, str] = field(default_factory=dict)
    _seen: dict[str, _SeenValues] = field(default_factory=dict)
    _kinds: dict[str, str] = field(default_factory=dict)
    _left_out: dict[str, _LeftOut] = field(default_factory=dict)
    _blank_words: Counter[str] = field(default_factory=Counter)

    def see(self, number: int, where: str, row: Row) -> None:
        """Count the values of a row: the `number`th from 0, found at `where`."""
        for column, value in row.items():
            if column in OWN:
                continue
            seen = self._seen.setdefault(column, _SeenValues())
            seen.rows += 1
            if _is_absent(value):
                pass
            elif _vector(value) is not None:
                seen.vectors += 1
            elif (amount := _number(value)) is not None:
                seen.numbers += 1
                seen.start = amount - number if seen.start is None else seen.start
                seen.counts_up &= amount - number == seen.start
                continue
            elif isinstance(value, str) and _AMOUNT.fullmatch(value.strip()):
                seen.amounts += 1
            else:
                seen.words += 1
            seen.counts_up = False
            seen.oddity = seen.oddity or f"{where} ({brief(value, most=_SHOWN)})"

    def decide(self) -> None:
        """Decide the kind of each column by all rows that were seen."""
        for column, seen in self._seen.items():
            self._kinds[column] = self._kind(column, seen)

    def _kind(self, column: str, seen: _SeenValues) -> str:
        if _ROW_NUMBER.fullmatch(column) or (_MAY_NUMBER.fullmatch(column) and seen.counts_up and column not in self.known):
            return "row number"
        prefix, _, rest = column.partition(".")
        if rest and prefix in KINDS:
            return prefix
        if column in self.known:
            return self.known[column]
        if not seen.filled or _is_text(column):
            return "text"
        if seen.vectors >= NUMERIC_SHARE * seen.filled:
            return "dense"
        plain = seen.numbers >= NUMERIC_SHARE * (seen.numbers + seen.vectors + seen.words) and seen.numbers >= seen.amounts
        return "numeric" if plain else "text"

    def item_row(self, where: str, row: Row) -> Row:
        """The row as fields of `Item`."""
        out: Row = {k: v for k, v in row.items() if k in Item.model_fields and not _is_nan(v)}
        if "id" not in out and "item" in row:
            out["id"] = row["item"]
        if isinstance(out.get("tags"), str):
            listed = _listed(out["tags"])
            tags = listed if listed is not None else out["tags"].split("|")
            out["tags"] = [str(tag).strip() for tag in tags if str(tag).strip()]
        texts: dict[str, str] = {}
        for column, value in row.items():
            kind = self._kinds.get(column)
            if kind is None or kind == "row number" or _is_nan(value):
                continue
            name = column.removeprefix(f"{kind}.")
            if kind == "text":
                texts[name] = _as_text(value)
                self._blank_words[column] += texts[name] in _NO_TEXT
                continue
            fitting = _number(value) if kind == "numeric" else _vector(value)
            if fitting is None:
                left = self._left_out.setdefault(column, _LeftOut(first=f"{where} ({brief(value, most=_SHOWN)})"))
                left.count += 1
            elif isinstance(out.setdefault(kind, {}), dict):
                out[kind] = {**out[kind], name: fitting}
        if texts:
            own = out.get("text", {})
            out["text"] = {**(own if isinstance(own, dict) else {"text": own}), **texts}
        return out

    def warnings(self) -> Iterator[str]:
        """A sentence for each column that needs a warning."""
        for column, kind in self._kinds.items():
            seen, name = self._seen[column], f'the column "{column}"' if column else "the column without a name"
            if kind == "row number":
                yield f"{name} seems to be the number of the row, and is left out"
            elif (left := self._left_out.get(column)) is not None:
                what = "plain numbers" if kind == "numeric" else "lists of numbers"
                trained = " in the catalogue that was trained" if column in self.known else ""
                yield (f"{name} holds {what}{trained}, but {left.count:,} of its {seen.rows:,} values do not fit and count as "
                       f"missing, the first in {left.first}. Write {what}, or leave the cell empty")
            elif self._is_close(column, kind):
                yield (f"{name} is read as text, though {seen.numbers:,} of its {seen.rows:,} values are numbers, because of "
                       f"{seen.oddity}. If it is one of numbers, name it numeric.{column}")
            if (blank := self._blank_words[column]) > 0:
                yield f"{blank:,} texts of {name} seem to stand for a missing value (nan, None, NULL), and are read as words"

    def _is_close(self, column: str, kind: str) -> bool:
        """Whether most values of a text column are numbers, and only the values decided that it is text."""
        seen = self._seen[column]
        decided = column in self.known or column.startswith("text.") or _is_text(column)
        return kind == "text" and not decided and 2 * seen.numbers > seen.filled and bool(seen.oddity)


def kinds_of(items: Iterable[Item]) -> dict[str, str]:
    """The kind of each column of a catalogue that was read; where items differ, the kind that most of them have."""
    found: dict[str, Counter[str]] = {}
    for item in items:
        texts = item.text if isinstance(item.text, dict) else {}
        for kind, columns in (("text", texts), ("numeric", item.numeric), ("dense", item.dense)):
            for column in columns:
                found.setdefault(column, Counter())[kind] += 1
    return {column: counts.most_common(1)[0][0] for column, counts in found.items()}


def _is_text(column: str) -> bool:
    """Whether the name says that the column is text."""
    return _TEXT.search(re.sub(r"[\W_\d]", "", column).casefold()) is not None


def _number(value: Any) -> float | None:
    """A finite number, or None. Python also reads 1_000, which is not meant as a number here."""
    if isinstance(value, (list, dict)) or (isinstance(value, str) and "_" in value):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _vector(value: Any) -> list[float] | None:
    """A list of numbers, in CSV as [0.1, 0.2], or None."""
    listed = _listed(value) if isinstance(value, str) else value if isinstance(value, list) else None
    if not listed or any(isinstance(x, str) or _number(x) is None for x in listed):
        return None
    return [float(x) for x in listed]


def _listed(text: str) -> list[Any] | None:
    """A list as programs write it into a cell, in JSON or in Python."""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list):
            return found
    return None


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_as_text, value))
    if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53:  # a title 1917 in a column with gaps
        return str(int(value))
    return str(value)


def _is_absent(value: Any) -> bool:
    return _is_nan(value) or (isinstance(value, str) and value.strip().casefold() in ("", *ABSENT))


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
