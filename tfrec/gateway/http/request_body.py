"""Reads the whole body of a request before any work begins, so that a slow body takes no slot."""
import asyncio
import time
from contextlib import AsyncExitStack

from starlette.types import Message, Receive

from tfrec.client.deadline import Deadline
from tfrec.gateway.http.concurrency import ConcurrencyLimit
from tfrec.gateway.http.encoding import Coding
from tfrec.gateway.http.refusal import RequestRefused

LARGE_BYTES = 64 << 10  # a larger body holds some hundred requests, a tenth of a second's work
_CLOSE = ("connection", "close")  # what is left of the body is not read


def content_length(header: bytes | None) -> int | None:
    """The length that the caller states, in bytes. More than 20 digits are no length of anything.

    Raises:
        RequestRefused: 400, it is no number.
    """
    if header is None:
        return None
    if not (header.isdigit() and len(header) <= 20):
        raise RequestRefused(400, "Content-Length must be a number of bytes.", _CLOSE)
    return int(header)


async def read_body(
    receive: Receive, *, length: int | None, coding: Coding, max_bytes: int, seconds: float, limit: ConcurrencyLimit,
    deadline: Deadline, stack: AsyncExitStack,
) -> bytes | None:
    """The body as it was sent, still compressed; None if the caller went away.

    Args:
        receive: gives the parts of the body.
        length: as the caller states it.
        coding: a compressed body counts as a large one.
        max_bytes: of the body.
        seconds: for it to arrive.
        limit: has slots for large bodies.
        deadline: of the call.
        stack: holds such a slot until the call ends.

    Raises:
        RequestRefused: 408, it is too slow; 413, it is too large; 429, no slot for a large body is free.
    """
    body = bytearray()
    too_large = RequestRefused(413, f"A body may have {max_bytes} bytes. Send fewer requests at once.", _CLOSE)
    if length is not None and length > max_bytes:
        raise too_large
    is_large, end = False, time.monotonic() + seconds
    while True:
        if not is_large and (len(body) > LARGE_BYTES or (length or 0) > LARGE_BYTES or coding is not Coding.NONE):
            is_large, began = True, time.monotonic()
            await stack.enter_async_context(limit.large_slot(deadline))
            end += time.monotonic() - began  # this wait is not the caller's fault
        try:
            async with asyncio.timeout(end - time.monotonic()):
                message = await receive()
        except TimeoutError:
            raise RequestRefused(408, f"The body did not arrive within {seconds:g} s.", _CLOSE) from None
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > max_bytes:
            raise too_large
        if not message.get("more_body"):
            return bytes(body)


def replay(body: bytes) -> Receive:
    """A `receive` that gives a body that was read before."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
