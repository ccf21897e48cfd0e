import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrec.config import RewardConfig
from tfrec.data.behaviour.interaction_files import read_interactions
from tfrec.data.behaviour.interactions import Interactions, event_sha1, event_sha1s, first_64_bits
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.readers.quarantine import Quarantine
from tfrec.data.records import Item
from tfrec.errors import DataError, UsageError

EVENTS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(0, 3)), max_size=30)


def rows_of(inter):
    return [(inter.users[u], inter.items[i], int(t)) for u, i, t in zip(inter.user, inter.item, inter.time, strict=True)]


def columns(events):
    return [e[0] for e in events], [e[1] for e in events], [e[2] for e in events]


def reference(events):
    """The rules of the protocol, one event at a time."""
    ordered = sorted(events, key=lambda e: (e[2], hashlib.sha1("{}|{}|{}".format(*e).encode()).hexdigest()))
    first = {}
    for user, item, time in ordered:
        first.setdefault((user, item), (user, item, time))
    return list(first.values())


@given(EVENTS)
def test_order_and_repeats_follow_the_protocol(events):
    inter = Interactions.from_columns(*columns(events))
    expected = reference(events)
    assert rows_of(inter) == expected
    assert list(inter.users) == list(dict.fromkeys(u for u, _, _ in expected))
    assert list(inter.items) == list(dict.fromkeys(i for _, i, _ in expected))


@given(EVENTS)
def test_a_catalogue_fixes_the_codes_and_drops_what_it_lacks(events):
    inter = Interactions.from_columns(*columns(events), items=["y", "q", "x"])
    assert rows_of(inter) == reference([e for e in events if e[1] != "z"])
    assert inter.items == ("y", "q", "x")
    assert inter.unknown_items == sum(e[1] == "z" for e in events)


@given(EVENTS)
def test_events_are_coded_by_a_catalogue_as_if_they_had_been_read_with_it(events):
    catalogue = Catalogue([Item(id=item) for item in ("y", "q", "x", "z")])
    inter = Interactions.from_columns(*columns(events)).coded_by(catalogue)
    expected = Interactions.from_columns(*columns(events), items=catalogue.ids.tolist())
    assert (inter.items, inter.users) == (expected.items, expected.users)
    assert (inter.item.tolist(), inter.user.tolist()) == (expected.item.tolist(), expected.user.tolist())
    assert inter.item.dtype == np.int32


def test_a_catalogue_that_lacks_an_item_codes_no_events():
    with pytest.raises(DataError, match=r"got one without \['y'\]"):
        Interactions.from_columns(["a", "a"], ["x", "y"], [1, 2]).coded_by(Catalogue([Item(id="x")]))


def test_types_actions_and_weights():
    inter = Interactions.from_columns(["b", "a"], ["x", "y"], [9, 3], action=["buy", "view"], weight=[5, 1])
    assert rows_of(inter) == [("a", "y", 3), ("b", "x", 9)]
    assert [inter.actions[a] for a in inter.action] == ["view", "buy"]
    assert inter.weight.tolist() == [1.0, 5.0]
    assert [c.dtype.name for c in (inter.user, inter.item, inter.time, inter.action, inter.weight)] == [
        "int32", "int32", "int64", "int16", "float32",
    ]  # fmt: skip


def test_slice_and_split():
    inter = Interactions.from_columns(list("abcdefg"), list("xyxyxyx"), range(7))
    assert inter.split(0.8) == 5
    tail = inter.slice(5, 7)
    assert rows_of(tail) == [("f", "y", 5), ("g", "x", 6)]
    assert tail.users == inter.users
    with pytest.raises(DataError, match="between 0 and 1, got 80"):
        inter.split(80)


def test_events_among_pairs():
    inter = Interactions.from_columns(list("abca"), list("xyzz"), range(4))

    def among(*pairs):
        users, items = zip(*pairs, strict=True) if pairs else ((), ())
        return inter.among(pa.array(users, pa.string()), pa.array(items, pa.string())).tolist()

    assert among(("a", "z"), ("b", "x"), ("c", "z"), ("nobody", "x"), ("a", "nothing"), (None, None), ("a", "z")) == [
        False, False, True, True]
    assert among() == [False] * 4
    assert not inter.slice(0, 0).among(pa.array(["a"]), pa.array(["x"])).size


