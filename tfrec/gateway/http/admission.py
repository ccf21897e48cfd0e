"""The door of the gateway, before any work: who calls, how much, how large, and whether there is room.

Every call of a verb passes it. 400 tells of a header that makes no sense, 401 and 403 who may not, 413 a body that is too large,
408 one that takes too long, 415 one that is no JSON, 429 (with Retry-After) a caller above its rate, and work that would queue
until everyone's answer is late: so many calls are in work, so many may wait, for so long. Asking and logging have room of their
own, so that a rush of questions holds up no outcome. Large bodies take at most half of each, from their first bytes on: so they
hold up no small ones, and the memory of all is bounded.
"""
import asyncio
import json
import logging
import math
import time
import traceback
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tfrec.client.deadline import Deadline
from tfrec.config import GatewayConfig
from tfrec.gateway.http.encoding import Coding, NotReadable, coding_of
from tfrec.gateway.http.keys import EXPLAIN, Caller, Keys
from tfrec.gateway.metrics import Metrics

log = logging.getLogger(__name__)

CALLER = "tfrec.caller"  # of the scope: who may be charged for more than one request
DEADLINE = "tfrec.deadline"  # of the scope: until when the call's work is for somebody
CODING = "tfrec.coding"  # of the scope: how the body is packed
TIMEOUT_HEADER = b"x-timeout-seconds"
_MOST_SECONDS = 60.0  # that a call may name
_CALL_SECONDS = 30.0  # that the work of a call may take which names none
_BODY_SECONDS = 10.0  # for a body to arrive
LARGE_BYTES = 64 << 10  # a body of more: some hundred requests, a tenth of a second's work
_RETRY = "1"  # seconds: by then a queue that is no longer than that has gone


class _Refused(Exception):
    def __init__(self, status: int, message: str, *headers: tuple[str, str]) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


