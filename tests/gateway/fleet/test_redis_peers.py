"""What peers tell each other over a real Redis: everything, in order, bounded, and nothing waits long for one that is gone."""
import contextlib
import logging
import socket
import sys
import time
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gateway.fleet.redis_server import RedisServer
from tfrec.data.records import Outcome
from tfrec.errors import ServingError, UsageError
from tfrec.gateway.fleet.peers import Recorded
from tfrec.gateway.fleet.redis_peers import TIMEOUT, RedisPeers


def outcome(event: object, user: str = "u") -> Recorded:
    return Recorded(Outcome(event_id=str(event), user=user, item="a", action="click", time=5, request_id="r"), at=7)


class Listener:
    """A gateway of which only the peers are real."""

    def __init__(self, url: str, name: str, run: str = "shop") -> None:
        self.peers = RedisPeers(url, run=run, sender=name)
        self.heard: list[Recorded] = []
        self.peers.follow(self._hear)

    def _hear(self, recorded: Sequence[Recorded]) -> None:
        self.heard += recorded

    def events(self) -> list[str]:
        self.peers.catch_up()
        return [one.outcome.event_id for one in self.heard]


@contextlib.contextmanager
def listening(url: str, *names: str) -> Iterator[list[Listener]]:
    found = [Listener(url, name) for name in names]
    yield found
    for one in found:
        one.peers.close()


def until(true: object, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)


@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(told=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3)), max_size=8), run=st.uuids().map(str))
def test_each_hears_all_that_others_told_before_once_and_in_order(told: list[tuple[int, int]], run: str,
                                                                  redis_server: RedisServer) -> None:
    peers = [Listener(redis_server.url, name, run) for name in "abc"]
    expected: list[list[str]] = [[], [], []]
    for turn, (who, count) in enumerate(told):
        events = [f"{turn}-{k}" for k in range(count)]
        peers[who].peers.tell([outcome(event) for event in events])
        for other in {0, 1, 2} - {who}:
            expected[other] += events
        assert peers[turn % 3].events() == expected[turn % 3]
    assert [one.events() for one in peers] == expected
    for one in peers:
        assert all(heard == outcome(heard.outcome.event_id) for heard in one.heard)
        one.peers.close()


def test_who_comes_later_hears_what_may_not_be_in_the_log_yet(redis_server: RedisServer) -> None:
    with listening(redis_server.url, "a") as (first,):
        first.peers.tell([outcome(1)])
        with listening(redis_server.url, "b") as (second,):
            assert second.events() == ["1"]


def test_runs_do_not_hear_each_other_and_redis_forgets(redis_server: RedisServer) -> None:
    import redis

    other = Listener(redis_server.url, "a", "another")
    with listening(redis_server.url, "a", "b") as (first, second), redis.Redis.from_url(redis_server.url) as client:
        first.peers.tell([outcome(n) for n in range(2500)])
        assert second.events() == [str(n) for n in range(2500)]
        assert other.events() == []
        assert client.keys() == [b"tfrec:shop:outcomes"]
        assert 0 < client.ttl("tfrec:shop:outcomes") <= 86_400
        client.xtrim("tfrec:shop:outcomes", maxlen=0)
        first.peers.tell([outcome("next")])
        assert second.events()[2500:] == ["next"]
    other.peers.close()


def test_what_was_told_while_redis_was_gone_is_heard_when_it_is_back(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    with listening(redis_server.url, "a", "b") as (first, second):
        first.peers.tell([outcome("lost with redis")])
        redis_server.kill()
        with caplog.at_level(logging.WARNING):
            for n in range(3):
                first.peers.tell([outcome(f"a{n}")])
                second.peers.tell([outcome(f"b{n}")])
            first.peers.catch_up()
            assert "Redis does not answer (ConnectionError)" in caplog.text
            assert first.peers.problem().startswith("Redis does not answer: ")
            redis_server.start()
            until(lambda: not first.peers.problem() and not second.peers.problem())
        assert "Redis answers again" in caplog.text
        until(lambda: {"a0", "a1", "a2", "lost with redis"} <= set(second.events()))
        until(lambda: set(first.events()) == {"b0", "b1", "b2"})


def test_a_redis_that_is_silent_is_waited_for_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        with listening(url, "a") as (one,):
            assert one.peers.problem()
            began = time.monotonic()
            for n in range(100):
                one.peers.catch_up()
                one.peers.tell([outcome(n)])
            assert time.monotonic() - began < TIMEOUT


def test_an_outcome_that_cannot_be_read_holds_nothing_up(redis_server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    import redis

    with listening(redis_server.url, "a", "b") as (first, second), redis.Redis.from_url(redis_server.url) as client:
        for entry in ({"by": "x", "at": "1", "outcome": "{}"}, {"by": "x"}, {"by": "x", "at": "now", "outcome": ""}):
            client.xadd("tfrec:shop:outcomes", entry)  # type: ignore[arg-type]
        first.peers.tell([outcome(1)])
        assert second.events() == ["1"]
    assert "do all gateways of the run have one version?" in caplog.text


@pytest.mark.parametrize("url", ["http://secret@127.0.0.1:6379", "127.0.0.1:6379", ""])
def test_a_wrong_url_is_told_without_its_password(url: str) -> None:
    with pytest.raises(UsageError, match=r"gateway.redis: expected redis://HOST:PORT/DATABASE") as error:
        RedisPeers(url, run="shop", sender="a")
    assert "secret" not in str(error.value)


def test_a_missing_package_is_named_with_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(UsageError, match=r"pip install 'tfrec\[redis\]'"):
        RedisPeers("redis://127.0.0.1:6379/0", run="shop", sender="a")


def test_what_erased_users_did_leaves_the_stream(redis_server: RedisServer) -> None:
    with listening(redis_server.url, "a", "forget") as (first, other):
        first.peers.tell([outcome(n, "ann" if n % 3 else "bob") for n in range(1500)])
        assert other.peers.erase_sent(lambda users: {"ann"} & set(users)) == 1000
        assert other.peers.erase_sent(lambda users: {"ann"} & set(users)) == 0
        first.peers.tell([outcome("late", "ann")])
        first.peers.erase(lambda users: {"ann"} & set(users))
        with listening(redis_server.url, "new") as (new,):
            assert new.events() == [str(n) for n in range(0, 1500, 3)]
            redis_server.kill()
            until(first.peers.problem)
            first.peers.tell([outcome("x", "ann"), outcome("y", "bob")])
            first.peers.erase(lambda users: {"ann"} & set(users))
            with pytest.raises(ServingError, match="Redis does not answer"):
                other.peers.erase_sent(lambda users: {"ann"} & set(users))
            redis_server.start()
            until(lambda: "y" in new.events())
            assert "x" not in new.events()
