"""Two gateways of one run, over real sockets: a user may arrive at either, and Redis may be killed under them."""
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.gateway.fleet.redis_server import RedisServer
from tests.gateway.world import KEY, NOW, World, ask, items

Make = Callable[..., World]


def act(world: World, *outcomes: dict[str, Any]) -> None:
    world.http.post("/v1/outcomes", json=list(outcomes)).raise_for_status()


def click(user: str, item: str, event: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"user": user, "item": item, "action": "click", **({} if event is None else {"event_id": event}), **fields}


def test_a_user_may_arrive_at_either(gateway: Make) -> None:
    first, second = gateway("one"), gateway("two")
    act(first, click("u", "a", "e1", time=NOW - 5))
    assert items(ask(second)) == ["b", "c"]
    act(second, click("u", "b"))
    assert items(ask(first)) == ["c", "d"]
    second.writer.flush()
    shown = {row["writer"]: (row["history"], row["exclude"]) for row in first.rows("impressions") if row["position"] == 0}
    assert shown == {"one": (["a", "b"], ["a", "b"]), "two": (["a"], ["a"])}


def test_an_event_that_one_took_is_not_recorded_by_the_other(gateway: Make) -> None:
    first, second = gateway("one"), gateway("two")
    act(first, click("u", "a", "e1"), click("u", "b", "e2"))
    act(second, click("u", "a", "e1"), click("v", "a", "e1"))
    first.writer.flush()
    assert Counter((row["user"], row["event_id"]) for row in second.rows("outcomes")) == {
        (KEY.of("u"), "e1"): 1, (KEY.of("u"), "e2"): 1, (KEY.of("v"), "e1"): 1,
    }  # fmt: skip
    assert "tfrec_gateway_repeats_total 1.0" in second.http.get("/metrics").text


def test_a_rush_at_one_moves_the_answers_of_the_other(gateway: Make) -> None:
    first, second = gateway("one"), gateway("two")
    second.is_fresh = True
    second.popularity.meet([KEY.of(f"u{n}") for n in range(200)], [0] * 200)
    assert ask(second, k=5, user="someone")["items"][2]["score"] == 8.0
    act(first, *(click(f"u{n}", "c", time=NOW - 1) for n in range(200)))
    second.now += 1
    scores = {shown["item"]: shown["score"] for shown in ask(second, k=5, user="someone")["items"]}
    assert 7.0 < scores["c"] < 8.0  # the tiny model adds the log p that was sent


def test_redis_killed_in_the_middle_of_traffic_costs_no_record_and_no_answer(gateway: Make, redis_server: RedisServer) -> None:
    worlds = [gateway("one"), gateway("two")]
    slowest, done, sent = [0.0, 0.0], threading.Event(), [0, 0]

    def traffic(who: int) -> None:
        while not done.is_set():
            began = time.monotonic()
            act(worlds[who], click(f"u{who}-{sent[who]}", "a", f"e{sent[who]}"))
            ask(worlds[who], user=f"u{1 - who}-0")
            slowest[who] = max(slowest[who], time.monotonic() - began)
            sent[who] += 1

    threads = [threading.Thread(target=traffic, args=(who,)) for who in (0, 1)]
    for thread in threads:
        thread.start()
    for step in (redis_server.kill, redis_server.start, redis_server.kill):
        time.sleep(0.7)
        step()
    time.sleep(0.3)
    assert [world.http.get("/readyz").status_code for world in worlds] == [200, 200]
    assert worlds[0].http.get("/readyz").json()["peers"].startswith("Redis does not answer")
    assert "tfrec_gateway_peers_gone 1.0" in worlds[1].http.get("/metrics").text
    redis_server.start()
    end = time.monotonic() + 10
    while any("peers" in world.http.get("/readyz").json() for world in worlds) and time.monotonic() < end:
        time.sleep(0.05)
    done.set()
    for thread in threads:
        thread.join()
    for who, world in enumerate(worlds):
        assert world.http.get("/readyz").json() == {"status": "ok"}
        act(worlds[1 - who], *(click(f"u{who}-{n}", "a", f"e{n}") for n in range(sent[who])))  # each of them was heard
        assert f"tfrec_gateway_repeats_total {sent[who]}.0" in worlds[1 - who].http.get("/metrics").text
    for world in worlds:
        world.writer.flush()
    found = Counter((row["user"], row["event_id"]) for row in worlds[0].rows("outcomes"))
    assert found == {(KEY.of(f"u{who}-{n}"), f"e{n}"): 1 for who in (0, 1) for n in range(sent[who])}
    assert max(slowest) < 2.0
    assert min(sent) > 20
