"""Ids that meet nothing, beside the nearest of the catalogue and the likely cause."""
import logging

import pytest

from tfrec.config import Config
from tfrec.data.behaviour.dataset import read_dataset
from tfrec.data.behaviour.interaction_files import read_interactions
from tfrec.data.examples.pairs import read_queries
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.items.unknown_ids import explain_unknown
from tfrec.data.readers.event_files import read_events
from tfrec.data.records import Item
from tfrec.errors import DataError

KNOWN = [str(k) for k in range(10, 60)]


@pytest.mark.parametrize(
    ("unknown", "known", "pair", "cause"),
    [
        (["10.0", "17.0"], KNOWN, '"10.0" beside "10"', "a decimal point"),
        (["10 ", " 11"], KNOWN, '"10 " beside "10"', "spaces beside them"),
        (["0010", "011"], KNOWN, '"0010" beside "10"', "leading zeros"),
        (["10"], ["0010"], '"10" beside "0010"', "leading zeros"),
        (["ABC"], ["abc"], '"ABC" beside "abc"', "capitals"),
        (["item_10", "item_11"], KNOWN, '"item_10" beside "10"', "a prefix"),
        (["b'10'"], KNOWN, """"b'10'" beside "10\"""", "bytes written as text"),
        (['"10"'], KNOWN, '""10"" beside "10"', "quotes around them"),
        ([" 0010.0"], KNOWN, '" 0010.0" beside "10"', "several of"),
        (["１０"], KNOWN, '"１０" beside "10"', "another Unicode form"),
        (["shoe-1"], ["shoe-2", "hat"], '"shoe-1" (nearest of the catalogue: "shoe-2")', ""),
        (["xyz"], KNOWN, '"xyz" (nearest of the catalogue: none, its ids are like "10")', ""),
    ],
)
def test_the_difference_is_named(unknown, known, pair, cause):
    said = explain_unknown(unknown, known)
    assert pair in said
    assert cause in said


@pytest.fixture
def files(tmp_path):
    items, events = tmp_path / "items.csv", tmp_path / "events.csv"
    items.write_text("id,title\n" + "".join(f"{k},thing {k}\n" for k in KNOWN))
    return items, events


@pytest.mark.parametrize("command", ["train", "evaluate"])
@pytest.mark.parametrize(("form", "cause"), [("{}.0", "decimal point"), ("{} ", "spaces"), ("0{}", "zeros")])
def test_every_command_stops_when_no_id_meets(files, tmp_path, command, form, cause):
    files[1].write_text("user,item,time\n" + "".join(f"u,{form.format(k)},{k}\n" for k in KNOWN[:5]))
    with pytest.raises(DataError, match=rf'"{form.format("10")}" beside "10".*{cause}.*Write the ids in both files alike'):
        read_dataset(Config(run=tmp_path), *files, skip_bad_rows=False, command=command, with_unknown_items=command == "evaluate")


def test_queries_stop_as_well(files, tmp_path):
    catalogue = Catalogue([Item(id=k) for k in KNOWN])
    (tmp_path / "q.csv").write_text("query,item\nball,10.0\n")
    with pytest.raises(DataError, match='no usable pair: 1 name items.*"10.0" beside "10"'):
        read_queries(tmp_path / "q.csv", catalogue, quarantine=None)


def test_a_few_ids_that_meet_nothing_are_named_by_how_often_they_are(files, tmp_path, caplog):
    files[1].write_text("user,item,time\nu,10,1\nu,99,2\nv,99,3\nu,98,4\n")
    with caplog.at_level(logging.WARNING):
        read_dataset(Config(run=tmp_path), *files, skip_bad_rows=False, command="train")
    assert f"3 events name items that are not in {files[0]}; they are left out: \"99\" (nearest" in caplog.text


def test_columns_that_were_taken_for_each_other(files):
    files[1].write_text("user,item,time\n10,ann,1\n11,bob,2\n")
    with pytest.raises(DataError, match="are the columns user and item swapped"):
        read_interactions(files[1], catalogue=Catalogue([Item(id=k) for k in KNOWN]), quarantine=None)


def test_words_for_a_missing_id_are_mentioned(files, caplog):
    files[1].write_text("user,item,time\nnan,10,1\nNone,11,2\nNULL,12,3\nnan,13,4\nann,nan,5\n")
    with caplog.at_level(logging.WARNING):
        assert read_events(files[1], None).num_rows == 5
    assert 'ids of "user" that seem to stand for a missing one: 2 "nan", 1 "None", 1 "NULL"' in caplog.text
    assert 'ids of "item" that seem to stand for a missing one: 1 "nan"' in caplog.text
