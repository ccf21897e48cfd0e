"""Limits on HTTP connections before the application is called: size of a head, time, and open files.

    config = uvicorn.Config(app, http=LimitedHttp)

uvicorn's own protocol reads a head of any length for any time, keeps a connection that sends nothing, and accepts connections
until the process has no more files. Here a head may have `MAX_HEAD` bytes and take `HEAD_SECONDS`. A client may pause for
`IDLE_SECONDS` while it sends a body or takes an answer. Beyond `max_connections()` a new connection replaces the one that has
kept the server waiting longest, so that a client that sends its request at once is always served.
"""
import resource
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MAX_HEAD = 65_536  # bytes of request line and headers
HEAD_SECONDS = 10.0
IDLE_SECONDS = 60.0
_MOST_CONNECTIONS = 4096  # where the process may open more files than anybody needs


def max_connections() -> int:
    """Half of the files that this process may open; the rest is for the model and the log."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else max(8, min(_MOST_CONNECTIONS, soft // 2))


class LimitedHttp(HttpToolsProtocol):
    """uvicorn's protocol within limits. The scope of a request has its target as it was sent, under "target"."""

    head_seconds = HEAD_SECONDS
    idle_seconds = IDLE_SECONDS
    look_seconds = 1.0  # between two looks at a connection
    most_connections = max_connections()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.since = 0.0  # seconds of the loop: when the connection was opened, then when the request began
        self._moved = 0.0  # when the client last sent or took anything
        self._in_head = True
        self._in_message = False  # from the first byte of a request to the last of its body
        self._came = 0  # bytes that came while a head was awaited
        self._head = 0  # bytes of this head
        self._unsent = 0
        self._refused = False

    def connection_made(self, transport: Any) -> None:
        """Begin to watch a connection, and close another one if there are too many."""
        super().connection_made(transport)
        self.since = self._moved = self.loop.time()
        if len(self.connections) > self.most_connections:
            self._make_room()
        self.loop.call_later(self.look_seconds, self._look)

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless the request was refused or its head is too long."""
        if self._refused:
            return
        self._moved = self.loop.time()
        if self._in_head:
            self._came += len(data)
        super().data_received(data)
        if self._in_head and self._came > MAX_HEAD:  # the parser passes one long line to `on_header` only when it ends
            self._refuse(431, f"Request head of more than {MAX_HEAD} bytes.")

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._in_message, self._head = True, 0
        if not self._in_head:  # the first head of a connection is awaited from its opening on
            self._in_head, self._came, self.since = True, 0, self.loop.time()

    def on_url(self, url: bytes) -> None:
        """A part of the request line counts towards the head."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header counts towards the head."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the application, which finds the target of the request in its scope."""
        self._in_head = False
        if not self._refused:
            self.scope["target"] = self.url  # type: ignore[typeddict-unknown-key]
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass a part of the body on, unless the request was refused."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The last byte of a request."""
        self._in_message = False
        if not self._refused:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        if not self._refused:
            super().send_400_response(msg)

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > MAX_HEAD:
            self._refuse(431, f"Request head of more than {MAX_HEAD} bytes.")

    def _refuse(self, status: int, why: str) -> None:
        if self._refused:
            return
        self._refused = True
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.abort()  # an answer has begun, so no other can be sent
            return
        head = [STATUS_LINE[status], b"content-type: text/plain; charset=utf-8\r\n"]
        head += [b"content-length: %d\r\n" % len(why), b"connection: close\r\n\r\n", why.encode("ascii")]
        self.transport.write(b"".join(head))
        self.transport.close()

    def _make_room(self) -> None:
        others = [one for one in self.connections if isinstance(one, LimitedHttp) and one is not self and one.is_waiting]
        if not others:
            self._refuse(503, f"More than {self.most_connections} connections.")
            return
        oldest = min(others, key=lambda one: one.since)
        self.connections.discard(oldest)
        oldest.transport.abort()

    @property
    def is_waiting(self) -> bool:
        """Whether it is the client's turn, to end its request or to send another."""
        return self._in_message or self.cycle is None or self.cycle.response_complete

    def _look(self) -> None:
        """Close the connection if it takes too long, else look again later."""
        if self.parser is None:  # connection_lost
            return
        now, unsent = self.loop.time(), self.transport.get_write_buffer_size()
        if unsent < self._unsent or (unsent and not self._unsent):
            self._moved = now
        self._unsent = unsent
        idle = now - self._moved > self.idle_seconds
        if unsent and idle:  # it does not read its answer, which stays in memory
            self.transport.abort()
        elif self._in_head and now - self.since > self.head_seconds and (self.cycle is None or self.cycle.response_complete):
            self._refuse(408, f"The request's head took more than {self.head_seconds:g} seconds.")
        elif self._in_message and idle and not self.flow.read_paused:
            self._refuse(408, f"Nothing came of the request's body for {self.idle_seconds:g} seconds.")
        self.loop.call_later(self.look_seconds, self._look)
