"""Pairs from a file, from the log and from behaviour."""
import pyarrow as pa
import pytest

from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.examples.pairs import Pairs, joined, pairs_of_behaviour, pairs_of_log, read_queries
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.readers.quarantine import Quarantine
from tfrec.data.records import Item
from tfrec.errors import DataError

CATALOGUE = Catalogue([Item(id=name, text=f"text of {name}") for name in "abc"])


def told(pairs: Pairs) -> set[tuple[str, str, float]]:
    rows = zip(pairs.query, pairs.item, pairs.weight, strict=True)
    return {(pairs.queries[q], str(CATALOGUE.ids[i]), float(w)) for q, i, w in rows}


def test_the_same_pair_twice_weighs_as_much_as_both():
    pairs = Pairs.of([("q", "a", 1.0), ("q", "b", 2.0), ("q", "a", 0.5), (" ", "a", 1.0), ("p", "x", 1.0)], CATALOGUE)
    assert told(pairs) == {("q", "a", 1.5), ("q", "b", 2.0)}
    assert pairs.unknown_items == 1


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_file_of_queries(tmp_path, ending):
    text = {"csv": "query,item,weight\nheat,a,2\ncold,b,\nwarm,x,1\n",
            "jsonl": '{"query": "heat", "item": "a", "weight": 2}\n{"query": "cold", "item": "b"}\n'
                     '{"query": "warm", "item": "x"}\n'}
    (tmp_path / f"q.{ending}").write_text(text[ending])
    pairs = read_queries(tmp_path / f"q.{ending}", CATALOGUE, quarantine=None)
    assert told(pairs) == {("heat", "a", 2.0), ("cold", "b", 1.0)}
    assert pairs.unknown_items == 1


def test_a_bad_row_is_named_or_set_aside(tmp_path):
    (tmp_path / "q.csv").write_text("query,item,weight\nheat,a,-1\ncold,b,1\n")
    with pytest.raises(DataError, match=r'q.csv line 2: "weight": input should be greater than 0, got "-1"'):
        read_queries(tmp_path / "q.csv", CATALOGUE, quarantine=None)
    quarantine = Quarantine(tmp_path / "aside.jsonl")
    assert told(read_queries(tmp_path / "q.csv", CATALOGUE, quarantine=quarantine)) == {("cold", "b", 1.0)}
    assert quarantine.count == 1


def test_a_file_that_names_no_item_of_the_catalogue(tmp_path):
    (tmp_path / "q.csv").write_text("query,item\nheat,x\n")
    with pytest.raises(DataError, match=r"no usable pair: 1 name items that are not in the catalogue: .x. .*Expected rows"):
        read_queries(tmp_path / "q.csv", CATALOGUE, quarantine=None)


def test_of_the_log_what_was_chosen_after_a_query():
    rows = [{"query": "heat", "item": "a", "reward": 2.0}, {"query": "heat", "item": "a", "reward": 1.0},
            {"query": "heat", "item": "gone", "reward": 1.0}]
    assert told(pairs_of_log(pa.Table.from_pylist(rows), CATALOGUE)) == {("heat", "a", 3.0)}


def test_of_behaviour_which_item_follows_which():
    inter = Interactions.from_columns(["u", "v", "u", "u"], ["a", "c", "b", "c"], [1, 2, 3, 9], items=list("abc"))
    assert told(pairs_of_behaviour(inter, CATALOGUE)) == {("text of a", "b", 1.0), ("text of b", "c", 1.0)}
    assert told(pairs_of_behaviour(inter, CATALOGUE, within_seconds=3)) == {("text of a", "b", 1.0)}


def test_the_answers_of_each_query():
    pairs = Pairs.of([("q", "a", 1.0), ("p", "b", 1.0), ("q", "c", 1.0)], CATALOGUE)
    assert pairs.relevant(most=64).tolist() == [[0, 2], [1, -1]]
    assert pairs.relevant(most=1).tolist() == [[0], [1]]


def test_sources_are_joined():
    one, other = Pairs.of([("q", "a", 1.0)], CATALOGUE), Pairs.of([("p", "b", 1.0), ("q", "c", 2.0)], CATALOGUE)
    both = joined([one, other])
    assert both.queries == ("q", "p")
    assert told(both) == told(one) | told(other)


def test_a_query_is_held_out_with_all_its_pairs():
    pairs = Pairs.of([(f"query {n}", item, 1.0) for n in range(400) for item in "ab"], CATALOGUE)
    held_out = pairs.held_out(0.25)
    assert held_out.reshape(-1, 2).all(1).sum() == held_out.reshape(-1, 2).any(1).sum()
    assert 0.18 < held_out.mean() < 0.32
    assert len(pairs.take(held_out)) == held_out.sum()
