"""`tfrec forget` removes what gateways told each other of a user from a real Redis, by the name that they find each other by."""
import json
from collections.abc import Callable
from pathlib import Path

from tests.gateway.fleet.redis_server import RedisServer
from tests.gateway.fleet.test_redis_peers import outcome
from tfrec.config import load_config
from tfrec.data.people.erasures import load_people
from tfrec.gateway.fleet.redis_peers import RedisPeers, name_in_redis

Call = Callable[..., tuple[int, str, str]]


def test_the_command_removes_the_entries_of_the_user_alone(call: Call, tmp_path: Path, redis_server: RedisServer) -> None:
    run = tmp_path / "shop"
    settings = ["--set", f"run={run}", "--set", f"gateway.redis={redis_server.url}"]
    people = load_people(load_config(None, [f"run={run}"]))
    name = name_in_redis(run, people)
    gateway = RedisPeers(redis_server.url, run=name, sender="gateway-1")
    gateway.tell([outcome(n, people.of("ann@shop" if n % 2 else "bob@shop")) for n in range(10)])
    code, out, err = call("forget", "ann@shop", "--json", *settings)
    assert code == 0, err
    assert json.loads(out)["ann@shop"]["erasure"] == 1
    heard: list[str] = []
    new = RedisPeers(redis_server.url, run=name, sender="gateway-2")
    new.follow(lambda recorded: heard.extend(one.outcome.event_id for one in recorded))
    new.catch_up()
    assert heard == ["0", "2", "4", "6", "8"]
    new.close()
    gateway.close()


def test_a_redis_that_is_gone_is_named_and_the_next_command_finishes(call: Call, tmp_path: Path,
                                                                     redis_server: RedisServer) -> None:
    run = tmp_path / "shop"
    settings = ["--set", f"run={run}", "--set", f"gateway.redis={redis_server.url}"]
    load_people(load_config(None, [f"run={run}"]))
    redis_server.kill()
    code, _, err = call("forget", "ann@shop", *settings)
    assert (code, "Redis does not answer" in err) == (1, True)
    redis_server.start()
    code, out, err = call("forget", "--json", *settings)
    assert code == 0, err
    [erasure] = json.loads(out)["erasures"]
    assert not erasure["waits_for"]
