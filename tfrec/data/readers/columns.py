"""Checks the names of a file's columns, and guesses what a wrong name probably means.

A header that does not fit is reported once for the file, with the likely cause: another separator, capitals or spaces, a name
that other data sets use, or no header at all. Reported as errors of rows, it would make people look at rows that are right.
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
# names that other data sets use, in lower case and without separators
SYNONYMS = {
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
SYNONYMS["id"] = SYNONYMS["item"]


@dataclass(frozen=True)
class ColumnNames:
    """The columns that a reader uses; `other` is an alternative name of a required column."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    other: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, record: type[BaseModel]) -> "ColumnNames":
        """The fields of a record type."""
        fields = record.model_fields.items()
        return cls(tuple(name for name, field in fields if field.is_required()),
                   tuple(name for name, field in fields if not field.is_required()))

    def missing(self, columns: Iterable[str]) -> list[str]:
        """The required columns that are not among `columns`."""
        there = set(columns)
        return [name for name in self.required if name not in there and self.other.get(name) not in there]


def check_header(file: Path, header: Sequence[str], names: ColumnNames) -> list[str]:
    """Check a header, and return warnings about unread columns that seem to be meant.

    Raises:
        DataError: a required column is missing, or a name occurs twice.
    """
    twice = [name for name, n in Counter(header).items() if n > 1 and name]
    if twice:
        raise DataError(f"{file}: the column {_quoted(twice)} is there more than once. Give each column a name of its own.")
    missing = names.missing(header)
    if missing:
        raise DataError(f"{file}: expected the columns {_list(names)}; the file has {_quoted(header)}. Missing: "
                        f"{', '.join(missing)}. {likely_cause(header, names)}")
    meant = probable_meanings(header, [name for name in names.optional if name not in header], names)
    return [f'{file}: the column {_quoted([column])} is not read. If it is what tfrec calls "{name}", rename it to {name}.'
            for column, name in meant.items()]


def likely_cause(header: Sequence[str], names: ColumnNames) -> str:
    """The likely reason why required columns are missing, and what to do."""
    missing = names.missing(header)
    if len(header) == 1:
        for separator, called in SEPARATORS.items():
            parts = [part.strip() for part in header[0].split(separator)]
            found = len(missing) - len(names.missing(parts)) + len(probable_meanings(parts, names.missing(parts), names))
            enough = len(missing) if separator in " :" else 1  # names and times contain these two as well
            if len(parts) > 1 and (found >= enough or any(map(_is_datum, parts))):
                rest = f" {likely_cause(parts, names)}" if names.missing(parts) else ""
                return f"The columns are separated by {called}: save the file with commas between them.{rest}"
    meant = probable_meanings(header, missing, names)
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


def probable_meanings(columns: Iterable[str], wanted: Sequence[str], names: ColumnNames) -> dict[str, str]:
    """For each column that is not read, the name of `wanted` that it probably means, if any."""
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
    """For a row that lacks fields: a question naming the fields that were probably meant, or an empty string."""
    meant = probable_meanings(columns, missing, names)
    return f"; is {' and '.join(f'{_quoted([column])} its {name}' for column, name in meant.items())}?" if meant else ""


def _is_same(column: str, name: str) -> bool:
    return column == name


def _means(column: str, name: str) -> bool:
    return column in SYNONYMS.get(name, ())


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
    """Names in quotes, so that spaces and tabs are visible; a long list is cut."""
    return ", ".join(_words(columns))


def _words(columns: Sequence[str]) -> Iterator[str]:
    for column in columns[:_SHOWN]:
        yield json.dumps(column[:80], ensure_ascii=not column.isprintable())
    if len(columns) > _SHOWN:
        yield f"and {len(columns) - _SHOWN} more"
