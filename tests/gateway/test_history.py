"""The memory of what users did: what is seen, what of it is behaviour, bounded, filled again from the log."""
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrec.config import Rating, RewardConfig
from tfrec.data.behaviour import first_seen as first_seen_module
from tfrec.data.behaviour.first_seen import first_seen, first_seen_in_file
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.behaviour.newest_outcomes import first_positives, newest_outcomes
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.labels.pair_rewards import one_row_per_pair, positive_pairs, rewarded_actions
from tfrec.data.labels.repeated_actions import MINUTE_LIMIT
from tfrec.data.records import Item, Outcome
from tfrec.gateway.history import UserHistories
from tfrec.gateway.past_events import PastEvent

RULE = LabelRule.of_rewards(
    RewardConfig(weights={"click": 1.0, "purchase": 5.0, "dislike": -2.0, "look": 0.0, "watch": 1.0, "rating": 1.0}, cap=6.0,
                 lengths={"watch": "minutes"}, rated={"rating": Rating()}),
    Catalogue([Item(id=name, numeric={"minutes": 40.0}) for name in "abc"]),
)  # fmt: skip
Acted = tuple[str, str, int, str, float, str | None]
ACT = st.tuples(st.sampled_from("uv"), st.sampled_from("abc"), st.sampled_from([5, 6, 7, 900, 1805, 1806, 9000]),
                st.sampled_from(["click", "purchase", "dislike", "look", "watch", "rating", "scroll"]),
                st.sampled_from([1.0, 3.0, 5.0, 20.0, -4.0]), st.sampled_from([None, None, "r"]))


def did(number: int, user: str, item: str, time: int, action: str = "click", value: float = 1.0,
        request_id: str | None = None) -> Outcome:
    return Outcome(event_id=f"{number:05}", user=user, item=item, time=time, action=action, value=value, request_id=request_id)


def logged(outcomes: list[Outcome]) -> pa.Table:
    """As `newest_outcomes` gives them."""
    columns = ("user", "time", "item", "action", "value", "event_id", "request_id")
    rows = [{name: getattr(one, name) for name in columns} | {"writer": "w", "seq": seq} for seq, one in enumerate(outcomes, 1)]
    kinds = [pa.string(), pa.int64(), pa.string(), pa.string(), pa.float64(), *[pa.string()] * 3, pa.int64()]
    table = pa.Table.from_pylist(rows, pa.schema(list(zip((*columns, "writer", "seq"), kinds, strict=True))))
    table = table.sort_by([("user", "ascending"), ("time", "ascending")])
    return table.set_column(0, "user", table["user"].combine_chunks().dictionary_encode())  # as they appear: sorted


def trained(outcomes: list[Outcome], rule: LabelRule = RULE) -> dict[str, list[PastEvent]]:
    """The history of each user at the end, as training reads it."""
    table = logged(outcomes).sort_by([("time", "ascending"), ("event_id", "ascending")])
    pairs = positive_pairs(one_row_per_pair(rewarded_actions(table, rule.reward, rule.lengths), cap=rule.reward.cap))
    inter = Interactions.from_columns(pairs["user"], pairs["item"], pairs["time"].to_numpy(), action=pairs["action"])
    found: dict[str, list[PastEvent]] = {user: [] for user in "uv"}
    for user, item, time, action in zip(inter.user, inter.item, inter.time, inter.action, strict=True):
        found[inter.users[user]].append(PastEvent(int(time), inter.items[item], inter.actions[action]))
    return found


@settings(deadline=None, max_examples=150)
@given(st.lists(ACT, max_size=14), st.integers(0, 14), st.sampled_from([6, 900, 1806]))
def test_history_served_is_history_trained(acts: list[Acted], cut: int, before: int) -> None:
    """For any outcomes in any order, and wherever the gateway starts again among them."""
    outcomes = [did(number, *act) for number, act in enumerate(acts)]
    memory = UserHistories(RULE)
    memory.fill(logged(outcomes[:cut]))
    for one in outcomes[cut:]:
        memory.add([one])
    expected, earlier = trained(outcomes), trained([one for one in outcomes if one.time < before])
    for user in "uv":
        assert list(memory.of(user).events) == expected[user]
        assert set(memory.of(user).seen) == {one.item for one in outcomes if one.user == user}
        assert list(memory.of(user, before=before).events) == earlier[user]


