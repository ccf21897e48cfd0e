"""Names users as the gateway does, and tells which records of a source are of somebody who was erased.

A source goes on holding what it held: it is not tfrec's. What an erased user did up to the second of the erasure is left out, and
what comes later is of a new person.
"""
import functools
import json
from collections.abc import Sequence

from tfrec.data.feedback_log.wal_lines import user_of
from tfrec.data.people.erasures import Erasures, refresh
from tfrec.data.people.pseudonym import Pseudonyms

_USERS = 1 << 16  # whose pseudonyms are remembered


class ErasedUsers:
    """See above.

    Args:
        people: know the pseudonyms.
        erasures: the tombstones; None: nobody is ever erased.
        pseudonymous: whether the ids of the source are pseudonyms already.
    """

    def __init__(self, people: Pseudonyms, erasures: Erasures | None, *, pseudonymous: bool = False) -> None:
        self._people, self._erasures, self._pseudonymous = people, erasures, pseudonymous
        self._named = functools.lru_cache(_USERS)(self._name_of)

    def name(self, user: str, time: int) -> str | None:
        """The pseudonym of a user; None when they were erased at `time` (seconds since 1970) or later."""
        name, erased_at = self._named(user)
        return name if erased_at is None or time > erased_at else None

    def refresh(self) -> bool:
        """Look for new tombstones; returns whether there are any."""
        if self._erasures is None or not refresh(self._people, self._erasures):
            return False
        self._named.cache_clear()
        return True

    def without_erased(self, lines: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
        """Records, (seq, JSON), without those of users who were erased since; what is later than that gets their new name."""
        erased = self._people.erased_among({user_of(line) for _, line in lines})
        kept = []
        for seq, line in lines:
            if (user := user_of(line)) in erased:
                record = json.loads(line)
                if record["time"] <= (self._people.erased_at(user) or 0):
                    continue
                line = json.dumps(record | {"user": self._people.current(user)}, separators=(",", ":"))
            kept.append((seq, line))
        return kept

    def _name_of(self, user: str) -> tuple[str, int | None]:
        first = user if self._pseudonymous else self._people.names(user)[0]
        return self._people.current(first), self._people.erased_at(first)
