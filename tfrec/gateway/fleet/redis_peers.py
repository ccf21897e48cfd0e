"""Connects the gateways of a run by a stream in Redis.

Each gateway appends the outcomes that it recorded, and before it answers anyone it reads what the others have appended: one round
trip, mostly empty. So each holds the whole state in its own memory, as a gateway on its own does, and can go on without Redis.
Redis holds the newest outcomes only; the log has them all.

While Redis is gone, requests do not wait for it. A thread tries every second to reach it, and then sends what was recorded
meanwhile and in the minute before, which a Redis that restarted may have lost.
"""
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tfrec.data.feedback_log.wal_lines import user_of
from tfrec.data.feedback_log.writer import ErasedAmong
from tfrec.data.people.pseudonym import Pseudonyms
from tfrec.data.records import Outcome
from tfrec.errors import ServingError, UsageError
from tfrec.gateway.fleet.peers import Recorded, Take

TIMEOUT = 0.1  # seconds that a request waits for Redis once, before it does without
_KEPT = 100_000  # outcomes in the stream, of about 300 bytes each
_EXPIRES = 86_400  # seconds after the last outcome until the stream is gone
_BACK = 600  # seconds before now from which a gateway reads when it starts or finds Redis again; the log has what is older
_RESENT = 60.0  # seconds for which an outcome that was sent is remembered
_AT_ONCE = 1000  # outcomes in a round trip
_PAUSE = 1.0  # seconds between two looks at Redis when nobody calls
log = logging.getLogger(__name__)
Entry = dict[str, str]


