"""The keys of the gateway: who may call it, for what, and how often.

Each line of the file of keys is `name roles sha256 [rate]`. Roles are joined by commas: `serve` (ask for items), `log` (send
outcomes), `explain` (see why an item has its score, which shows what a user did), `forget` (erase a user) and `review` (approve
and reject items). The hash is that of the key, so the file gives no key away; a key is 32 random bytes, so its plain hash cannot
be searched. The rate, in calls a second, replaces `gateway.rate`. The file is read again when it changes: to rotate a key, add
the new one and then remove the old.
"""
import hashlib
import hmac
import logging
import os
import re
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from tfrec.errors import UsageError
from tfrec.gateway.http.rate_limit import TokenBucket

log = logging.getLogger(__name__)

ROLES = SERVE, LOG, EXPLAIN, FORGET, REVIEW = "serve", "log", "explain", "forget", "review"
_ROLE = f"({'|'.join(ROLES)})"
_LINE = re.compile(rf"(?P<name>[\w.-]+)\s+(?P<roles>{_ROLE}(,{_ROLE})*)\s+(?P<sha>[0-9a-f]{{64}})(\s+(?P<rate>\d+(\.\d+)?))?")
_FORM = "name roles sha256 [rate], e.g. `shop serve,log 9f86...0a08 200`"


@dataclass(frozen=True)
class Caller:
    """The holder of a key."""

    name: str
    roles: frozenset[str]
    bucket: TokenBucket


class Keys:
    """The callers in a file, or one caller who needs no key if there is no file.

    Args:
        path: of the file; None if nobody needs a key.
        rate: calls a second for a key whose line names no rate, or for everyone together if there is no file.
        anyone: the roles of everyone if there is no file.
        look_seconds: how often the file is looked at.

    Raises:
        UsageError: the file cannot be read, or a line is not a key.
    """

    def __init__(
        self, path: Path | None, *, rate: float | None = None, anyone: Collection[str] = ROLES, look_seconds: float = 1.0
    ) -> None:
        self._path = path
        self._rate = rate
        self._anyone = None if path else Caller("anyone", frozenset(anyone), TokenBucket(rate))
        self._callers: list[tuple[bytes, Caller]] = []  # with the hashes of their keys
        self._stamp: tuple[int, int] | None = None
        self._look_seconds = look_seconds
        self._looked_at = time.monotonic()
        if path is not None:
            self._read(path)

    @property
    def are_needed(self) -> bool:
        """Whether there is a file of keys."""
        return self._anyone is None

    def caller(self, key: bytes | None) -> Caller | None:
        """The holder of `key`; None if there is none. A wrong key takes as long as a right one."""
        if self._anyone is not None:
            return self._anyone
        self._read_again()
        digest = hashlib.sha256(key or b"").digest()
        found = None
        for known, caller in self._callers:  # no break, so that the time does not depend on the key
            if hmac.compare_digest(known, digest):
                found = caller
        return None if key is None else found

    def _read_again(self) -> None:
        """Read the file if it has changed. If it is broken, the keys stay as they were."""
        now = time.monotonic()
        if self._path is None or now - self._looked_at < self._look_seconds:
            return
        self._looked_at = now
        try:
            if _stamp(self._path) != self._stamp:
                self._read(self._path)
                log.info("%s: %d keys", self._path, len(self._callers))
        except (OSError, UsageError) as error:
            log.error("the keys stay as they were: %s", error)

    def _read(self, path: Path) -> None:
        buckets = {caller.name: caller.bucket for _, caller in self._callers}
        callers = []
        try:
            self._stamp = _stamp(path)  # before the text: what is written meanwhile is read the next time
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"gateway.keys: {path} cannot be read: {error}.") from error
        for number, line in enumerate(lines, start=1):
            if not line.strip() or line.startswith("#"):
                continue
            match = _LINE.fullmatch(line.strip())
            if match is None:  # the message leaves the line out: it may be a key
                raise UsageError(f"{path} line {number}: expected {_FORM}. serving/RUNBOOK.md says how to make one.")
            rate = float(match["rate"]) if match["rate"] else self._rate
            bucket = buckets.get(match["name"])
            if bucket is None or bucket.rate != rate:
                bucket = buckets[match["name"]] = TokenBucket(rate)
            callers.append((bytes.fromhex(match["sha"]), Caller(match["name"], frozenset(match["roles"].split(",")), bucket)))
        self._callers = callers


def _stamp(path: Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_mtime_ns, found.st_ino
