"""What a column is: known kinds hold, one value does not decide for the others, and what is left out is said."""
import json
import logging

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrec.data.items.catalogue import Catalogue, read_catalogue
from tfrec.data.items.column_kinds import ColumnKinds
from tfrec.data.records import Item


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


PRICES = [{"id": f"i{k}", "colour": f"red {k}", "price": k + 0.5} for k in range(8)]
TRAINED = Catalogue([Item(id="i0", text={"colour": "red"}, numeric={"price": 0.5}, dense={"image": (1.0, 2.0)})])


@pytest.mark.parametrize("odd", ["—", "-", "n/a", "$8", "8 €", "1.299,00", "call us", float("nan")])
def test_one_odd_value_does_not_make_text_of_a_numeric_column(tmp_path, caplog, odd):
    path = lines(tmp_path / "i.jsonl", *PRICES[:7], PRICES[7] | {"price": odd})
    for kinds in (None, TRAINED.kinds):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            items = read_catalogue(path, kinds=kinds).items
        assert [item.numeric for item in items] == [{"price": k + 0.5} for k in range(7)] + [{}]
        assert {*items[0].text} == {"colour"}
        if odd == odd:  # NaN is how a data frame writes nothing
            trained = " in the catalogue that was trained" if kinds else ""
            assert f'"price" holds plain numbers{trained}, but 1 of its 8 values' in caplog.text
            assert f"the first in line 8 ({json.dumps(odd, ensure_ascii=False)})" in caplog.text


@pytest.mark.parametrize("title", ["title", "Title", "product_name", "productName", "description", "text.label"])
def test_a_title_that_looks_like_a_number_is_a_title(tmp_path, title):
    path = tmp_path / "one.csv"
    path.write_text(f"id,{title},price\nm1917,1917,9.5\n")
    [item] = read_catalogue(path).items
    assert (item.full_text, item.numeric) == ("1917", {"price": 9.5})


@pytest.mark.parametrize("name", ["one.csv", "one.jsonl", "one.parquet"])
def test_the_kinds_of_the_trained_catalogue_hold_for_a_later_file(tmp_path, name):
    row = {"id": "j501", "colour": 501, "price": 60}
    if name.endswith("csv"):
        (tmp_path / name).write_text("id,colour,price\nj501,501,60\n")
    elif name.endswith("jsonl"):
        lines(tmp_path / name, row)
    else:
        pq.write_table(pa.Table.from_pylist([row | {"colour": 501.0}]), tmp_path / name)
    [item] = read_catalogue(tmp_path / name, kinds=TRAINED.kinds).items
    assert (item.text, item.numeric) == ({"colour": "501"}, {"price": 60.0})


VALUES = st.sampled_from(["1917", "9.5", "Heat", "—", "", "[1, 2]", "$8"])


@given(st.lists(VALUES, max_size=6), st.sampled_from(["text", "numeric", "dense"]))
def test_a_known_kind_holds_whatever_the_values(values, kind):
    columns = ColumnKinds({"x": kind})
    rows = [{"id": "i", "x": value} if value else {"id": "i"} for value in values]
    for number, row in enumerate(rows):
        columns.see(number, f"line {number}", row)
    columns.decide()
    for number, row in enumerate(rows):
        assert {*columns.item_row(f"line {number}", row)} <= {"id", kind}


def test_a_text_column_of_some_numbers_stays_text_and_says_why(tmp_path, caplog):
    path = lines(tmp_path / "i.jsonl", *({"id": k, "size": size} for k, size in enumerate(["38", "40", "42", "L"])))
    with caplog.at_level(logging.WARNING):
        items = read_catalogue(path).items
    assert [item.full_text for item in items] == ["38", "40", "42", "L"]
    assert '"size" is read as text, though 3 of its 4 values are numbers, because of line 4 ("L"). ' in caplog.text
    assert "name it numeric.size" in caplog.text


def test_the_name_of_a_column_may_say_its_kind(tmp_path):
    path = tmp_path / "i.csv"
    path.write_text('id,numeric.size,text.code,dense.image\n1,38,7,"[0.5, 1]"\n2,L,8,\n')
    first, second = read_catalogue(path).items
    assert first == Item(id="1", text={"code": "7"}, numeric={"size": 38.0}, dense={"image": (0.5, 1.0)})
    assert second == Item(id="2", text={"code": "8"})


def test_lists_in_a_csv_are_lists(tmp_path):
    path = tmp_path / "i.csv"
    path.write_text("""id,tags,image\n1,"['Drama', 'War']","[0.1, 0.2]"\n2,Drama|War,"[1, 2]"\n""")
    first, second = read_catalogue(path).items
    assert first.tags == second.tags == ("Drama", "War")
    assert (first.dense, second.dense) == ({"image": (0.1, 0.2)}, {"image": (1.0, 2.0)})


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "__index_level_0__", "index", "level_0", "row_number", "_c0"])
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_the_number_of_a_row_is_left_out_with_a_word(tmp_path, caplog, name, suffix):
    rows = [{name: k, "id": f"i{k}", "title": "Bat"} for k in range(3)]
    path = tmp_path / f"i.{suffix}"
    if suffix == "csv":
        path.write_text(f"{name},id,title\n" + "".join(f"{k},i{k},Bat\n" for k in range(3)))
    elif suffix == "jsonl":
        lines(path, *rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    with caplog.at_level(logging.WARNING):
        assert read_catalogue(path).items == tuple(Item(id=f"i{k}", text={"title": "Bat"}) for k in range(3))
    assert "seems to be the number of the row, and is left out" in caplog.text


def test_an_index_that_does_not_count_the_rows_is_a_feature(tmp_path):
    path = lines(tmp_path / "i.jsonl", {"id": 1, "index": 7.0}, {"id": 2, "index": 3.0})
    assert read_catalogue(path).items[0].numeric == {"index": 7.0}


def test_words_for_a_missing_value_in_texts_are_counted(tmp_path, caplog):
    path = lines(tmp_path / "i.jsonl", {"id": 1, "title": "nan"}, {"id": 2, "title": "Heat"}, {"id": 3, "title": float("nan")})
    with caplog.at_level(logging.WARNING):
        assert read_catalogue(path).texts == ["nan", "Heat", ""]
    assert '1 texts of the column "title" seem to stand for a missing value' in caplog.text


def test_numbers_as_ids_are_the_same_text_in_every_format(tmp_path):
    (tmp_path / "i.csv").write_text("id\n10\n")
    lines(tmp_path / "i.jsonl", {"id": 10})
    lines(tmp_path / "f.jsonl", {"id": 10.0})
    pq.write_table(pa.table({"id": [10]}), tmp_path / "i.parquet")
    pq.write_table(pa.table({"id": [10.0]}), tmp_path / "f.parquet")
    assert {read_catalogue(path).items[0].id for path in tmp_path.iterdir()} == {"10"}
