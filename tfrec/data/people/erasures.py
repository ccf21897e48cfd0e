"""The tombstones of erased users: a Delta table beside the log, so that all machines that share the log know them.

A tombstone names nobody. It holds the mark of a pseudonym (`pseudonym.py`), the second of the erasure, and what tells which
published versions have learnt from the user. It stays for ever: base interactions, which are the operator's own files, and a log
that is put back from a backup may hold rows of the user again.
"""
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from tfrec.config import Config
from tfrec.data.feedback_log.table import LogTable
from tfrec.data.people.pseudonym import Pseudonyms, load_pseudonyms
from tfrec.errors import UsageError

_WRITER = "forget"
_KEY_CHECK = "\0key\0"
_SCHEMA = pa.schema([("mark", pa.string()), ("key", pa.string()), ("time", pa.int64()), ("part", pa.int64()),
                     ("in_base", pa.bool_()), ("writer", pa.string()), ("seq", pa.int64())])


class Erasure(NamedTuple):
    """A tombstone.

    Attributes:
        number: from 1, in the order of the erasures.
        mark: of the pseudonym.
        time: seconds since 1970.
        part: the first part of the settled examples that holds, or would have held, something of the user; None: there was none.
        in_base: whether `data.interactions` had rows of the user.
    """

    number: int
    mark: str
    time: int
    part: int | None
    in_base: bool


class Erasures:
    """The tombstones of a log. The table is made with the first one.

    Args:
        log_uri: directory or URL of the feedback log.
    """

    def __init__(self, log_uri: str) -> None:
        self.table = LogTable(f"{log_uri.rstrip('/')}/erasures", _SCHEMA)
        self._known: tuple[int, list[dict[str, Any]]] | None = None

    def read(self, people: Pseudonyms) -> list[Erasure]:
        """All tombstones, oldest first.

        Raises:
            UsageError: they were made with another key of pseudonyms, so nobody could tell whom they are of.
            DataError: the table cannot be read.
        """
        rows = self._rows()
        if rows and rows[0]["key"] != people.mark(_KEY_CHECK):
            raise UsageError(f"{self.table.uri}: the users who were erased are known by another pseudonym key than this one. "
                             "Copy pseudonym.key from the machine that erased them, or set TFREC_PSEUDONYM_KEY to its content: "
                             "without it, their rows would be read again.")
        return [Erasure(row["seq"], row["mark"], row["time"], row["part"], row["in_base"]) for row in rows]

    def newest(self) -> int:
        """The number of the newest tombstone, which is that of all of them; 0 when there is none."""
        return self.table.last_seq(_WRITER) if self.table.exists() else 0

    def add(self, people: Pseudonyms, name: str, *, time: int, part: int | None, in_base: bool) -> Erasure:
        """Put up the tombstone of a pseudonym, once, whoever else puts up one meanwhile."""
        while True:
            known = self.read(people)
            mark = people.mark(name)
            if (found := next((one for one in known if one.mark == mark), None)) is not None:
                return found
            row = {"mark": mark, "key": people.mark(_KEY_CHECK), "time": time, "part": part, "in_base": in_base,
                   "writer": _WRITER, "seq": len(known) + 1}
            self.table.append(pa.Table.from_pylist([row], _SCHEMA), writer=_WRITER)  # nothing happens where the number is taken

    def _rows(self) -> Sequence[dict[str, Any]]:
        if not self.table.exists():
            return []
        version = self.table.open().version()
        if self._known is None or self._known[0] != version:
            dataset = self.table.dataset(version)
            found = self.table.checked(dataset.to_table, dataset)
            self._known = version, found.sort_by("seq").to_pylist()
        return self._known[1]


def load_people(config: Config, *, make_key: bool = True) -> Pseudonyms:
    """The pseudonyms of a run, which know who was erased.

    Args:
        config: of the run.
        make_key: whether to make a key where there is none and nobody was erased; else the names mean nothing then.

    Raises:
        UsageError: users were erased under another key.
        ServingError: the key cannot be read.
        DataError: the tombstones cannot be read.
    """
    erasures = Erasures(config.log_uri)
    if not make_key and not erasures.newest():
        return Pseudonyms(bytes(32))
    people = load_pseudonyms(config.run)
    refresh(people, erasures)
    return people


def refresh(people: Pseudonyms, erasures: Erasures) -> bool:
    """Let `people` know all tombstones; returns whether there are new ones."""
    before, known = people.erasures, {one.mark: one.time for one in erasures.read(people)}
    if len(known) != before:
        people.learn(known)
    return len(known) != before