@settings(deadline=None, max_examples=50)
@given(st.lists(ACT, max_size=14))
def test_what_becomes_behaviour_is_told_once(acts: list[Acted]) -> None:
    outcomes = [did(number, *act) for number, act in enumerate(acts)]
    memory = UserHistories(RULE)
    told = [(user, event.item) for one in outcomes for user, event in memory.add([one])]
    assert len(told) == len(set(told))
    assert set(told) >= {(user, event.item) for user, events in trained(outcomes).items() for event in events}


def test_a_first_rewarded_act_after_an_unrewarded_one_becomes_behaviour() -> None:
    memory = UserHistories(RULE)
    assert memory.add([did(1, "u", "a", 10, "look"), did(2, "u", "b", 10, "dislike")]) == []
    assert memory.of("u") == (("a", "b"), ())
    assert memory.add([did(3, "u", "a", 20), did(4, "u", "b", 30)]) == [("u", PastEvent(20, "a", "click"))]
    assert memory.of("u") == (("a", "b"), (PastEvent(20, "a", "click"),))
    assert memory.add([did(5, "u", "b", 40, "purchase")]) == [("u", PastEvent(30, "b", "click"))]
    assert memory.add([did(6, "u", "a", 50, "dislike")]) == []
    assert memory.of("u").events == (PastEvent(30, "b", "click"),)


def test_events_come_back_oldest_first_whatever_their_order() -> None:
    memory = UserHistories()
    memory.add([did(1, "u", "c", 30), did(2, "u", "a", 10)])
    memory.add([did(3, "u", "b", 20), did(2, "u", "a", 10)])
    assert [event.item for event in memory.of("u").events] == ["a", "b", "c"]
    assert memory.of("u", before=30) == (("a", "b"), (PastEvent(10, "a", "click"), PastEvent(20, "b", "click")))
    assert memory.of("u", before=10) == memory.of("nobody") == ((), ())


def test_the_newest_events_and_the_latest_users_stay() -> None:
    memory = UserHistories(users=2, events=2)
    memory.add([did(time, "u", f"i{time}", time) for time in (3, 1, 2)])
    assert [event.item for event in memory.of("u").events] == ["i2", "i3"]
    memory.add([did(1, "v", "x", 1)])
    memory.of("u")
    memory.add([did(1, "w", "x", 1)])
    assert [len(memory.of(user).events) for user in "uvw"] == [2, 0, 1]


@pytest.mark.parametrize("starts_again", [False, True])
def test_what_is_worth_nothing_pushes_no_behaviour_out(starts_again: bool) -> None:
    outcomes = [did(n, "u", f"i{n}", n, "click" if n < 3 else ("dislike", "look", "scroll")[n % 3]) for n in range(150)]
    memory = UserHistories(RULE, events=5)
    if starts_again:
        memory.fill(logged(outcomes))
    else:
        for one in outcomes:
            memory.add([one])
    assert [event.item for event in memory.of("u").events] == ["i0", "i1", "i2"]
    assert memory.of("u").seen[3:] == ("i145", "i146", "i147", "i148", "i149")


@pytest.mark.parametrize("action", ["click", "watch"])
def test_many_acts_on_one_item_are_added_up(action: str) -> None:
    outcomes = [did(n, "u", "a", 10 * n, action, 1.0) for n in range(300)]
    memory = UserHistories(RULE)
    for one in outcomes:
        memory.add([one])
    memory.add([did(999, "u", "a", 4000, "dislike")])  # 300 minutes of watching are worth 300/40, a click in 30 minutes 1
    assert list(memory.of("u").events) == trained([*outcomes, did(999, "u", "a", 4000, "dislike")])["u"]
    assert len(memory.of("u").events) == (action == "watch")


def test_acts_that_are_faster_than_hands_are_no_behaviour() -> None:
    outcomes = [did(0, "u", "b", 10), *(did(n, "u", f"i{n % 90}", 120) for n in range(1, MINUTE_LIMIT + 2))]
    memory = UserHistories(RULE)
    for one in outcomes:
        memory.add([one])
    assert list(memory.of("u").events) == trained(outcomes)["u"] == [PastEvent(10, "b", "click")]


def test_it_is_filled_from_the_log(tmp_path: Path) -> None:
    log = FeedbackLog(tmp_path)
    assert newest_outcomes(log).num_rows == 0
    outcomes = [did(1, "u", "b", 20), did(2, "u", "a", 10)]
    log.append("outcomes", [(n, one.model_dump_json()) for n, one in enumerate(outcomes, 1)], writer="w")
    memory = UserHistories()
    memory.fill(newest_outcomes(log))
    assert memory.of("u").events == (PastEvent(10, "a", "click"), PastEvent(20, "b", "click"))
    assert first_positives(newest_outcomes(log), None).to_pylist() == [
        {"user": "u", "item": "a", "time": 10}, {"user": "u", "item": "b", "time": 20},
    ]  # fmt: skip


