"""Where each flagged item stands, by the record."""
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tfrec.review.record import ReviewEntry, ReviewRecord

_STATUS: dict[str, Literal["waiting", "approved", "rejected"]] = {
    "flag": "waiting", "approve": "approved", "reject": "rejected"}


@dataclass
class Standing:
    """Of one item.

    Attributes:
        flag: the newest.
        digest: of the text that the newest entry is about.
        status: gone: it is not in the catalogue; clear: nothing is wrong with its text.
        since: seconds since 1970.
        decided: the newest decision on each text, by digest, beside the text.
        last: the newest decision on any text.
        why: of what is clear.
    """

    flag: ReviewEntry
    digest: str
    status: Literal["waiting", "approved", "rejected", "gone", "clear"]
    since: int
    decided: dict[str, tuple[ReviewEntry, str]] = field(default_factory=dict)
    last: ReviewEntry | None = None
    why: str = ""

    @property
    def was_rejected(self) -> bool:
        """Whether the newest decision on any of its texts was a rejection."""
        return self.last is not None and self.last.do == "reject"

    def is_hidden(self, *, hold: bool) -> bool:
        """Whether it is not shown. What was rejected stays hidden under another text, until that one is approved."""
        if self.status in ("approved", "clear"):
            return False
        if self.digest in self.decided:
            return self.decided[self.digest][0].do == "reject"
        return hold or self.was_rejected

    def told(self, entry: ReviewEntry) -> None:
        """Change by an entry about this item."""
        self.digest, self.since = entry.digest, entry.time
        if entry.do == "flag":
            self.flag = entry
        if entry.do in ("approve", "reject"):
            self.last = entry
            _, text = self.decided.get(entry.digest, (entry, self.flag.text))
            self.decided[entry.digest] = entry, text
        if entry.do == "clear":
            self.status, self.why = "gone" if entry.why == "gone" else "clear", entry.why
        else:
            self.status = _STATUS[self.decided[entry.digest][0].do if entry.do == "return" else entry.do]


class ReviewState:
    """All flagged items of a run, as the record has them when `read` was called last. Safe to share between threads."""

    def __init__(self, run: Path) -> None:
        """Know nothing; `read` reads."""
        self.items: dict[str, Standing] = {}
        self.record = ReviewRecord(run, take=self._take, forget=self.items.clear)

    @classmethod
    def of(cls, run: Path) -> "ReviewState":
        """The state of a run now.

        Raises:
            DataError: a line of the record is damaged.
        """
        state = cls(run)
        state.record.read()
        return state

    def waiting(self) -> list[Standing]:
        """The queue, the oldest first."""
        found = [one for one in list(self.items.values()) if one.status == "waiting"]
        return sorted(found, key=lambda one: (one.since, one.flag.item))

    def hidden(self, *, hold: bool) -> tuple[str, ...]:
        """The ids of items that are not shown, in the order of their first flags."""
        return tuple(item for item, one in list(self.items.items()) if one.is_hidden(hold=hold))

    def decisions(self) -> Iterator[tuple[ReviewEntry, str]]:
        """Yields the newest decision on each text, beside the text."""
        for one in self.items.values():
            yield from one.decided.values()

    def _take(self, entry: ReviewEntry) -> None:
        known = self.items.get(entry.item)
        if known is not None:
            known.told(entry)
        elif entry.do == "flag":
            self.items[entry.item] = Standing(entry, entry.digest, "waiting", entry.time)


def digest_of(text: str) -> str:
    """By which the record names a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
