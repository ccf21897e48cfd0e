"""Bounds on connections: how much of a request's head is read, how long a client may be slow, and how many are open.

uvicorn bounds this only for its parser in Python (h11). For httptools it has no time in which a request must arrive and no bound
on headers, and its `limit_concurrency` answers 503 to everyone, health checks included. Here nobody is kept out: when all
places are taken, a connection whose client keeps the gateway waiting is closed, the longest waiting one of the address that
holds most. A connection whose request is being worked on is left alone.
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

from tfrec.gateway.http.time_limits import TimeLimits
from tfrec.gateway.metrics import Metrics

log = logging.getLogger(__name__)

HEAD_BYTES = 32 << 10  # of a request's line and headers; browsers and proxies stay below 16 kB
MAX_HEADERS = 100
URL_BYTES = 8 << 10  # no call here has parameters
_TAKEN_BYTES = 64 << 10  # of an answer that a client must take within `TimeLimits.answer`, if it does not take all
_OTHER_FILES = 200  # that the gateway has open besides its connections, at most


class _TooLarge(Exception):
    pass


class Connections:
    """The connections of one server.

    Args:
        max_open: connections at once.
        metrics: counts connections that are open, and those that are closed because of their client.
        limits: how long a client may be slow.
    """

    def __init__(self, max_open: int, metrics: Metrics, limits: TimeLimits) -> None:
        self.limits = limits
        self._max_open = max_open
        self._open: set[Connection] = set()
        self._open_of: Counter[str] = Counter()  # by address
        self._closed = metrics.connections_closed
        self._is_sweeping = False
        metrics.connections.set_function(lambda: len(self._open))

    def protocol(self, **settings: Any) -> "Connection":
        """A new connection; uvicorn calls this in place of its own class."""
        return Connection(self, **settings)

    def add(self, connection: "Connection") -> bool:
        """Take a connection in, in the place of another if none is free. False if all are in use for requests in progress."""
        if len(self._open) >= self._max_open:
            waiting = [one for one in self._open if one.keeps_waiting]
            if not waiting:
                return False
            now = connection.loop.time()
            self.drop(max(waiting, key=lambda one: (one.is_half_open, self._open_of[one.address], now - one.since)), "crowded")
        self._open.add(connection)
        self._open_of[connection.address] += 1
        if not self._is_sweeping:
            self._is_sweeping = True
            connection.loop.call_later(self.limits.sweep, self._sweep, connection.loop)
        return True

    def discard(self, connection: "Connection") -> None:
        """Forget a connection that is closed."""
        if connection in self._open:
            self._open.remove(connection)
            self._open_of[connection.address] -= 1
            if not self._open_of[connection.address]:
                del self._open_of[connection.address]

    def drop(self, connection: "Connection", reason: str) -> None:
        """Close a connection at once, whatever has not been sent."""
        self.count(reason)
        self.discard(connection)
        connection.transport.abort()

    def count(self, reason: str) -> None:
        """Count a connection that is closed because of its client."""
        self._closed.labels(reason).inc()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in list(self._open):
            connection.check(now)
        self._is_sweeping = bool(self._open)
        if self._is_sweeping:
            loop.call_later(self.limits.sweep, self._sweep, loop)


class Connection(HttpToolsProtocol):
    """uvicorn's connection, with bounds. Its parser calls the `on_` methods."""

    def __init__(self, connections: Connections, **settings: Any) -> None:
        super().__init__(**settings)
        self._connections = connections
        self._limits = connections.limits
        self.address = ""
        self.since = 0.0  # when the present state began: waiting for the client, working, or idle
        self._incoming = True  # part of a request has not arrived
        self._in_head = True
        self._unparsed = 0  # bytes since the head, a part of the body or the end of a request was complete
        self._unsent = 0
        self._unsent_since = 0.0
        self._refusal = (400, "bad", "This is not an HTTP request.")

    @property
    def is_half_open(self) -> bool:
        """Whether a request is not complete, the first one included, or an answer has not been taken."""
        return self._incoming or self._unsent > 0 or self.transport.is_closing()

    @property
    def keeps_waiting(self) -> bool:
        """Whether the gateway waits for the client."""
        return self.is_half_open or self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection in, or refuse it."""
        super().connection_made(transport)
        self.address = _network(self.client[0] if self.client else "")
        self.since = self.loop.time()
        if not self._connections.add(self):
            self._refuse(503, "full", "All connections are in use. Try again in a second.")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._connections.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came in pieces of bounded size."""
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
                pass  # to a protocol that is not spoken here: the request is answered as any other
            except httptools.HttpParserError:
                self._refuse(*self._refusal)
                return
            if self._unparsed > HEAD_BYTES:
                self._refuse(431, "large", f"The line and headers of a request may have {HEAD_BYTES} bytes.")
                return

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head = True
        if not self._incoming:  # the next one of a pipeline
            self._incoming, self.since = True, self.loop.time()

    def on_url(self, url: bytes) -> None:
        """A part of the URL came."""
        super().on_url(url)
        if len(self.url) > URL_BYTES:
            self._refusal = (414, "large", f"A URL may have {URL_BYTES} bytes. Put parameters into the body.")
            raise _TooLarge

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header came, or a trailer of the body."""
        if len(self.headers) >= MAX_HEADERS:
            self._refusal = (431, "large", f"A request may have {MAX_HEADERS} headers.")
            raise _TooLarge
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._unparsed, self._in_head, self.since = 0, False, self.loop.time()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body came."""
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._unparsed, self._incoming, self.since = 0, False, self.loop.time()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer has been given."""
        self.since = self.loop.time() if not self._incoming else self.since
        super().on_response_complete()

    def check(self, now: float) -> None:
        """Close the connection if its client has been too slow."""
        unsent = self.transport.get_write_buffer_size()
        if unsent == 0 or self._unsent == 0 or unsent <= self._unsent - _TAKEN_BYTES:
            self._unsent, self._unsent_since = unsent, now
        elif now - self._unsent_since > self._limits.answer:
            self._connections.drop(self, "unread")
            return
        if self._incoming and now - self.since > (self._limits.head if self._in_head else self._limits.other_body):
            if self._in_head and self._unparsed and not self.transport.is_closing():
                self._refuse(408, "slow", f"The request did not arrive within {self._limits.head:g} s.")
            else:  # no answer if nothing came: it would be taken for the answer to what is sent just now
                self._connections.drop(self, "slow")

    def _refuse(self, status: int, reason: str, message: str) -> None:
        self._connections.count(reason)
        if self.cycle is not None and not self.cycle.response_complete:  # an earlier request is answered first
            self.cycle.keep_alive = False
            self.flow.pause_reading()
            return
        text = json.dumps({"errors": [{"message": message}]}).encode()
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(text)
        self.transport.write(STATUS_LINE[status] + head + text)
        self.transport.close()


def _network(address: str) -> str:
    """The address, or the 64 bits of an IPv6 address that one customer has."""
    if ":" not in address:
        return address
    known = ipaddress.IPv6Address(address.partition("%")[0])
    return str(known.ipv4_mapped or ipaddress.IPv6Network((int(known) >> 64 << 64, 64)))


def open_files(connections: int) -> int:
    """Raise this process' limit on open files for so many connections, and return how many the system allows of them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return connections
    soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft < needed:
        connections = max(16, soft - _OTHER_FILES)
        log.warning("%d connections at once, not gateway.connections: the limit on open files is %d. Raise it (ulimit -n).",
                    connections, soft)
    return connections