def test_the_newest_users_of_the_log_stay() -> None:
    memory = UserHistories(users=2)
    memory.fill(logged([did(n, user, "a", time) for n, (user, time) in enumerate([("u", 1), ("v", 3), ("w", 2)])]))
    memory.add([did(9, "v", "b", 4)])
    assert [len(memory.of(user).events) for user in "uvw"] == [0, 2, 1]
    memory.add([did(10, "x", "b", 4)])
    assert [len(memory.of(user).events) for user in "vwx"] == [0, 1, 1]


def test_nobody_is_known_for_longer_than_since_they_came() -> None:
    outcomes = [did(1, "u", "a", 100), did(2, "v", "a", 500), did(3, "w", "a", 0), did(4, "u", "b", 50)]
    known = first_seen(logged(outcomes), now=450).to_pylist()
    assert sorted(map(tuple, (row.values() for row in known))) == [("u", 100), ("v", 450), ("w", 450)]
    assert first_seen(logged([]), now=0).num_rows == 0


def test_people_of_a_file_are_known_since_their_first_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "i.csv").write_text("user,item,time\nann,a,200\nann,b,100\nbob,a,900\nbad,a,never\n")
    def known(*, now: int = 500) -> list[tuple[str, int]]:
        found = first_seen_in_file(tmp_path / "i.csv", now=now, name=str.upper, cache=tmp_path / "known")
        return sorted((row["user"], row["time"]) for row in found.to_pylist())

    assert known() == [("ANN", 100), ("BOB", 500)]
    monkeypatch.setattr(first_seen_module, "read_events", None)
    assert known(now=950) == [("ANN", 100), ("BOB", 900)]  # without a second look at the file
    monkeypatch.undo()
    (tmp_path / "known").write_bytes(b"damaged")
    assert known() == [("ANN", 100), ("BOB", 500)]
    (tmp_path / "i.csv").write_text("user,item,time\nbob,a,300\n")
    assert known() == [("BOB", 300)]


def test_a_large_log_is_read_by_its_newest_rows(tmp_path: Path) -> None:
    log = FeedbackLog(tmp_path)
    row = {"request_id": None, "user": "u", "action": "click", "value": 1.0, "item": "a"}
    times = np.random.default_rng(0).permutation(30).tolist()
    lines = [(n, json.dumps({**row, "event_id": str(n), "time": time})) for n, time in enumerate(times, 1)]
    log.append("outcomes", lines, writer="w")
    assert newest_outcomes(log, max_rows=10)["time"].to_pylist() == list(range(20, 30))


@pytest.mark.parametrize("rule", [RULE, None])
def test_events_of_the_log_are_known_by_user_and_id(rule: LabelRule | None) -> None:
    known = UserHistories(rule).fill(logged([did(1, "u", "a", 3), did(2, "u", "a", 1), did(1, "v", "b", 2, "scroll")]))
    assert [("u", "00001") in known, ("u", "00002") in known, ("v", "00001") in known] == [True] * 3
    assert not any(event in known for event in [("v", "00002"), ("w", "00001"), ("", ""), "00001", ("u", 1)])


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.sampled_from("uvwx"), st.integers(0, 30)), max_size=12),
       st.lists(st.sampled_from("uvwxyz"), max_size=8))
def test_of_the_log_the_users_who_acted_last_stay(acts: list[tuple[str, int]], come: list[str]) -> None:
    """Users who come are remembered longer than those of the log who do not; the latter go in the order of their last act."""
    memory = UserHistories(users=3)
    memory.fill(logged([did(n, user, "a", time) for n, (user, time) in enumerate(acts)]))
    last = dict(sorted(acts, key=lambda act: act[1]))
    order = sorted(last, key=lambda user: (last[user], user))[-3:]  # who is forgotten first comes first
    here: list[str] = []
    for n, user in enumerate(come):
        memory.add([did(100 + n, user, "b", 40)])
        order = [one for one in order if one != user]
        here = [*(one for one in here if one != user), user]
        while len(order) + len(here) > 3:
            (order or here).pop(0)
    for user in "uvwxyz":
        if user in (*order, *here):
            assert memory.of(user).seen
    assert sum(bool(memory.of(user).seen) for user in "uvwxyz") == len(order) + len(here)
