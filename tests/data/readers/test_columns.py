"""A header that does not fit is named once, with the columns that the file has and the likely cause."""
import json
import logging

import pytest

from tfrec.data.examples.pairs import read_queries
from tfrec.data.items.catalogue import Catalogue, read_catalogue
from tfrec.data.readers.event_files import read_events
from tfrec.data.readers.quarantine import Quarantine
from tfrec.data.records import Item
from tfrec.errors import DataError

ROW = "ann,10,1700000000"


@pytest.mark.parametrize(
    ("header", "row", "cause"),
    [
        ("user;item;time", "ann;10;1", 'separated by ";": save the file with commas'),
        ("user\titem\ttime", "ann\t10\t1", "separated by a tab"),
        ("user|item|time", "ann|10|1", r'separated by "\|"'),
        ("UserID::MovieID::Rating::Timestamp", "1::2::3::4", 'separated by "::".*Rename "UserID" to user, "MovieID" to item'),
        ("ann;10;1700000000", "ann;10;1", 'separated by ";".*The first line seems to be a row'),
        ("user, item, time", "ann, 10, 1", "There are spaces around the names"),
        ("User,Item,Time", ROW, 'Rename "User" to user, "Item" to item, "Time" to time in the header. Capitals count'),
        ("userId,movieId,timestamp", ROW, 'Rename "userId" to user, "movieId" to item, "timestamp" to time'),
        ("user_id,parent_asin,ts", ROW, 'Rename "user_id" to user, "parent_asin" to item, "ts" to time'),
        ("visitorid,itemid,unix_timestamp", ROW, 'Rename "visitorid" to user, "itemid" to item, "unix_timestamp" to time'),
        ("user,itme,time", ROW, 'Missing: item. Rename "itme" to item'),
        ("ann,10,1700000000", ROW, "The first line seems to be a row, and not a header.*user,item,time"),
        (",user,item", "0,ann,10", "Missing: time. A column has no name"),
        ("user,item", "ann,10", "Missing: time. Rename the columns that hold this, or add them"),
    ],
)
def test_the_message_has_the_columns_of_the_file_those_missing_and_the_cause(tmp_path, header, row, cause):
    path = tmp_path / "e.csv"
    path.write_text(f"{header}\n{row}\n")
    named = ", ".join(json.dumps(name) for name in header.split(","))
    for quarantine in (None, Quarantine(tmp_path / "bad.jsonl")):  # which must not take every row
        with pytest.raises(DataError, match=rf"e\.csv: expected the columns user, item, time \(optional: .*{cause}") as error:
            read_events(path, quarantine)
        assert f"the file has {named}" in str(error.value)
        assert quarantine is None or quarantine.count == 0


@pytest.mark.parametrize(
    ("header", "cause"),
    [("Id,title", 'Rename "Id" to id'), ("item_id,title", 'Rename "item_id" to id'), ("movieId;title", 'separated by ";"'),
     ("title,price", "Missing: id")],
)
def test_so_it_is_for_a_catalogue(tmp_path, header, cause):
    (tmp_path / "items.csv").write_text(f"{header}\n1{';' if ';' in header else ','}Ball\n")
    with pytest.raises(DataError, match=rf"expected the columns id \(or item\).*{cause}"):
        read_catalogue(tmp_path / "items.csv")


def test_so_it_is_for_queries(tmp_path):
    (tmp_path / "q.csv").write_text("search_term,product_id\nball,1\n")
    with pytest.raises(DataError, match='expected the columns query, item .*Rename "search_term" to query, "product_id" to item'):
        read_queries(tmp_path / "q.csv", Catalogue([Item(id="1")]), quarantine=None)


def test_json_lines_have_no_header_and_name_what_a_row_has(tmp_path):
    path = tmp_path / "e.jsonl"
    path.write_text('{"userId": 1, "item": 2, "ts": 3}\n' * 2)
    with pytest.raises(DataError, match='line 1: "user": field required; "time": .* is "userId" its user and "ts" its time?'):
        read_events(path, None)
    quarantine = Quarantine(tmp_path / "bad.jsonl")
    with pytest.raises(DataError, match=r"no row is good, 2 are bad; 2 times: .*is \"userId\" its user.*bad\.jsonl"):
        read_events(path, quarantine)


@pytest.mark.parametrize(("header", "said"), [
    ("user,item,time,Action", '"Action" is not read. If it is what tfrec calls "action"'),
    ("user,item,time,event_type", '"event_type" is not read. If it is what tfrec calls "action"'),
    ("user,item,time,rating", '"rating" is not read. If it is what tfrec calls "value"'),
])  # fmt: skip
def test_a_column_that_seems_to_be_meant_and_is_not_read_is_said(tmp_path, caplog, header, said):
    (tmp_path / "e.csv").write_text(f"{header}\n{ROW},5\n")
    with caplog.at_level(logging.WARNING):
        read_events(tmp_path / "e.csv", None)
    assert said in caplog.text


def test_other_columns_are_nobodys_business(tmp_path, caplog):
    (tmp_path / "e.csv").write_text(f"user,item,time,action,colour\n{ROW},view,red\n")
    with caplog.at_level(logging.WARNING):
        read_events(tmp_path / "e.csv", None)
    assert caplog.text == ""


def test_a_name_that_is_there_twice_is_refused(tmp_path):
    (tmp_path / "e.csv").write_text(f"user,item,time,item\n{ROW},5\n")
    with pytest.raises(DataError, match='the column "item" is there more than once'):
        read_events(tmp_path / "e.csv", None)
    (tmp_path / "i.jsonl").write_text('{"id": 1, "id": 2}\n')
    with pytest.raises(DataError, match='the key "id" is there twice'):
        read_catalogue(tmp_path / "i.jsonl")
