"""Replays recorded behaviour as live traffic through the gateway's socket, and keeps the answers.

Time is the events' own. An asked event is first a request, with what its user did before that second, and then an outcome. Every
other event is an outcome of something that tfrec did not show. Outcomes are sent before the next request of a later second, so
the server never knows more than one could have known at that moment.
"""
import http.client
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tfrec.data.behaviour.histories import Histories
from tfrec.data.behaviour.interactions import Interactions
from tfrec.errors import ServingError

K = 50  # items of a slate
BATCH = 500  # outcomes in one call
_SECONDS = 25  # the longest time that an answer may take, for a busy machine
_HEADERS = {"Content-Type": "application/json", "X-Timeout-Seconds": str(_SECONDS)}


@dataclass(frozen=True)
class AskedEvent:
    """The answer to one asked event."""

    event: int
    items: tuple[str, ...]
    rank: float  # of the event's own item in the slate, infinite when it is not there
    version: int
    milliseconds: float


class GatewayClient:
    """A connection to the gateway that is kept open. Only one thread may use it."""

    def __init__(self, host: str, port: int) -> None:
        """Name the gateway; the first call connects."""
        self._connection = http.client.HTTPConnection(host, port, timeout=_SECONDS + 5)

    def post(self, path: str, body: Any) -> Any:
        """Post `body` and return the answer.

        Raises:
            ServingError: the answer is not 200, or there is none.
        """
        for last in (False, True):  # a server may close an idle connection; everything sent here may be sent twice
            try:
                self._connection.request("POST", path, json.dumps(body), _HEADERS)
                answer = self._connection.getresponse()
                text = answer.read()
                break
            except (OSError, http.client.HTTPException) as e:
                self._connection.close()
                if last:
                    raise ServingError(f"POST {path}: no answer from the gateway: {e}") from e
        if answer.status != 200:
            raise ServingError(f"POST {path}: expected 200, got {answer.status}: {text[:300]!r}")
        return json.loads(text)

    def recommend(self, body: dict[str, Any]) -> Any:
        """The model's answer to `body`; `ServingError` when a fallback answered in its place."""
        answer = self.post("/v1/recommend", body)
        if answer["fallback"]:
            raise ServingError(f"expected the model's own answer: {answer['fallback']}")
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


@dataclass
class Traffic:
    """Replays `inter` through a gateway, and counts the calls that failed."""

    gateway: GatewayClient
    inter: Interactions
    length: int  # events of a history that the model reads
    tell: Callable[[int], None]  # is called with each second, before it begins
    failed: int = 0
    _waiting: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._histories = Histories(self.inter)

    def play(self, start: int, stop: int, asked: Sequence[int], *, advance: Callable[[int], None]) -> list[AskedEvent]:
        """Replay the events from `start` to before `stop`, of which `asked` are asked; return the answers in order."""
        wanted, answers = set(map(int, asked)), []
        for event in range(start, stop):
            request_id, second = None, int(self.inter.time[event])
            self.tell(second)
            if event in wanted:
                self._send(before=second)
                if (got := self._ask(event)) is not None:
                    answer, request_id = got
                    answers.append(answer)
            self._waiting.append((second, self._outcome(event, request_id)))
            advance(1)
        self._send()
        return answers

    def _ask(self, event: int) -> tuple[AskedEvent, str | None] | None:
        inter = self.inter
        seen = self._histories.of(event)
        history = [{"item": inter.items[inter.item[e]], "action": inter.actions[inter.action[e]], "time": int(inter.time[e])}
                   for e in seen[-self.length :]]
        body = {
            "user": inter.users[inter.user[event]],
            "k": K,
            "time": int(inter.time[event]),
            "history": history,
            "exclude": [inter.items[i] for i in inter.item[seen]],
        }
        began = time.monotonic()
        try:
            found = self.gateway.recommend(body)
        except ServingError:
            self.failed += 1
            return None
        milliseconds = 1000 * (time.monotonic() - began)
        items = tuple(shown["item"] for shown in found["items"])
        own = inter.items[inter.item[event]]
        rank = items.index(own) + 1.0 if own in items else np.inf
        answer = AskedEvent(event, items, rank, found["model_version"], milliseconds)
        return answer, found["request_id"] if own in items else None

    def _outcome(self, event: int, request_id: str | None) -> dict[str, Any]:
        inter = self.inter
        return {
            "event_id": f"demo-{event}",
            "user": inter.users[inter.user[event]],
            "item": inter.items[inter.item[event]],
            "action": inter.actions[inter.action[event]],
            "time": int(inter.time[event]),
            "request_id": request_id,
        }

    def _send(self, before: int | None = None) -> None:
        """Send the waiting outcomes of seconds before `before`, or all of them."""
        n = len(self._waiting)
        while before is not None and n and self._waiting[n - 1][0] >= before:
            n -= 1
        for start in range(0, n, BATCH):
            try:
                self.gateway.post("/v1/outcomes", [body for _, body in self._waiting[start : min(n, start + BATCH)]])
            except ServingError:
                self.failed += 1
        del self._waiting[:n]


class Visitor:
    """Keeps asking in a thread while versions are swapped, and counts the requests and those without an answer."""

    def __init__(self, host: str, port: int, *, pause_seconds: float = 0.05) -> None:
        """Name the gateway and the pause between two requests."""
        self.requests = self.failed = 0
        self._gateway, self._pause = GatewayClient(host, port), pause_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="visitor", daemon=True)

    def __enter__(self) -> "Visitor":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._gateway.close()

    def _run(self) -> None:
        while not self._stop.wait(self._pause):
            self.requests += 1
            try:
                self._gateway.recommend({"user": "visitor", "k": 5})
            except ServingError:
                self.failed += 1