def test_columns_of_different_lengths():
    with pytest.raises(DataError, match=r"one length, got \(2, 1, 2, 2, 2\)"):
        Interactions.from_columns(["a", "b"], ["x"], [1, 2])


def test_a_column_of_ids_is_no_action():
    ids = [str(k) for k in range(40_000)]
    with pytest.raises(DataError, match="40000 different actions"):
        Interactions.from_columns(ids, ids, range(40_000), action=ids)


def test_the_sha1_of_an_event():
    assert event_sha1("1", "31", 1260759144) == hashlib.sha1(b"1|31|1260759144").hexdigest()


def test_the_sha1s_of_many_events():
    users, items = ["1", "\u00e9"], ["31", "x|y"]
    found = event_sha1s(np.array([0, 1, 1]), np.array([0, 1, 0]), np.array([1260759144, 5, -1]), users, items)
    expected = [event_sha1("1", "31", 1260759144), event_sha1("\u00e9", "x|y", 5), event_sha1("\u00e9", "31", -1)]
    assert [row.tobytes().hex() for row in found] == expected
    assert first_64_bits(found).tolist() == [int(digits[:16], 16) for digits in expected]
    assert first_64_bits(event_sha1s(*[np.zeros(0, int)] * 3, users, items)).tolist() == []


ROWS = [
    {"user": "7", "item": "x", "time": 20, "action": "buy", "value": 2.5},
    {"user": "007", "item": "y", "time": 10, "action": "view", "value": 1.0},
]


def write(path, rows):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    elif path.suffix == ".csv":
        path.write_text("".join(",".join(map(str, line)) + "\n" for line in [rows[0], *(r.values() for r in rows)]))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_read_from_any_format(tmp_path, suffix):
    inter = read_interactions(write(tmp_path / f"i.{suffix}", ROWS), catalogue=None, quarantine=None)
    assert rows_of(inter) == [("007", "y", 10), ("7", "x", 20)]
    assert [inter.actions[a] for a in inter.action] == ["view", "buy"]
    assert inter.weight.tolist() == [1.0, 2.5]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_action_and_value_are_optional(tmp_path, suffix):
    rows = [{"user": 1, "item": 2, "time": 3}]
    inter = read_interactions(write(tmp_path / f"i.{suffix}", rows), catalogue=None, quarantine=None)
    assert rows_of(inter) == [("1", "2", 3)]
    assert (inter.actions, inter.weight.tolist()) == (("view",), [1.0])


def test_a_reward_rule_makes_the_weights(tmp_path):
    path = write(tmp_path / "i.csv", ROWS)
    shop = RewardConfig(weights={"buy": 2.0}, valued=("buy",))
    assert read_interactions(path, catalogue=None, quarantine=None, reward=shop).weight.tolist() == [5.0]
    with pytest.raises(DataError, match="its actions are buy, view, reward.weights names watch"):
        read_interactions(path, catalogue=None, quarantine=None, reward=RewardConfig(weights={"watch": 1.0}))


@pytest.mark.parametrize("bad", ["a,x,soon", "a,x,-1", ",x,5", "a,x", "a,x,1.5", "a," + "x" * 513 + ",5", "a,x,99999999999999"])
def test_one_bad_row_is_named_and_the_rest_used(tmp_path, bad):
    path = tmp_path / "i.csv"
    path.write_text(f"user,item,time\na,x,1\n{bad}\nb,y,2\n")
    quarantine = Quarantine(tmp_path / "bad.jsonl")
    assert rows_of(read_interactions(path, catalogue=None, quarantine=quarantine)) == [("a", "x", 1), ("b", "y", 2)]
    [entry] = map(json.loads, quarantine.path.read_text().splitlines())
    assert (entry["file"], entry["line"]) == (str(path), 3)
    with pytest.raises(DataError, match=r"i.csv line 3: "):
        read_interactions(path, catalogue=None, quarantine=None)


