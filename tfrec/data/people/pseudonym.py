"""Pseudonyms: users are logged under a keyed hash of their id, so that a log on its own names nobody.

The key comes from TFREC_PSEUDONYM_KEY, or from a file of the run that is made at the first start. With the key and the log one
can test a guess. Without the key nobody can tell which rows belong to a user. A plain hash would not do: user ids are so few that
all of them can be tried.

A user who was erased and acts again is a new person, under the next name of a chain. So every row under an earlier name is one
that must go, whenever it turns up. Which names were erased is known by their marks: a keyed hash of the name, from which the name
cannot be had back.
"""
import contextlib
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.data import durable_files
from tfrec.errors import ServingError, UsageError

_MIN_BYTES = 16  # 128 bits: too many keys to try
_DIGITS = 32  # of 64; the chance that two of a billion users get the same pseudonym is 1e-21
_MARK, _NEXT, _QUERY = "\0erased\0", "\0next\0", "\0query\0"  # no id of a user begins with these


class Pseudonyms:
    """Gives each user 32 hexadecimal digits, the same ones for the same key. Safe to share between threads.

    Raises:
        UsageError: the key is too short.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < _MIN_BYTES:
            advice = "Make one: openssl rand -hex 32"
            raise UsageError(f"The pseudonym key must have at least {_MIN_BYTES} bytes, got {len(key)}. {advice}")
        self._key = key
        self._erased: Mapping[str, int] = {}

    def learn(self, erased: Mapping[str, int]) -> None:
        """Know the marks of all names that were erased, with the second at which each was."""
        self._erased = dict(erased)

    @property
    def erasures(self) -> int:
        """How many names are known as erased."""
        return len(self._erased)

    @property
    def digest(self) -> str:
        """Of the key and of who was erased: what is kept of a file of people holds while this is equal."""
        if not self._erased:
            return self._hash("")
        return hashlib.sha256(repr((self._hash(""), sorted(self._erased))).encode()).hexdigest()

    def of(self, user: str) -> str:
        """The pseudonym of `user`."""
        return self.current(self._hash(user))

    def current(self, name: str) -> str:
        """`name`, a pseudonym, or the one that took its place when it was erased."""
        erased = self._erased
        while erased and self.mark(name) in erased:
            name = self._hash(_NEXT + name)
        return name

    def names(self, user: str) -> list[str]:
        """All pseudonyms that `user` ever had. The last is the present one; the others were erased."""
        found = [self._hash(user)]
        while self.is_erased(found[-1]):
            found.append(self._hash(_NEXT + found[-1]))
        return found

    def mark(self, name: str) -> str:
        """By which the erased pseudonym `name` is known."""
        return self._hash(_MARK + name)

    def mark_of_query(self, text: str) -> str:
        """A hash of a query, by which equal ones are known as equal."""
        return self._hash(_QUERY + text)

    def is_erased(self, name: str) -> bool:
        """Whether a pseudonym is one that was erased."""
        return bool(self._erased) and self.mark(name) in self._erased

    def erased_among(self, names: Iterable[str]) -> set[str]:
        """Those of some pseudonyms that were erased. It takes some 2 us each."""
        return {name for name in names if self.is_erased(name)}

    def erased_at(self, name: str) -> int | None:
        """The second of the newest erasure of whoever has, or first had, the pseudonym `name`; None if there was none."""
        newest, erased = None, self._erased
        while erased and (mark := self.mark(name)) in erased:
            newest = max(erased[mark], newest or 0)
            name = self._hash(_NEXT + name)
        return newest

    def without_erased(self, rows: pa.Table) -> pa.Table:
        """Rows with the columns `user`, an id, and `time`, without those from up to the second in which a user was erased."""
        if not self._erased:
            return rows
        users = rows["user"].combine_chunks()
        coded = users if pa.types.is_dictionary(users.type) else users.dictionary_encode()
        at = [self.erased_at(self._hash(user)) for user in coded.dictionary.to_pylist()]
        until = np.array([-1 if second is None else second for second in at])
        if not len(until) or until.max() < 0:
            return rows
        return rows.filter(pc.greater(rows["time"], pa.array(until).take(coded.indices)))

    def _hash(self, text: str) -> str:
        return hmac.digest(self._key, text.encode(), hashlib.sha256).hex()[:_DIGITS]


def load_pseudonyms(run: str | Path) -> Pseudonyms:
    """The pseudonyms of a run: by TFREC_PSEUDONYM_KEY if it is set, else by `<run>/pseudonym.key`, which is made if missing.

    Who was erased is not known yet: see `erasures.load_people`.

    Raises:
        ServingError: the file cannot be read.
    """
    named = os.environ.get("TFREC_PSEUDONYM_KEY")
    if named is not None:
        return Pseudonyms(named.encode())
    path = Path(run) / "pseudonym.key"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        with contextlib.suppress(FileExistsError):  # of two processes that start at once, the first one's key stays
            durable_files.create(path, f"{secrets.token_hex(32)}\n".encode())
    try:
        return Pseudonyms(path.read_text(encoding="ascii").strip().encode())
    except (OSError, UnicodeDecodeError) as error:
        raise ServingError(f"{path}: the pseudonym key cannot be read: {error}. Restore it from a backup.") from error
