"""The file of rules, which is read again when it changes, and when another version is published.

A file that is wrong changes nothing: the rules of before stay, and the log, a metric and `/readyz` say so. Reading a catalogue of
a million items takes seconds, so it is done in a thread, and rules and what they touch change together when it is done.
"""
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tfrec.errors import TfrecError, UsageError
from tfrec.gateway.metrics import Metrics
from tfrec.gateway.routing.slate_request import SlateRequest
from tfrec.gateway.rules.applying import apply_rules
from tfrec.gateway.rules.floors import read_factors, with_factors
from tfrec.gateway.rules.known_items import KnownItems, read_known_items
from tfrec.gateway.rules.rule import RuleBook, read_rules

log = logging.getLogger(__name__)
_Stamp = tuple[int, int, int]
_There = tuple[_Stamp, _Stamp | None, Path | None]  # the file, the factors of its floors, and the version


class _Ruling(NamedTuple):
    book: RuleBook
    known: KnownItems | None


class RulesFile:
    """The rules of a gateway. Safe to share between threads.

    Args:
        path: of the file; None: there are no rules.
        version_dir: the directory of the newest version; None where there is none.
        metrics: counts rules that applied and those that were skipped.
        look_seconds: how often file and version are looked at.
        held: gives the items that a review hides.
        factors: the file with the factors of floors.

    Raises:
        UsageError: the file cannot be read, or a rule is wrong.
    """

    def __init__(self, path: Path | None, *, version_dir: Callable[[], Path | None], metrics: Metrics,
                 look_seconds: float = 1.0, held: Callable[[], Sequence[str]] = tuple, factors: Path | None = None) -> None:
        self._held, self._factors = held, factors
        self._path, self._version_dir, self._metrics, self._look_seconds = path, version_dir, metrics, look_seconds
        self._ruling = _Ruling(RuleBook(), None)
        self._read_from: _There | None = None
        self._looked_at = time.monotonic()
        self._problem = ""
        self._reader: threading.Thread | None = None
        self._lock = threading.Lock()
        metrics.rules_problem.set_function(lambda: float(bool(self.problem())))
        if path is not None:
            self._read(path, self._there(path))

    @property
    def version(self) -> str:
        """Of the rules that hold."""
        return self._ruling.book.version

    def problem(self) -> str:
        """What is wrong with the file as it is now; "" if nothing is."""
        self._look()
        return self._problem

    def applied(self, request: SlateRequest, *, context: Mapping[str, str], now: float) -> SlateRequest:
        """The request with the rules that hold for it, which are counted."""
        self._look()
        (book, known), held = self._ruling, self._held()
        if not book.rules and not held:
            return request
        asked, skipped = apply_rules(book, known, request, context=context, now=now, held=held)
        for name in asked.ruled.applied.names if asked.ruled else ():
            self._metrics.rules_applied.labels(name).inc()
        for name, why in skipped:
            self._metrics.rules_skipped.labels(name, why).inc()
        return asked

    def hidden(self, *, now: float) -> list[Collection[str]]:
        """Ids of the items that a review and exclude rules hide from a request of which nothing is known."""
        self._look()
        book, known = self._ruling
        rules = book.holding(now=datetime.fromtimestamp(now, UTC), context={}, query="")
        return [frozenset(self._held()),
                *(rule.items if known is None else known.touched.get(rule.name, ()) for rule in rules if rule.do == "exclude")]

    def wait_until_read(self) -> None:
        """Return once no change is being read."""
        if (reader := self._reader) is not None:
            reader.join()

    def _look(self) -> None:
        """Now and then, begin to read what has changed."""
        now = time.monotonic()
        if self._path is None or now - self._looked_at < self._look_seconds:
            return
        with self._lock:
            if self._reader is not None or now - self._looked_at < self._look_seconds:
                return
            self._looked_at = now
            try:
                there = self._there(self._path)
            except UsageError as error:
                self._read_from = None  # so that it is read when it is back
                self._say(error)
                return
            if there == self._read_from:
                return
            self._reader = threading.Thread(target=self._read_again, args=(self._path, there), name="rules", daemon=True)
            self._reader.start()

    def _there(self, path: Path) -> _There:
        factors = self._factors
        return _stamp(path), _stamp(factors) if factors is not None and factors.exists() else None, self._version_dir()

    def _read_again(self, path: Path, there: _There) -> None:
        try:
            self._read(path, there)
            log.info("%s: %d rules, version %s", path, len(self._ruling.book.rules), self._ruling.book.version)
        except UsageError as error:
            self._read_from = there  # the same file would be wrong again
            self._say(error)
        finally:
            self._reader = None

    def _read(self, path: Path, there: _There) -> None:
        """Read the file as it was `there`, and the catalogue of the version there."""
        book = with_factors(read_book(path), read_factors(self._factors))
        self._ruling, self._read_from, self._problem = _Ruling(book, _known(there[-1], book)), there, ""

    def _say(self, error: UsageError) -> None:
        if str(error) != self._problem:
            self._problem = str(error)
            log.error("the rules stay as they were: %s", error)


def _known(version_dir: Path | None, book: RuleBook) -> KnownItems | None:
    if version_dir is None or not book.rules:
        return None
    try:
        known = read_known_items(version_dir, book)
    except TfrecError as error:
        log.warning("rules hold without knowing the catalogue: %s", error)
        return None
    for rule in (rule for rule in book.rules if rule.do == "pin"):
        if lost := [item for item in rule.items if item not in known.pinned or not known.pinned[item].available]:
            log.warning("rule %r pins %r, which version %s does not have or must not show: it is skipped", rule.name, lost[0],
                        version_dir.name)
    return known


def _stamp(path: Path) -> _Stamp:
    try:
        found = os.stat(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    return found.st_mtime_ns, found.st_ino, found.st_size


def read_book(path: Path) -> RuleBook:
    """The rules of a file.

    Raises:
        UsageError: the file cannot be read, or a rule is wrong.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    return read_rules(text, where=str(path))


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"gateway.rules: {path} cannot be read: {error.strerror}. Name a file of rules, or leave the setting out.")
