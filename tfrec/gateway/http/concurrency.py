"""Limits how many calls are in progress at once and how many wait, for each role.

Serving and logging have limits of their own, so that a rush of requests holds up no outcome. Large bodies take at most half of
a role's slots, so that they hold up no small ones and the memory of all is bounded.
"""
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tfrec.client.deadline import Deadline
from tfrec.config import GatewayConfig
from tfrec.gateway.http.keys import EXPLAIN, FORGET, REVIEW
from tfrec.gateway.http.refusal import RequestRefused
from tfrec.gateway.metrics import Metrics

_RETRY = ("retry-after", "1")  # seconds; by then the queue has emptied, as no call in it waits longer


def max_in_flight(config: GatewayConfig, role: str) -> int:
    """The number of calls of a role that are in progress at once. To explain costs a hundred times as much as to answer."""
    if role in (FORGET, REVIEW):
        return 1
    return max(1, config.max_in_flight // 4) if role == EXPLAIN else config.max_in_flight


class ConcurrencyLimit:
    """The calls of one role, in progress and waiting."""

    def __init__(self, role: str, config: GatewayConfig, metrics: Metrics) -> None:
        self._config = config
        self._shed = metrics.shed
        self._in_flight, self._queued = metrics.in_flight.labels(role), metrics.queued.labels(role)
        self._slots = asyncio.Semaphore(max_in_flight(config, role))
        self._large_slots = asyncio.Semaphore(max(1, max_in_flight(config, role) // 2))
        self._waiting = 0

    def check_queue(self) -> None:
        """Refuse a call, before its body is read, when the queue is full.

        Raises:
            RequestRefused: 429.
        """
        self._check_queue(self._slots)

    @asynccontextmanager
    async def slot(self, deadline: Deadline) -> AsyncIterator[None]:
        """Hold a slot while a call is in progress; wait for it if none is free.

        Raises:
            RequestRefused: 429, the queue is full, or the wait is over.
        """
        self.check_queue()
        await self._wait(self._slots, deadline)
        self._in_flight.inc()
        try:
            yield
        finally:
            self._in_flight.dec()
            self._slots.release()

    @asynccontextmanager
    async def large_slot(self, deadline: Deadline) -> AsyncIterator[None]:
        """Hold a slot for a large body; waits and raises as `slot` does."""
        self._check_queue(self._large_slots)
        await self._wait(self._large_slots, deadline)
        try:
            yield
        finally:
            self._large_slots.release()

    def _check_queue(self, slots: asyncio.Semaphore) -> None:
        if slots.locked() and self._waiting >= self._config.max_queued:
            self._shed.labels("full").inc()
            raise RequestRefused(429, "Too many calls wait. Try again in a second.", _RETRY)

    async def _wait(self, slots: asyncio.Semaphore, deadline: Deadline) -> None:
        seconds = deadline.left if deadline.chosen else min(self._config.queue_seconds, deadline.left)
        self._waiting += 1
        self._queued.set(self._waiting)
        try:
            async with asyncio.timeout(seconds):
                await slots.acquire()
        except TimeoutError:
            self._shed.labels("late").inc()
            raise RequestRefused(429, f"Waited {seconds:.3g} s. Try again in a second.", _RETRY) from None
        finally:
            self._waiting -= 1
            self._queued.set(self._waiting)
