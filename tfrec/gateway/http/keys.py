"""Who may call the gateway, for what, and how often: a file of keys in, callers out.

A line is `name roles sha256 [rate]`: roles are `serve` (ask), `log` (tell outcomes) and `explain` (see why, and with it what
anybody did), joined by commas; the hash is of the key, so that the file gives none away (a key is 32 random bytes, so a plain
hash cannot be searched); the rate, in requests a second, takes the place of `gateway.rate`. The file is read again when it
changes: a key is rotated by adding the new one, and removing the old.
"""
import hashlib
import hmac
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path

from tfrec.errors import UsageError

log = logging.getLogger(__name__)

ROLES = SERVE, LOG, EXPLAIN = "serve", "log", "explain"
_BURST_SECONDS = 2.0  # of its rate that a caller may use at once after a rest
_SOON = 1e-3  # seconds that are told at least to whom is refused
_LINE = re.compile(
    r"(?P<name>[\w.-]+)\s+(?P<roles>(serve|log|explain)(,(serve|log|explain))*)\s+(?P<sha>[0-9a-f]{64})(\s+(?P<rate>\d+(\.\d+)?))?"
)
_FORM = "name roles sha256 [rate], e.g. `shop serve,log 9f86...0a08 200`"


class Bucket:
    """`rate` requests a second, and as many at once as two seconds bring. Safe to share between threads."""

    def __init__(self, rate: float | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self._clock = clock
        self._most = max(1.0, (rate or 0.0) * _BURST_SECONDS)
        self._left, self._at = self._most, clock()
        self._lock = threading.Lock()

    @property
    def most(self) -> int:
        """Requests that may come at once after a rest."""
        return int(self._most)

    def take(self, n: int = 1) -> float:
        """Take `n` requests and return 0, or take none and return the seconds until there may be as many.

        Nothing is owed: more than `most` at once never pass, however long the rest was.
        """
        if self.rate is None:
            return 0.0
        with self._lock:
            now = self._clock()
            self._left, self._at = min(self._most, self._left + (now - self._at) * self.rate), now
            if n <= self._left:
                self._left -= n
                return 0.0
            return max(_SOON, (min(n, self._most) - self._left) / self.rate)


class Caller:
    """Whoever holds a key."""

    def __init__(self, name: str, roles: frozenset[str], bucket: Bucket) -> None:
        self.name = name
        self.roles = roles
        self.bucket = bucket


class Keys:
    """The callers of a file, or one caller who may do all without a key when there is no file."""

    def __init__(self, path: Path | None, *, rate: float | None = None, anyone: Collection[str] = ROLES) -> None:
        """Read the file.

        Args:
            rate: requests a second of a key whose line names none, and of everyone together where there is no file.
            anyone: the roles of everyone where there is no file.

        Raises:
            UsageError: it cannot be read, or a line is no key.
        """
        self._path = path
        self._rate = rate
        self._anyone = None if path else Caller("anyone", frozenset(anyone), Bucket(rate))
        self._callers: list[tuple[bytes, Caller]] = []
        self._changed: tuple[int, int] | None = None
        self._looked = 0.0
        if path is not None:
            self._read(path)

    @property
    def are_needed(self) -> bool:
        """Whether there is a file of keys."""
        return self._anyone is None

    def caller(self, key: bytes | None) -> Caller | None:
        """Who holds `key`; None when nobody does. Takes as long for a wrong key as for a right one."""
        if self._anyone is not None:
            return self._anyone
        self._look()
        digest = hashlib.sha256(key or b"").digest()
        found = None
        for known, caller in self._callers:  # all of them, whichever it is
            if hmac.compare_digest(known, digest):
                found = caller
        return None if key is None else found

    def _look(self) -> None:
        """Read the file again when it has changed, at most once a second; a broken one leaves the keys as they were."""
        now = time.monotonic()
        if self._path is None or now - self._looked < 1.0:
            return
        self._looked = now
        try:
            if _stamp(self._path) != self._changed:
                self._read(self._path)
                log.info("%s: %d keys", self._path, len(self._callers))
        except (OSError, UsageError) as error:
            log.error("the keys stay as they were: %s", error)

    def _read(self, path: Path) -> None:
        buckets = {caller.name: caller.bucket for _, caller in self._callers}
        callers = []
        try:
            self._changed = _stamp(path)  # before the text: what is written meanwhile is read the next time
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"gateway.keys: {path} cannot be read: {error}.") from error
        for number, line in enumerate(lines, start=1):
            if not line.strip() or line.startswith("#"):
                continue
            match = _LINE.fullmatch(line.strip())
            if match is None:  # the line itself may be a key that someone put there by mistake
                raise UsageError(f"{path} line {number}: expected {_FORM}. serving/RUNBOOK.md says how to make one.")
            rate = float(match["rate"]) if match["rate"] else self._rate
            bucket = buckets.get(match["name"])
            if bucket is None or bucket.rate != rate:
                bucket = buckets[match["name"]] = Bucket(rate)
            callers.append((bytes.fromhex(match["sha"]), Caller(match["name"], frozenset(match["roles"].split(",")), bucket)))
        self._callers = callers


def _stamp(path: Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_mtime_ns, found.st_ino