def room(config: GatewayConfig, role: str) -> int:
    """How many calls of a role are worked on at once. To explain costs a hundred times what an answer costs."""
    return max(1, config.max_in_flight // 4) if role == EXPLAIN else config.max_in_flight


class _Room:
    """The calls of one role: how many are in work, how many wait."""

    def __init__(self, role: str, config: GatewayConfig, metrics: Metrics) -> None:
        self._config = config
        self._shed = metrics.shed
        self._in_flight, self._queued = metrics.in_flight.labels(role), metrics.queued.labels(role)
        self._slots = asyncio.Semaphore(room(config, role))
        self._large = asyncio.Semaphore(max(1, room(config, role) // 2))
        self._queue = 0

    def expect(self) -> None:
        """Refuse before the body is read when nobody could wait any more."""
        if self._slots.locked() and self._queue >= self._config.max_queued:
            self._full()

    @asynccontextmanager
    async def entered(self, deadline: Deadline) -> AsyncIterator[None]:
        """Come in, at once or after a wait; and leave."""
        self.expect()
        await self._wait(self._slots, deadline)
        self._in_flight.inc()
        try:
            yield
        finally:
            self._in_flight.dec()
            self._slots.release()

    @asynccontextmanager
    async def large(self, deadline: Deadline) -> AsyncIterator[None]:
        """Have one of the places for large bodies, at once or after a wait."""
        if self._large.locked() and self._queue >= self._config.max_queued:
            self._full()
        await self._wait(self._large, deadline)
        try:
            yield
        finally:
            self._large.release()

    async def _wait(self, places: asyncio.Semaphore, deadline: Deadline) -> None:
        seconds = deadline.left if deadline.chosen else min(self._config.queue_seconds, deadline.left)
        self._queue += 1
        self._queued.set(self._queue)
        try:
            async with asyncio.timeout(seconds):
                await places.acquire()
        except TimeoutError:
            self._shed.labels("late").inc()
            raise _Refused(429, f"Waited {seconds:.3g} s. Try again in a second.", ("retry-after", _RETRY)) from None
        finally:
            self._queue -= 1
            self._queued.set(self._queue)

    def _full(self) -> None:
        self._shed.labels("full").inc()
        raise _Refused(429, "Too many calls wait. Try again in a second.", ("retry-after", _RETRY))


class Door:
    """ASGI middleware; `roles` names the role that each guarded path needs."""

    def __init__(self, app: ASGIApp, *, config: GatewayConfig, keys: Keys, metrics: Metrics, roles: Mapping[str, str]) -> None:
        self._app = app
        self._config = config
        self._keys = keys
        self._metrics = metrics
        self._roles = roles
        self._rooms = {role: _Room(role, config, metrics) for role in set(roles.values())}
        self._seconds = {path: metrics.seconds.labels(path) for path in roles}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        role = self._roles.get(path) if scope["type"] == "http" and scope["method"] == "POST" else None
        if role is None:
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._pass(scope, receive, answer, role)
        except _Refused as refused:
            await _refuse(answer, refused)
        except Exception as error:
            # not the message: it may hold what a person typed
            where = traceback.extract_tb(error.__traceback__)[-1]
            log.error("%s: %s at %s:%d", path, type(error).__name__, where.filename, where.lineno or 0)
            if not status:
                await _refuse(answer, _Refused(500, "The gateway failed. Its log says where."))
        self._seconds[path].observe(time.perf_counter() - began)
        self._metrics.requests.labels(path, status or "none").inc()

    async def _pass(self, scope: Scope, receive: Receive, send: Send, role: str) -> None:
        headers = {name: value for name, value in scope["headers"] if name in _READ}
        scope[CALLER] = caller = self._caller(headers, role)
        if wait := caller.bucket.take():
            self._metrics.shed.labels("rate").inc()
            raise _Refused(429, "This key's rate is used up.", ("retry-after", str(math.ceil(wait))))
        scope[DEADLINE] = deadline = _deadline(headers.get(TIMEOUT_HEADER))
        try:
            scope[CODING] = coding_of(headers.get(b"content-type"), headers.get(b"content-encoding"))
        except NotReadable as error:
            raise _Refused(error.status, str(error), *error.headers) from None
        mine = self._rooms[role]
        mine.expect()
        async with AsyncExitStack() as stack:
            body = await self._body(_length(headers.get(b"content-length")), receive, scope[CODING], mine, deadline, stack)
            if body is None:  # the caller has gone
                return
            await stack.enter_async_context(mine.entered(deadline))
            leaving = asyncio.create_task(_abandoned(receive, deadline))
            try:
                await self._app(scope, _once(body), send)
            finally:
                leaving.cancel()

    def _caller(self, headers: Mapping[bytes, bytes], role: str) -> Caller:
        key = headers.get(b"x-api-key")
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        if key is None and scheme.lower() == b"bearer":
            key = token.strip()
        caller = self._keys.caller(key)
        if caller is None:
            message = "Send a key of the gateway's: `Authorization: Bearer KEY`, or `X-API-Key: KEY`."
            raise _Refused(401, message, ("www-authenticate", "Bearer"))
        if role not in caller.roles:
            who = "This key lacks" if self._keys.are_needed else "Without gateway.keys nobody who calls from outside has"
            raise _Refused(403, f"{who} the role {role}.")
        return caller

    async def _body(
        self, length: int | None, receive: Receive, coding: Coding, place: _Room, deadline: Deadline, stack: AsyncExitStack
    ) -> bytes | None:
        """The whole body as it came, so that one that trickles in takes nobody's room; None when the caller went away."""
        most, body = self._config.max_body_bytes, bytearray()
        # the connection ends: what is left of the body is not read
        large = _Refused(413, f"A body may have {most} bytes. Send fewer requests at once.", ("connection", "close"))
        if length is not None and length > most:
            raise large
        is_large, end = False, time.monotonic() + _BODY_SECONDS
        while True:
            # a packed body may be a large one
            if not is_large and (len(body) > LARGE_BYTES or (length or 0) > LARGE_BYTES or coding is not Coding.NONE):
                is_large, began = True, time.monotonic()
                await stack.enter_async_context(place.large(deadline))
                end += time.monotonic() - began  # the wait was ours
            try:
                async with asyncio.timeout(end - time.monotonic()):
                    message = await receive()
            except TimeoutError:
                late = f"The body did not arrive within {_BODY_SECONDS:g} s."
                raise _Refused(408, late, ("connection", "close")) from None
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > most:
                raise large
            if not message.get("more_body"):
                return bytes(body)


_READ = (b"authorization", b"x-api-key", b"content-length", b"content-type", b"content-encoding", TIMEOUT_HEADER)


def _length(header: bytes | None) -> int | None:
    """Of the body, as the caller says it. More digits than 20 are no length of anything."""
    if header is None:
        return None
    if not (header.isdigit() and len(header) <= 20):
        raise _Refused(400, "Content-Length must be a number of bytes.", ("connection", "close"))
    return int(header)


def _deadline(header: bytes | None) -> Deadline:
    if header is None:
        return Deadline(_CALL_SECONDS)
    try:
        seconds = float(header)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise _Refused(400, "X-Timeout-Seconds must be a number of seconds above 0, such as 0.3.", ("connection", "close"))
    return Deadline(min(seconds, _MOST_SECONDS), chosen=True)


def _once(body: bytes) -> Receive:
    """Gives the body that was read. Who answers does not ask for more."""

    async def replay() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _abandoned(receive: Receive, deadline: Deadline) -> None:
    """Tell the work of a call when its caller leaves."""
    while (await receive())["type"] != "http.disconnect":
        pass
    deadline.abandon()


async def _refuse(send: Send, refused: _Refused) -> None:
    text = json.dumps({"errors": [{"message": str(refused)}]}).encode()
    headers = [("content-type", "application/json"), ("content-length", str(len(text))), *refused.headers]
    raw = [(name.encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": refused.status, "headers": raw})
    await send({"type": "http.response.body", "body": text})
