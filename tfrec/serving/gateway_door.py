"""The door of the gateway, before any work: who calls, how much, how large, and whether there is room.

Every call of a verb passes it. 401 and 403 tell who may not, 413 a body that is too large, 408 one that takes too long, 429
(with Retry-After) a caller above its rate, and work that would otherwise queue until everyone's answer is late: so many calls
are in work, so many may wait, for so long. Asking and logging have room of their own, so that a rush of questions holds up no
outcome.
"""
import asyncio
import json
import logging
import math
import time
import traceback
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tfrec.config import GatewayConfig
from tfrec.serving.gateway_keys import Caller, Keys
from tfrec.serving.gateway_metrics import Metrics

log = logging.getLogger(__name__)

CALLER = "tfrec.caller"  # of the scope: who may be charged for more than one request
_BODY_SECONDS = 10.0  # for a body to arrive
_RETRY = "1"  # seconds: by then a queue that is no longer than that has gone


class _Refused(Exception):
    def __init__(self, status: int, message: str, *headers: tuple[str, str]) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


class _Room:
    """The calls of one role: how many are in work, how many wait."""

    def __init__(self, role: str, config: GatewayConfig, metrics: Metrics) -> None:
        self._config = config
        self._shed = metrics.shed
        self._in_work, self._waiting = metrics.in_work.labels(role), metrics.waiting.labels(role)
        self._slots = asyncio.Semaphore(config.in_work)
        self._queue = 0

    def expect(self) -> None:
        """Refuse before the body is read when nobody could wait any more."""
        if self._slots.locked() and self._queue >= self._config.waiting:
            self._shed.labels("full").inc()
            raise _Refused(429, "Too many calls wait. Try again in a second.", ("retry-after", _RETRY))

    async def enter(self) -> None:
        """Come in, at once or after a wait."""
        self.expect()
        self._queue += 1
        self._waiting.set(self._queue)
        try:
            async with asyncio.timeout(self._config.wait_seconds):
                await self._slots.acquire()
        except TimeoutError:
            self._shed.labels("late").inc()
            message = f"Waited {self._config.wait_seconds:g} s. Try again in a second."
            raise _Refused(429, message, ("retry-after", _RETRY)) from None
        finally:
            self._queue -= 1
            self._waiting.set(self._queue)
        self._in_work.inc()

    def leave(self) -> None:
        self._in_work.dec()
        self._slots.release()


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
        if wait := caller.bucket.wait():
            self._metrics.shed.labels("rate").inc()
            message = "This key's rate is used up."
            raise _Refused(429, message, ("retry-after", str(math.ceil(wait))))
        caller.bucket.take()
        room = self._rooms[role]
        room.expect()
        body = await self._body(headers.get(b"content-length"), receive)
        if body is None:  # the caller has gone
            return
        await room.enter()
        try:
            await self._app(scope, _once(body, receive), send)
        finally:
            room.leave()

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
            raise _Refused(403, f"This key lacks the role {role}.")
        return caller

    async def _body(self, length: bytes | None, receive: Receive) -> bytes | None:
        """The whole body, so that one that trickles in takes nobody's room; None when the caller went away."""
        most = self._config.max_body_bytes
        # the connection ends: what is left of the body is not read
        large = _Refused(413, f"A body may have {most} bytes. Send fewer requests at once.", ("connection", "close"))
        if length is not None and int(length) > most:
            raise large
        parts, size = [], 0
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    parts.append(part := message.get("body", b""))
                    size += len(part)
                    if size > most:
                        raise large
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError:
            raise _Refused(408, f"The body did not arrive within {_BODY_SECONDS:g} s.", ("connection", "close")) from None


_READ = (b"authorization", b"x-api-key", b"content-length")


def _once(body: bytes, receive: Receive) -> Receive:
    """Gives the body that was read, then what comes after it."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _refuse(send: Send, refused: _Refused) -> None:
    text = json.dumps({"errors": [{"message": str(refused)}]}).encode()
    headers = [("content-type", "application/json"), ("content-length", str(len(text))), *refused.headers]
    raw = [(name.encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": refused.status, "headers": raw})
    await send({"type": "http.response.body", "body": text})
