"""Decides whether a call of a verb is let in, before any work: by its key, its rate, its size and the load.

    400  a header that makes no sense           415  a body that is not JSON
    401  no key, or an unknown one              429  a caller above its rate (`rate_limit.py`), or more calls than can be
    403  a key without the role                      answered in time (`concurrency.py`); Retry-After says when to try again
    408  a body that arrives too slowly
    413  a body that is too large
"""
import asyncio
import json
import logging
import math
import time
import traceback
from collections.abc import Mapping
from contextlib import AsyncExitStack

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tfrec.client.deadline import Deadline
from tfrec.config import GatewayConfig
from tfrec.gateway.http.concurrency import ConcurrencyLimit
from tfrec.gateway.http.encoding import coding_of
from tfrec.gateway.http.keys import Caller, Keys
from tfrec.gateway.http.rate_limit import charge_call
from tfrec.gateway.http.refusal import RequestRefused
from tfrec.gateway.http.request_body import content_length, read_body, replay
from tfrec.gateway.http.time_limits import TimeLimits
from tfrec.gateway.metrics import Metrics

log = logging.getLogger(__name__)

# keys of the ASGI scope, for whoever works on the call
CALLER = "tfrec.caller"
DEADLINE = "tfrec.deadline"
CODING = "tfrec.coding"

USERS = "/v1/users"  # whose members are deleted; all other guarded paths are posted to

_TIMEOUT_HEADER = b"x-timeout-seconds"
_HEADERS = (b"authorization", b"x-api-key", b"content-length", b"content-type", b"content-encoding", _TIMEOUT_HEADER)


class Admission:
    """ASGI middleware that guards the paths of the verbs; other paths pass.

    Args:
        app: the application behind it.
        config: limits on bodies and load.
        keys: who may call.
        metrics: counts calls and refusals.
        roles: the role that each guarded path needs.
        limits: how long bodies and calls may take.
    """

    def __init__(
        self, app: ASGIApp, *, config: GatewayConfig, keys: Keys, metrics: Metrics, roles: Mapping[str, str], limits: TimeLimits
    ) -> None:
        self._app = app
        self._config = config
        self._keys = keys
        self._metrics = metrics
        self._roles = roles
        self._limits = limits
        self._concurrency = {role: ConcurrencyLimit(role, config, metrics) for role in set(roles.values())}
        self._seconds = {path: metrics.seconds.labels(path) for path in roles}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a call in, or answer why not."""
        path, method = scope.get("path", ""), scope.get("method") if scope["type"] == "http" else None
        if method == "DELETE" and path.startswith(f"{USERS}/"):
            path = USERS  # in metrics and the log; the rest names somebody
        elif method != "POST":
            path = ""
        role = self._roles.get(path)
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
            await self._admit(scope, receive, answer, role)
        except RequestRefused as refused:
            await _refuse(answer, refused)
        except Exception as error:
            # not the message: it may hold what a person typed
            where = traceback.extract_tb(error.__traceback__)[-1]
            log.error("%s: %s at %s:%d", path, type(error).__name__, where.filename, where.lineno or 0)
            if not status:
                await _refuse(answer, RequestRefused(500, "The gateway failed. Its log says where."))
        self._seconds[path].observe(time.perf_counter() - began)
        self._metrics.requests.labels(path, status or "none").inc()

    async def _admit(self, scope: Scope, receive: Receive, send: Send, role: str) -> None:
        headers = {name: value for name, value in scope["headers"] if name in _HEADERS}
        scope[CALLER] = caller = self._caller(headers, role)
        charge_call(caller.bucket, self._metrics)
        scope[DEADLINE] = deadline = self._deadline(headers.get(_TIMEOUT_HEADER))
        scope[CODING] = coding = coding_of(headers.get(b"content-type"), headers.get(b"content-encoding"))
        limit = self._concurrency[role]
        limit.check_queue()
        async with AsyncExitStack() as stack:
            body = await read_body(
                receive, length=content_length(headers.get(b"content-length")), coding=coding,
                max_bytes=self._config.max_body_bytes, seconds=self._limits.body, limit=limit, deadline=deadline, stack=stack,
            )
            if body is None:  # the caller has gone
                return
            await stack.enter_async_context(limit.slot(deadline))
            leaving = asyncio.create_task(_abandon_when_gone(receive, deadline))
            try:
                await self._app(scope, replay(body), send)
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
            raise RequestRefused(401, message, ("www-authenticate", "Bearer"))
        if role not in caller.roles:
            who = "This key lacks" if self._keys.are_needed else "Without gateway.keys, nobody who calls from outside has"
            raise RequestRefused(403, f"{who} the role {role}.")
        return caller

    def _deadline(self, header: bytes | None) -> Deadline:
        if header is None:
            return Deadline(self._limits.call)
        try:
            seconds = float(header)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:
            message = "X-Timeout-Seconds must be a number of seconds above 0, such as 0.3."
            raise RequestRefused(400, message, ("connection", "close"))
        return Deadline(min(seconds, self._limits.max_call), chosen=True)


async def _abandon_when_gone(receive: Receive, deadline: Deadline) -> None:
    """End the work of a call when its caller leaves."""
    while (await receive())["type"] != "http.disconnect":
        pass
    deadline.abandon()


async def _refuse(send: Send, refused: RequestRefused) -> None:
    text = json.dumps({"errors": refused.errors}).encode()
    headers = [("content-type", "application/json"), ("content-length", str(len(text))), *refused.headers]
    raw = [(name.encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": refused.status, "headers": raw})
    await send({"type": "http.response.body", "body": text})