@pytest.mark.parametrize(
    "table",
    [
        {"user": ["a"], "item": ["x"], "time": pa.array([5], pa.timestamp("ms"))},
        {"user": ["a"], "item": ["x"], "time": [5], "value": [float("inf")]},
        {"user": ["a"], "item": [None], "time": [5]},
    ],
)
def test_parquet_that_does_not_fit_is_checked_by_rows(tmp_path, table):
    pq.write_table(pa.table(table), tmp_path / "i.parquet")
    with pytest.raises(DataError, match=r"i.parquet line 1: "):
        read_interactions(tmp_path / "i.parquet", catalogue=None, quarantine=None)


def test_a_truncated_parquet_file_is_named(tmp_path):
    path = write(tmp_path / "i.parquet", ROWS)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=r"i.parquet: truncated or damaged"):
        read_interactions(path, catalogue=None, quarantine=None)


def test_a_log_without_known_items(tmp_path):
    with pytest.raises(DataError, match="all 2 name items that are not in the catalogue"):
        read_interactions(write(tmp_path / "i.csv", ROWS), catalogue=Catalogue([Item(id="q")]), quarantine=None)
    (tmp_path / "empty.csv").write_text("user,item,time\n")
    with pytest.raises(DataError, match="it has no good rows"):
        read_interactions(tmp_path / "empty.csv", catalogue=None, quarantine=None)


def test_many_events_stay_in_order():
    rng = np.random.default_rng(0)
    n = 200_000
    user, item = pa.array(rng.integers(0, 5000, n).astype(str)), pa.array(rng.integers(0, 3000, n).astype(str))
    inter = Interactions.from_columns(user, item, rng.integers(0, 10**9, n))
    assert 190_000 < len(inter) < n
    assert (np.diff(inter.time) >= 0).all()


def test_dismissals_are_no_behaviour_and_what_follows_them_is(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user,item,time,action\nu,a,1,dislike\nu,b,2,view\nu,a,3,buy\nv,b,4,dislike\n")
    shop = RewardConfig(weights={"buy": 2.0, "dislike": -1.0})
    inter = read_interactions(path, catalogue=None, quarantine=None, reward=shop)
    assert (rows_of(inter), inter.weight.tolist()) == ([("u", "a", 3)], [1.0])
    path.write_text("user,item,time,action\nu,a,1,dislike\n")
    with pytest.raises(DataError, match="no event has a reward"):
        read_interactions(path, catalogue=None, quarantine=None, reward=shop)


def test_a_weight_that_is_no_number_is_named():
    with pytest.raises(DataError, match="weights must be finite, got inf for 'v' and 'y', and 1 others"):
        Interactions.from_columns(["u", "v", "w"], ["x", "y", "y"], [1, 2, 3], weight=[1.0, np.inf, np.nan])


@pytest.mark.parametrize("value", ["inf", "nan", "1e300"])
def test_a_value_that_could_not_be_added_up_is_a_bad_row(tmp_path, value):
    path = tmp_path / "log.csv"
    path.write_text(f"user,item,time,value\nu,a,1,2\nu,b,2,{value}\n")
    with pytest.raises(DataError, match='log.csv line 3: "value"'):
        read_interactions(path, catalogue=None, quarantine=None)


def test_lengths_of_items_are_asked_for(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user,item,time,action,value\nu,a,1,watch,30\nu,b,2,watch,30\n")
    film = RewardConfig(weights={"watch": 2.0}, lengths={"watch": "minutes"})
    with pytest.raises(UsageError, match="reward.lengths names a column"):
        read_interactions(path, catalogue=None, quarantine=None, reward=film)
    known = Catalogue([Item(id="a", numeric={"minutes": 120.0}), Item(id="b")])
    assert read_interactions(path, catalogue=known, quarantine=None, reward=film).weight.tolist() == [0.5]
