"""When the model server is left alone, and when it is asked again."""
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.gateway.world import Make, ask, popular
from tfrec.client.deadline import Deadline
from tfrec.client.request_errors import RequestFailed
from tfrec.gateway.metrics import Metrics
from tfrec.gateway.routing.circuit_breaker import CircuitBreaker


class Server:
    """A model server that answers "ok", or fails with `code`."""

    def __init__(self, code: str | None = None) -> None:
        self.code = code
        self.calls = 0
        self.now = 0.0

    def ask(self) -> str:
        self.calls += 1
        if self.code is not None:
            raise RequestFailed(f"it failed: {self.code}", code=self.code)
        return "ok"

    def breaker(self) -> CircuitBreaker:
        return CircuitBreaker(call_seconds=5.0, metrics=Metrics(), failures=3, open_seconds=1.0, clock=lambda: self.now)


def fails(breaker: CircuitBreaker, ask: Callable[[], str], *, times: int, timeout_counts: bool = True) -> None:
    for _ in range(times):
        with pytest.raises(RequestFailed, match="it failed"):
            breaker.call(ask, timeout_counts=timeout_counts)


@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED"])
def test_a_server_that_does_not_answer_is_left_alone_for_a_while(code: str) -> None:
    server = Server(code)
    breaker = server.breaker()
    fails(breaker, server.ask, times=10)
    assert server.calls == 3
    server.now, server.code = 0.9, None
    fails(breaker, server.ask, times=1)
    server.now = 1.0
    assert [breaker.call(server.ask) for _ in range(3)] == ["ok"] * 3
    assert server.calls == 6


def test_a_probe_that_fails_opens_the_circuit_again() -> None:
    server = Server("UNAVAILABLE")
    breaker = server.breaker()
    fails(breaker, server.ask, times=3)
    server.now = 1.0
    fails(breaker, server.ask, times=5)
    assert server.calls == 4


def test_an_error_that_the_server_answers_is_no_outage() -> None:
    server = Server("UNAVAILABLE")
    breaker = server.breaker()
    for code in ["UNAVAILABLE", "UNAVAILABLE", "INVALID_ARGUMENT"] * 3:
        server.code = code
        fails(breaker, server.ask, times=1)
    assert server.calls == 9


def test_while_the_server_hangs_one_call_finds_out_and_the_others_fail_at_once() -> None:
    server, began, go = Server("DEADLINE_EXCEEDED"), threading.Event(), threading.Event()
    breaker = server.breaker()
    fails(breaker, server.ask, times=3)
    server.now = 1.0

    def hang() -> str:
        began.set()
        assert go.wait(20)
        return server.ask()

    with ThreadPoolExecutor(1) as pool:
        probe = pool.submit(fails, breaker, hang, times=1)
        assert began.wait(20)
        fails(breaker, server.ask, times=5)
        assert server.calls == 3
        go.set()
        probe.result()
    assert server.calls == 4


def test_a_timeout_of_a_call_with_little_time_or_much_work_is_no_outage() -> None:
    server = Server("DEADLINE_EXCEEDED")
    breaker = server.breaker()
    with Deadline(0.5, chosen=True).current():
        fails(breaker, server.ask, times=5)
    fails(breaker, server.ask, times=5, timeout_counts=False)
    assert server.calls == 10


def test_a_probe_with_little_time_leaves_the_next_call_to_find_out() -> None:
    server = Server("DEADLINE_EXCEEDED")
    breaker = server.breaker()
    fails(breaker, server.ask, times=3)
    server.now = 1.0
    with Deadline(0.5, chosen=True).current():
        fails(breaker, server.ask, times=1)
    server.code = None
    assert breaker.call(server.ask) == "ok"


def test_users_get_what_is_popular_while_the_circuit_is_open(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make()
    popular(world)
    server = Server("DEADLINE_EXCEEDED")
    real = world.client.recommend
    monkeypatch.setattr(world.client, "recommend", lambda **inputs: real(**inputs) if server.code is None else server.ask())
    assert {ask(world)["policy"] for _ in range(10)} == {"popularity"}
    assert server.calls == 3
    server.code = None
    time.sleep(1.05)
    assert ask(world)["policy"] == "greedy"
