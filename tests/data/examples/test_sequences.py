"""Windows of behaviour: a small one by hand, and the laws of any."""
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrec.data.behaviour.histories import Histories
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.examples.sequences import PAD, windows

ITEMS = [f"i{n}" for n in range(60)]


def log(*events: tuple[str, int, int]) -> Interactions:
    """Events (user, item, second)."""
    users, items, times = zip(*events, strict=True) if events else ((), (), ())
    return Interactions.from_columns(users, [ITEMS[i] for i in items], times, items=ITEMS)


# few seconds, so that many events share one; each (user, item) once, as in any Interactions
logs = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 59), st.integers(0, 12)), max_size=60, unique_by=lambda e: e[:2]
).map(lambda events: log(*events))


def test_two_users_by_hand():
    inter = log(("a", 1, 10), ("b", 7, 11), ("a", 2, 20), ("a", 3, 25), ("b", 8, 41), ("a", 4, 65))
    found = windows(inter, length=2)
    # a: 1 2 3 4 in tiles from the newest: tokens 2 3 -> 3 4, then token 1 -> 2; b: 7 -> 8
    rows = np.argsort(found.target[:, 0])
    assert found.item[rows].tolist() == [[1, PAD], [2, 3], [7, PAD]]
    assert found.target[rows].tolist() == [[2, PAD], [3, 4], [8, PAD]]
    assert found.gap[rows].tolist() == [[10, 0], [5, 40], [30, 0]]
    assert found.read_at[rows].tolist() == [[0, 0], [0, 1], [0, 0]]
    assert found.weight[rows].tolist() == [[1, 0], [1, 1], [1, 0]]
    assert inter.item[found.event[rows][:, 0]].tolist() == [2, 3, 8]
    assert found.used[rows].tolist() == [1, 2, 1]


def test_what_shares_a_second_is_no_history_for_one_another():
    inter = log(("a", 1, 10), ("a", 2, 20), ("a", 3, 20), ("a", 4, 30))
    found = windows(inter, length=3)
    assert found.item[0, 0] == 1
    assert sorted(found.item[0, 1:].tolist()) == [2, 3]
    assert found.gap[0].tolist() == [10, 0, 10]
    assert sorted(found.target[0].tolist()) == [2, 3, 4]
    assert found.read_at.tolist() == [[0, 0, 2]]


def test_a_basket_larger_than_a_window_is_read_from_what_came_before_it():
    inter = log(("a", 1, 10), ("a", 2, 20), *[("a", n, 30) for n in range(10, 15)])
    found = windows(inter, length=2)
    learnt = found.weight > 0
    assert sorted(found.target[learnt].tolist()) == [2, 10, 11, 12, 13, 14]
    for row, place in zip(*np.nonzero(learnt), strict=True):
        assert found.item[row, found.read_at[row, place]] == (1 if found.target[row, place] == 2 else 2)
    assert (found.used == 2).sum() >= 2


def test_only_chosen_events_are_learnt_and_windows_without_any_are_left_out():
    inter = log(*[("a", n, 10 * n) for n in range(9)], *[("b", n, 10 * n + 1) for n in range(9)])
    chosen = np.zeros(len(inter), bool)
    chosen[[2, 17]] = True
    found = windows(inter, length=4, learn=chosen)
    assert sorted(found.event[found.weight > 0].tolist()) == [2, 17]
    assert len(found) == 2


def test_the_weight_of_a_target_is_its_events():
    inter = Interactions.from_columns(["a"] * 3, ["i1", "i2", "i3"], [1, 2, 3], items=ITEMS, weight=[9.0, 0.5, 2.0])
    assert windows(inter, length=4).weight.tolist() == [[0.5, 2.0, 0.0, 0.0]]


def test_no_events_give_no_windows():
    assert len(windows(log(), length=4)) == 0
    assert len(windows(log(("a", 1, 1), ("b", 2, 2)), length=4)) == 0


@settings(deadline=None)
@given(logs, st.integers(1, 6))
def test_each_event_with_history_is_a_target_once(inter, length):
    found = windows(inter, length=length)
    learnt = np.sort(found.event[found.weight > 0])
    assert learnt.tolist() == np.flatnonzero(Histories(inter).count(np.arange(len(inter))) > 0).tolist()


@settings(deadline=None)
@given(logs, st.integers(1, 6))
def test_a_target_is_read_from_the_newest_token_of_an_earlier_second(inter, length):
    found, histories = windows(inter, length=length), Histories(inter)
    for row, place in zip(*np.nonzero(found.weight > 0), strict=True):
        event, at = found.event[row, place], found.read_at[row, place]
        assert inter.item[event] == found.target[row, place]
        history = inter.item[histories.of(event)]
        # all tokens up to the one read are the newest history, in order
        assert found.item[row, : at + 1].tolist() == history[-at - 1 :].tolist()
        assert found.gap[row, at] == inter.time[event] - inter.time[histories.of(event)[-1]]
        assert max(at, place) < found.used[row]


@settings(deadline=None)
@given(logs, st.integers(1, 6))
def test_tokens_are_consecutive_events_of_one_user(inter, length):
    found = windows(inter, length=length)
    for row in range(len(found)):
        tokens = found.item[row][found.item[row] != PAD]
        user = inter.user[found.event[row][found.weight[row] > 0][0]]
        own = inter.item[inter.user == user].tolist()
        start = own.index(tokens[0])
        assert own[start : start + len(tokens)] == tokens.tolist()
        assert (found.item[row, len(tokens) :] == PAD).all()
