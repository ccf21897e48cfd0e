"""Base log, old and new examples put together: what is news, and what counts as behaviour."""
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tfrec.data.behaviour.merge import merge_behaviour
from tfrec.data.labels.pair_rewards import ACTIONS

ITEMS = ["i0", "i1", "i2", "i3"]
Row = tuple[str, str, int, str, float]


def examples(*rows: Row) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * 5
    types = (pa.string(), pa.string(), pa.int64(), pa.string(), pa.float64())
    named = {name: pa.array(values, kind) for name, values, kind in zip(ACTIONS.names, columns, types, strict=True)}
    return pa.table({**named, "policy": pa.nulls(len(rows), pa.string())})  # more columns than are read


def merged(base, past, fresh, *, counted=1, **more):
    """`past` is part 1 of the settled examples, and `fresh` part 2; what was `tapped` was in a slate."""
    parts = [rows.append_column("is_positive", pc.greater(rows["reward"], 0)).append_column(
        "was_shown", pc.is_in(rows["action"], value_set=pa.array(["tapped"]))).append_column(
        "seq", pa.array([number] * len(rows), pa.int64())) for number, rows in ((1, past), (2, fresh))]
    return merge_behaviour(base, pa.concat_tables(parts), after=1, counted=counted, items=ITEMS, **more)


@pytest.fixture
def base() -> pa.Table:
    return examples(("a", "i0", 10, "rating", 2.0), ("b", "i1", 20, "view", 1.0))


def told(found) -> list[tuple[str, str, bool]]:
    inter = found.inter
    return [(inter.users[u], inter.items[i], bool(n)) for u, i, n in zip(inter.user, inter.item, found.new, strict=True)]


def test_new_is_what_came_with_this_window(base):
    past = examples(("a", "i1", 30, "click", 1.0))
    found = merged(base, past, examples(("c", "i2", 40, "buy", 3.0), ("a", "i3", 25, "view", 1.0)))
    assert told(found) == [("a", "i0", False), ("b", "i1", False), ("a", "i3", True), ("a", "i1", False), ("c", "i2", True)]
    assert found.inter.weight.tolist() == [2, 1, 1, 1, 3]
    assert [found.inter.actions[a] for a in found.inter.action] == ["rating", "view", "view", "click", "buy"]


def test_examples_without_reward_are_no_behaviour(base):
    found = merged(base, examples(), examples(("a", "i1", 30, "view", 0.0), ("a", "i2", 31, "view", -1.0)))
    assert told(found) == [("a", "i0", False), ("b", "i1", False)]


def test_a_repeat_of_what_was_learnt_is_no_news(base):
    past = examples(("c", "i3", 5, "view", 1.0))
    found = merged(base, past, examples(("a", "i0", 50, "view", 1.0), ("c", "i3", 60, "view", 1.0)))
    assert told(found) == [("c", "i3", False), ("a", "i0", False), ("b", "i1", False)]
    assert found.inter.time.tolist() == [5, 10, 20]


def test_what_was_held_back_is_news_again(base):
    past = examples(("a", "i1", 30, "click", 1.0), ("a", "i2", 31, "click", 1.0))
    held = [("a", "i2"), ("b", "i1"), ("nobody", "i1"), ("a", "no item")]
    found = merged(base, past, examples(), held_back=held)
    assert told(found) == [("a", "i0", False), ("b", "i1", True), ("a", "i1", False), ("a", "i2", True)]
    assert not found.arrived.any()  # popularity has counted them


def test_there_need_be_no_base_and_unknown_items_are_left_out():
    found = merged(None, examples(), examples(("a", "gone", 1, "view", 1.0), ("a", "i1", 2, "view", 1.0)))
    assert told(found) == [("a", "i1", True)]
    assert found.inter.items == tuple(ITEMS)


def test_what_was_read_and_not_counted_arrives_and_is_not_new(base):
    past = examples(("a", "i1", 30, "click", 1.0))  # read by a version that was rolled back
    found = merged(base, past, examples(("c", "i2", 40, "buy", 3.0)), counted=0)
    assert told(found) == [("a", "i0", False), ("b", "i1", False), ("a", "i1", False), ("c", "i2", True)]
    assert found.arrived.tolist() == [False, False, True, True]


def test_what_was_acted_on_in_a_slate_is_told(base):
    past = examples(("a", "i1", 30, "tapped", 1.0), ("b", "i2", 31, "tapped", -1.0), ("b", "i2", 32, "click", 2.0))
    found = merged(base, past, examples(("b", "i3", 40, "tapped", 1.0), ("b", "i1", 41, "tapped", 1.0)))
    shown = {(user, item) for (user, item, _), was in zip(told(found), found.shown, strict=True) if was}
    assert shown == {("a", "i1"), ("b", "i3"), ("b", "i1")}
