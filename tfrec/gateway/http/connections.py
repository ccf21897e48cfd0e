"""The gateway's connections: how much of a request's head is read, how long a client may keep us waiting, and who goes when
there are too many.

uvicorn bounds this for the parser in Python (h11) alone. For httptools it has no time in which a request must arrive and no bound
on headers, and its `limit_concurrency` answers 503 to all, health checks included. Here nobody is kept out: when all places are
taken, the connection that has kept us waiting longest makes room, of the address that holds most of them. A connection whose
request is being worked on keeps us waiting for nothing, and is left alone.
"""
import asyncio
import ipaddress
import json
import logging
import resource
from collections import Counter
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from tfrec.gateway.metrics import Metrics

log = logging.getLogger(__name__)

HEAD_BYTES = 32 << 10  # of a request's line and headers; browsers and proxies stay below 16 kB
HEADERS = 100
URL_BYTES = 8 << 10  # no call here has parameters
HEAD_SECONDS = 10.0  # for the head of a request to arrive
BODY_SECONDS = 15.0  # for the rest; the door answers 408 sooner to those that it reads
ANSWER_SECONDS = 20.0  # for at least `_TAKEN_BYTES` of an answer to be taken, or all of it
_TAKEN_BYTES = 64 << 10
IDLE_SECONDS = 65  # between two requests; longer than the minute of most proxies, so that they close first
_SWEEP_SECONDS = 1.0
_FILES = 200  # that the gateway has open beside its connections, at most


class _TooLarge(Exception):
    pass


class Connections:
    """Those of one server, at most `most` at once.

    Args:
        most: open at once.
        metrics: counts those that are open, and those that were closed for their client's sake.
    """

    def __init__(self, most: int, metrics: Metrics) -> None:
        self._most = most
        self._open: set[Connection] = set()
        self._of_address: Counter[str] = Counter()
        self._closed = metrics.connections_closed
        self._sweeping = False
        metrics.connections.set_function(lambda: len(self._open))

    def protocol(self, **settings: Any) -> "Connection":
        """A new connection, as uvicorn asks its `http` class for one."""
        return Connection(self, **settings)

    def add(self, connection: "Connection") -> bool:
        """Take it in, in the place of another where there is none left. False when all are at work for their clients."""
        if len(self._open) >= self._most:
            waiting = [one for one in self._open if one.keeps_waiting]
            if not waiting:
                return False
            now = connection.loop.time()
            self.drop(max(waiting, key=lambda one: (one.is_half_open, self._of_address[one.address], now - one.since)), "crowded")
        self._open.add(connection)
        self._of_address[connection.address] += 1
        if not self._sweeping:
            self._sweeping = True
            connection.loop.call_later(_SWEEP_SECONDS, self._sweep, connection.loop)
        return True

    def discard(self, connection: "Connection") -> None:
        """It is closed."""
        if connection in self._open:
            self._open.remove(connection)
            self._of_address[connection.address] -= 1
            if not self._of_address[connection.address]:
                del self._of_address[connection.address]

    def drop(self, connection: "Connection", reason: str) -> None:
        """Close it at once, whatever has not been sent."""
        self.count(reason)
        self.discard(connection)
        connection.transport.abort()

    def count(self, reason: str) -> None:
        """Count a connection that is closed for a reason of the client's."""
        self._closed.labels(reason).inc()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in list(self._open):
            connection.check(now)
        self._sweeping = bool(self._open)
        if self._sweeping:
            loop.call_later(_SWEEP_SECONDS, self._sweep, loop)