class RedisPeers:
    """See `Peers`.

    Args:
        url: redis://[user:password@]host:port/database, or rediss:// with TLS.
        run: names the run; only gateways that name it alike hear each other.
        sender: names this process among them.

    Raises:
        UsageError: the package redis is missing, or the URL is none.
    """

    def __init__(self, url: str, *, run: str, sender: str) -> None:
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError as error:
            raise UsageError("gateway.redis needs the package redis, which is not installed. Install it: "
                             "pip install 'tfrec[redis]'") from error
        try:
            self._redis: Any = redis.Redis.from_url(url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT,
                                                    decode_responses=True, encoding_errors="replace", protocol=2,
                                                    retry=Retry(NoBackoff(), 0))
        except ValueError as error:  # its message may hold the password
            raise UsageError("gateway.redis: expected redis://HOST:PORT/DATABASE, got something else. With TLS it begins with "
                             "rediss://.") from error
        self._gone: type[Exception] = redis.RedisError
        self._key = f"tfrec:{run}:outcomes"
        self._sender = sender
        self._take: Take | None = None
        self._last: str | None = None  # the newest entry that was read; None: not known
        self._problem = ""
        self._unsent: deque[Entry] = deque(maxlen=_KEPT)
        self._sent: deque[tuple[float, Entry]] = deque(maxlen=_KEPT)
        self._writing, self._reading = threading.Lock(), threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="peers", daemon=True)

    def follow(self, take: Take) -> None:
        """From now on, let `take` have what others record."""
        self._take = take
        self._look()
        self._thread.start()

    def tell(self, recorded: Sequence[Recorded]) -> None:
        """Tell the others what is recorded here, at once or when Redis is back."""
        self._unsent.extend({"by": self._sender, "at": str(one.at), "outcome": one.outcome.model_dump_json()} for one in recorded)
        if not self._problem:
            self._attempt(self._send)

    def catch_up(self) -> None:
        """Return when `take` has had everything that others told before this call, or when Redis is gone."""
        if self._take is not None and not self._problem:
            self._attempt(self._receive)

    def erase(self, erased_among: ErasedAmong) -> None:
        """Forget outcomes of users who were erased, here and in the stream if Redis answers."""
        with self._writing:
            erased = erased_among({user_of(entry["outcome"]) for entry in (*self._unsent, *(one for _, one in self._sent))})
            unsent = [entry for entry in self._unsent if user_of(entry["outcome"]) not in erased]
            sent = [(when, entry) for when, entry in self._sent if user_of(entry["outcome"]) not in erased]
            self._unsent, self._sent = deque(unsent, maxlen=_KEPT), deque(sent, maxlen=_KEPT)
        self._attempt(lambda: self._erase_sent(erased_among))

    def erase_sent(self, erased_among: ErasedAmong) -> int:
        """Remove from the stream the outcomes of users who were erased; returns how many.

        Raises:
            ServingError: Redis does not answer.
        """
        try:
            return self._erase_sent(erased_among)
        except self._gone as error:
            raise ServingError(f"gateway.redis: Redis does not answer ({type(error).__name__}), so what gateways told each other "
                               f"stays there until {_EXPIRES // 3600} hours after the last of it. Run this again.") from error

    def _erase_sent(self, erased_among: ErasedAmong) -> int:
        last, found = "-", 0
        while entries := self._redis.xrange(self._key, min=last, count=_AT_ONCE):
            of = {id: user_of(fields.get("outcome", "")) for id, fields in entries}
            erased = erased_among(set(of.values()))
            gone = [id for id, user in of.items() if user in erased]
            if gone:
                self._redis.xdel(self._key, *gone)
            found, last = found + len(gone), f"({entries[-1][0]}"
        return found

    def problem(self) -> str:
        """Why the others cannot be heard now; empty if they can."""
        return self._problem

    def close(self) -> None:
        """Stop following, and close the connections."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        self._redis.close()

    def _run(self) -> None:
        while not self._closing.wait(_PAUSE):
            self._look()

    def _look(self) -> None:
        """Read and send, also when Redis was gone."""
        receive, send = (partial(work, is_request=False) for work in (self._receive, self._send))
        if self._attempt(receive) and self._attempt(send) and self._problem:
            self._problem = ""
            log.warning("Redis answers again: the other gateways of the run are heard, and hear what was recorded meanwhile")

    def _attempt(self, work: Callable[[], object]) -> bool:
        try:
            work()
        except self._gone as error:
            self._lose(error)
            return False
        return True

    def _lose(self, error: Exception) -> None:
        with self._writing:
            if not self._problem:
                log.warning("Redis does not answer (%s): until it does, this gateway does not hear what other gateways of the "
                            "run record. Its own records are safe.", type(error).__name__)
                self._problem = "Redis does not answer: outcomes that other gateways take are not known here."
                self._unsent.extendleft(entry for _, entry in reversed(self._sent))
                self._sent.clear()
            self._last = None  # another Redis may answer next, with another clock

    def _send(self, *, is_request: bool = True) -> None:
        with self._writing:
            if is_request and self._problem:  # found by the thread that was here before
                return
            while some := [self._unsent.popleft() for _ in range(min(_AT_ONCE, len(self._unsent)))]:
                try:
                    pipe = self._redis.pipeline(transaction=False)
                    for entry in some:
                        pipe.xadd(self._key, entry, maxlen=_KEPT, approximate=True)
                    pipe.expire(self._key, _EXPIRES)
                    pipe.execute()
                except self._gone:
                    self._unsent.extendleft(reversed(some))
                    raise
                now = time.monotonic()
                self._sent.extend((now, entry) for entry in some)
                while self._sent[0][0] < now - _RESENT:
                    self._sent.popleft()

    def _receive(self, *, is_request: bool = True) -> None:
        """Take what others appended, and what this gateway appended itself in an earlier life."""
        with self._reading:
            if is_request and self._problem:  # as above
                return
            last = self._last or f"{int(self._redis.time()[0]) - _BACK}000-0"
            while entries := self._read_after(last):
                last = entries[-1][0]
                self._pass_on([fields for _, fields in entries if fields.get("by") != self._sender])
                if len(entries) < _AT_ONCE:
                    break
            self._last = last

    def _read_after(self, last: str) -> list[tuple[str, Entry]]:
        return [entry for _, entries in self._redis.xread({self._key: last}, count=_AT_ONCE) for entry in entries]

    def _pass_on(self, entries: list[Entry]) -> None:
        recorded = []
        for entry in entries:
            try:
                recorded.append(Recorded(Outcome.model_validate_json(entry["outcome"]), int(entry["at"])))
            except (ValueError, KeyError):  # of another version of tfrec
                log.warning("an outcome of another gateway cannot be read: do all gateways of the run have one version?")
        if recorded and self._take is not None:
            try:
                self._take(recorded)
            except Exception:  # whatever it was: the next entries, and whoever waits for an answer, must not be held up
                log.exception("outcomes of other gateways were not counted")


def name_in_redis(run: Path, people: Pseudonyms) -> str:
    """By which the gateways of a run find each other: they have one key of pseudonyms, which tells it from others of its name."""
    return f"{run.absolute().name}:{people.of('')[:8]}"
