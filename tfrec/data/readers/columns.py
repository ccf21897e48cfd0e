"""Names of columns: what a file must have, what it has, and which of them was probably meant.

A header that does not fit is reported once, for the file, with the likely cause: another separator, capitals or spaces, a name
that other data sets use, no header at all. As errors of its rows, it would send people to look at rows that are right.
"""
import difflib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel

from tfrec.errors import DataError

SEPARATORS = {";": '";"', "\t": "a tab", "|": '"|"', "::": '"::"', ":": '":"', " ": "a space"}
_SHOWN = 12  # columns that a message lists
_THINGS = ("movie", "film", "product", "article", "asin", "sku", "book", "isbn", "track", "song", "video", "news", "content",
           "document", "doc", "business", "game", "recipe", "offer", "listing", "hotel", "ad", "post", "page", "artist")
# what others call the same, in small letters without anything between them
SAME = {
    "user": {"u", "uid", "userid", "visitor", "customer", "client", "member", "person", "profile", "account", "reviewer", "buyer",
             "session", "visitorid", "customerid", "clientid", "memberid", "personid", "profileid", "accountid", "reviewerid",
             "buyerid", "sessionid", "userhash", "username"},
    "item": {"i", "iid", "id", "itemid", "parentasin", *_THINGS, *(f"{thing}id" for thing in _THINGS)},
    "time": {"t", "ts", "timestamp", "datetime", "date", "eventtime", "createdat", "unixtime", "unixreviewtime", "unixtimestamp",
             "eventtimestamp", "epoch", "seconds", "timestampms", "eventdate", "clicktime"},
    "action": {"event", "eventtype", "eventname", "type", "behavior", "behaviour", "behaviortype", "interaction",
               "interactiontype", "actiontype", "verb", "activity", "feedback"},
    "value": {"rating", "score", "stars", "amount", "price", "quantity", "overall", "watchtime", "duration"},
    "query": {"q", "search", "searchterm", "searchquery", "searchphrase", "querytext", "keyword", "keywords", "term", "text"},
    "weight": {"count", "clicks", "frequency", "freq", "n"},
}
SAME["id"] = SAME["item"]


@dataclass(frozen=True)
class ColumnNames:
    """The columns that a reader takes; `other` are names that do as well for a required one."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    other: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, record: type[BaseModel]) -> "ColumnNames":
        """The fields of a record."""
        fields = record.model_fields.items()
        return cls(tuple(name for name, field in fields if field.is_required()),
                   tuple(name for name, field in fields if not field.is_required()))

    def missing(self, columns: Iterable[str]) -> list[str]:
        """The required ones that are not there."""
        there = set(columns)
        return [name for name in self.required if name not in there and self.other.get(name) not in there]


def check_header(file: Path, header: Sequence[str], names: ColumnNames) -> list[str]:
    """Warnings about columns that will not be read though they seem to be meant.

    Raises:
        DataError: a required column is missing, or one that is read is there twice.
    """
    twice = [name for name, n in Counter(header).items() if n > 1 and name]
    if twice:
        raise DataError(f"{file}: the column {_quoted(twice)} is there more than once. Give each column a name of its own.")
    missing = names.missing(header)
    if missing:
        raise DataError(f"{file}: expected the columns {_list(names)}; the file has {_quoted(header)}. Missing: "
                        f"{', '.join(missing)}. {cause(header, names)}")
    meant = likely(header, [name for name in names.optional if name not in header], names)
    return [f'{file}: the column {_quoted([column])} is not read. If it is what tfrec calls "{name}", rename it to {name}.'
            for column, name in meant.items()]


def cause(header: Sequence[str], names: ColumnNames) -> str:
    """Why columns are missing, as far as the header says it, and what to do."""
    missing = names.missing(header)
    if len(header) == 1:
        for separator, called in SEPARATORS.items():
            parts = [part.strip() for part in header[0].split(separator)]
            found = len(missing) - len(names.missing(parts)) + len(likely(parts, names.missing(parts), names))
            enough = len(missing) if separator in " :" else 1  # which stand in names and in times as well
            if len(parts) > 1 and (found >= enough or any(map(_is_datum, parts))):
                rest = f" {cause(parts, names)}" if names.missing(parts) else ""
                return f"The columns are separated by {called}: save the file with commas between them.{rest}"
    meant = likely(header, missing, names)
    if any(column != column.strip() for column in meant):
        return "There are spaces around the names: write none beside the commas, in the rows neither."
    if meant:
        capitals = " Capitals count." if any(column.lower() == name for column, name in meant.items()) else ""
        return f"{_rename(meant)[:-1]} in the header.{capitals}"
    if any(_is_datum(cell) for cell in header):
        return (f"The first line seems to be a row, and not a header. Put a line with the names of the columns above it, such as "
                f"{','.join(names.required)}.")
    if "" in header:
        return "A column has no name: is it that? Name it in the header."
    return "Rename the columns that hold this, or add them."


def likely(columns: Iterable[str], wanted: Sequence[str], names: ColumnNames) -> dict[str, str]:
    """Column -> the name of `wanted` that it seems to mean; columns that are read under their own name mean themselves."""
    own = {*names.required, *names.optional, *names.other.values()}
    free = [column for column in columns if column not in own]
    found: dict[str, str] = {}
    for fits in (_is_same, _means, _resembles):
        for name in wanted:
            if name not in found.values():
                for column in free:
                    if column not in found and fits(_plain(column), name):
                        found[column] = name
                        break
    return found


def hint(columns: Iterable[str], missing: Sequence[str], names: ColumnNames) -> str:
    """For a row that lacks fields: which of its own were probably meant, or nothing."""
    meant = likely(columns, missing, names)
    return f"; is {' and '.join(f'{_quoted([column])} its {name}' for column, name in meant.items())}?" if meant else ""


def _is_same(column: str, name: str) -> bool:
    return column == name


def _means(column: str, name: str) -> bool:
    return column in SAME.get(name, ())


def _resembles(column: str, name: str) -> bool:
    return len(column) > 3 and bool(difflib.get_close_matches(column, [name, f"{name}s", f"{name}id"], n=1, cutoff=0.75))


def _plain(column: str) -> str:
    return re.sub(r"[\W_]", "", column).casefold()


def _is_datum(cell: str) -> bool:
    return re.fullmatch(r"\s*[-+]?\d+(?:[.,:T /-]\d+)*Z?\s*", cell) is not None


def _rename(meant: Mapping[str, str]) -> str:
    return f"Rename {', '.join(f'{_quoted([column])} to {name}' for column, name in meant.items())}."


def _list(names: ColumnNames) -> str:
    required = [f"{name} (or {names.other[name]})" if name in names.other else name for name in names.required]
    return ", ".join(required) + (f" (optional: {', '.join(names.optional)})" if names.optional else "")


def _quoted(columns: Sequence[str]) -> str:
    """With their quotes, so that spaces and tabs are seen; a long header is cut."""
    return ", ".join(_words(columns))


def _words(columns: Sequence[str]) -> Iterator[str]:
    for column in columns[:_SHOWN]:
        yield json.dumps(column[:80], ensure_ascii=not column.isprintable())
    if len(columns) > _SHOWN:
        yield f"and {len(columns) - _SHOWN} more"