class Connection(HttpToolsProtocol):
    """uvicorn's, with bounds."""

    def __init__(self, connections: Connections, **settings: Any) -> None:
        super().__init__(**settings)
        self._all = connections
        self.address = ""
        self.since = 0.0  # it has kept us waiting, or worked, or been idle
        self._incoming = True  # of a request some part has not arrived
        self._in_head = True
        self._unparsed = 0  # bytes since the head, a part of the body or the end of a request was complete
        self._unsent = 0
        self._unsent_since = 0.0
        self._refusal = (400, "bad", "This is no HTTP request.")

    @property
    def is_half_open(self) -> bool:
        """Whether a request has begun, or is to come for the first time, and is not whole; or an answer is not taken."""
        return self._incoming or self._unsent > 0 or self.transport.is_closing()

    @property
    def keeps_waiting(self) -> bool:
        """Whether the next step is the client's."""
        return self.is_half_open or self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.address = _network(self.client[0] if self.client else "")
        self.since = self.loop.time()
        if not self._all.add(self):
            self._refuse(503, "full", "All connections are in use. Try again in a second.")

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if not self._incoming:
            self._incoming, self.since = True, self.loop.time()
        for start in range(0, len(data), HEAD_BYTES):
            if self.transport.is_closing():
                return
            piece = data[start : start + HEAD_BYTES]
            self._unparsed += len(piece)
            try:
                self.parser.feed_data(piece)
            except httptools.HttpParserUpgrade:
                pass  # to what is not spoken here: it was answered as any other request
            except httptools.HttpParserError:
                self._refuse(*self._refusal)
                return
            if self._unparsed > HEAD_BYTES:
                self._refuse(431, "large", f"A request's line and headers may have {HEAD_BYTES} bytes.")
                return

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        if not self._incoming:  # the next one of a pipeline
            self._incoming, self.since = True, self.loop.time()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > URL_BYTES:
            self._refusal = (414, "large", f"A URL may have {URL_BYTES} bytes. Put what you ask for into the body.")
            raise _TooLarge

    def on_header(self, name: bytes, value: bytes) -> None:  # of the trailers of a body, too
        if len(self.headers) >= HEADERS:
            self._refusal = (431, "large", f"A request may have {HEADERS} headers.")
            raise _TooLarge
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._unparsed, self._in_head, self.since = 0, False, self.loop.time()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unparsed, self._incoming, self.since = 0, False, self.loop.time()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self.since = self.loop.time() if not self._incoming else self.since
        super().on_response_complete()

    def check(self, now: float) -> None:
        """Close it when its client has been too slow."""
        unsent = self.transport.get_write_buffer_size()
        if unsent == 0 or self._unsent == 0 or unsent <= self._unsent - _TAKEN_BYTES:
            self._unsent, self._unsent_since = unsent, now
        elif now - self._unsent_since > ANSWER_SECONDS:
            self._all.drop(self, "unread")
            return
        if self._incoming and now - self.since > (HEAD_SECONDS if self._in_head else BODY_SECONDS):
            if self._in_head and self._unparsed and not self.transport.is_closing():
                self._refuse(408, "slow", f"The request did not arrive within {HEAD_SECONDS:g} s.")
            else:  # without a word where nothing came: it would be taken for the answer to what is sent just now
                self._all.drop(self, "slow")

    def _refuse(self, status: int, reason: str, message: str) -> None:
        self._all.count(reason)
        if self.cycle is not None and not self.cycle.response_complete:  # that of an earlier request is answered before
            self.cycle.keep_alive = False
            self.flow.pause_reading()
            return
        text = json.dumps({"errors": [{"message": message}]}).encode()
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(text)
        self.transport.write(STATUS_LINE[status] + head + text)
        self.transport.close()


def _network(address: str) -> str:
    """An address, or of IPv6 the 64 bits that one customer has."""
    if ":" not in address:
        return address
    known = ipaddress.IPv6Address(address.partition("%")[0])
    return str(known.ipv4_mapped or ipaddress.IPv6Network((int(known) >> 64 << 64, 64)))


def open_files(connections: int) -> int:
    """Raise this process' limit on open files for so many connections; returns how many the system allows, at most that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft < wanted:
        connections = max(16, soft - _FILES)
        log.warning("%d connections at once, not gateway.connections: the limit on open files is %d. Raise it (ulimit -n).",
                    connections, soft)
    return connections
