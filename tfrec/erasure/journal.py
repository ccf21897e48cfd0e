"""What an erasure has found and done, on disk, and its receipt.

While an erasure is at work its journal names the user, so that whoever finishes it after a kill knows whom it is of. The receipt,
which takes its place, does not.
"""
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ValidationError

from tfrec.data import durable_files
from tfrec.data.file_lock import held
from tfrec.errors import DataError

_DIRECTORY, _PENDING = "forget", "pending-"


class Receipt(BaseModel):
    """What was removed where. It names nobody.

    Attributes:
        erasure: the number of the tombstone; None where there was nothing new to erase.
        time: seconds since 1970 at which it began.
        known: whether anything of the user was found.
        removed: rows, lines or files, by where they were. Counted before they went, so a kill loses no count.
        tombstone: rows that stay where they are, in files that are not tfrec's, and are never read again.
        versions: the published versions that have learnt from the user, and until when.
        note: what else there is to say.
        waits_for: what is not done yet, and who will do it; empty when all is done.
    """

    erasure: int | None = None
    time: int
    known: bool = False
    removed: dict[str, int] = {}
    tombstone: dict[str, int] = {}
    versions: dict[int, str] = {}
    note: str = ""
    waits_for: list[str] = []


class Journal(BaseModel):
    """An erasure at work."""

    user: str
    names: list[str]  # pseudonyms that are erased
    newest: str | None  # the one of them that needs a tombstone; None: all have theirs
    part: int | None = None
    in_base: bool = False
    receipt: Receipt

    def found(self, place: str, count: int) -> None:
        """Count what is about to be removed. After a kill part of it may be gone already."""
        if count:
            self.receipt.known = True
            self.receipt.removed[place] = max(count, self.receipt.removed.get(place, 0))


class Journals:
    """The directory `<run>/forget`: journals of erasures at work, and receipts."""

    def __init__(self, run: Path) -> None:
        self.path = run / _DIRECTORY

    @contextmanager
    def opened(self, *, wait: bool = True) -> Iterator[bool]:
        """Lets in one erasure of the run at a time; yields whether it is let in, which it is in the end if it waits."""
        durable_files.make_directory(self.path)
        with held(self.path / "lock", wait=wait) as is_held:
            for left in self.path.glob(".*") if is_held else ():  # by a process that was killed
                left.unlink(missing_ok=True)
            yield is_held

    def pending(self) -> list[Journal]:
        """The erasures that are at work, or that were killed or wait for something."""
        found = []
        for path in sorted(self.path.glob(f"{_PENDING}*.json")):
            try:
                found.append(Journal.model_validate_json(path.read_bytes()))
            except ValidationError as error:
                raise DataError(f"{path}: expected the journal of an erasure, got something else ({error.errors()[0]['msg']}). "
                                "Remove it, and forget the user again.") from error
        return found

    def of(self, user: str) -> Journal | None:
        """The erasure of a user that is at work."""
        return next((one for one in self.pending() if one.user == user), None)

    def write(self, journal: Journal, mark: str) -> None:
        """Put a journal on disk."""
        durable_files.replace(self._pending(mark), journal.model_dump_json(indent=1).encode())

    def finish(self, journal: Journal, mark: str) -> None:
        """Put the receipt in the place of the journal."""
        receipt = journal.receipt
        if receipt.erasure is not None:
            durable_files.replace(self.path / f"{receipt.erasure}.json", receipt.model_dump_json(indent=1).encode())
        self._pending(mark).unlink(missing_ok=True)
        durable_files.sync_directory(self.path)

    def _pending(self, mark: str) -> Path:
        return self.path / f"{_PENDING}{mark[:16]}.json"
