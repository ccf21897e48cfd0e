import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrec.data.items.catalogue import Catalogue, read_catalogue
from tfrec.data.readers.quarantine import Quarantine
from tfrec.data.records import Item
from tfrec.errors import DataError

HEAT = Item(id="h", text={"title": "Heat", "genres": "Crime"}, tags=("Crime",), numeric={"year": 1995.0})


def test_positions_ids_and_texts():
    catalogue = Catalogue([HEAT, Item(id="x", text="plain")])
    assert len(catalogue) == 2
    assert catalogue.ids.tolist() == ["h", "x"]
    assert catalogue.index == {"h": 0, "x": 1}
    assert catalogue.texts == ["Heat. Crime", "plain"]


def test_ids_are_unique():
    with pytest.raises(DataError, match="'h' occurs more than once"):
        Catalogue([HEAT, Item(id="x"), HEAT])


def test_with_items_replaces_in_place_and_appends():
    changed = Catalogue([Item(id="a"), Item(id="b")]).with_items([Item(id="c"), Item(id="a", text="new")])
    assert changed.ids.tolist() == ["a", "b", "c"]
    assert changed.texts == ["new", "", ""]


@given(st.lists(st.sampled_from("abcdef"), unique=True), st.lists(st.sampled_from("abcdefgh")))
def test_known_items_never_move(old, new):
    catalogue = Catalogue([Item(id=i) for i in old])
    grown = catalogue.with_items(Item(id=i, text="new") for i in new)
    assert grown.ids.tolist()[: len(old)] == old
    assert set(grown.index) == set(old) | set(new)


def test_the_digest_follows_contents_and_order():
    a, b = Item(id="a"), Item(id="b")
    assert Catalogue([a, b]).digest() == Catalogue([a, b]).digest()
    assert len({Catalogue(items).digest() for items in ([a, b], [b, a], [a], [a, Item(id="b", text="t")])}) == 4


def test_written_and_read_back(tmp_path):
    catalogue = Catalogue([HEAT, Item(id="v", dense={"image": (0.5, -1.0)}, created_at=5, available=False)])
    catalogue.write(tmp_path / "new" / "items.jsonl")
    assert read_catalogue(tmp_path / "new" / "items.jsonl").items == catalogue.items
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["items.jsonl"]


def test_csv_columns_find_their_place(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text("item,title,tags,price,maker,created_at,available\n1,Lamp,home | light,9.5,Acme,60,false\n2,Rug,,,7,,\n")
    lamp, rug = read_catalogue(path).items
    texts = {"title": "Lamp", "maker": "Acme"}
    assert lamp == Item(id="1", text=texts, tags=("home", "light"), numeric={"price": 9.5}, created_at=60, available=False)
    assert rug == Item(id="2", text={"title": "Rug", "maker": "7"})


def test_parquet_lists_become_tags_and_vectors(tmp_path):
    path = tmp_path / "items.parquet"
    row = {"id": 3, "text": "Lamp", "tags": ["a", "b"], "image": [1.0, 2.0], "actors": ["X", "Y"]}
    pq.write_table(pa.Table.from_pylist([row]), path)
    [item] = read_catalogue(path).items
    assert item == Item(id="3", text={"text": "Lamp", "actors": "X, Y"}, tags=("a", "b"), dense={"image": (1.0, 2.0)})


def test_bad_and_repeated_items_are_set_aside(tmp_path):
    path = tmp_path / "items.jsonl"
    rows = [{"id": "a"}, {"text": "no id"}, {"id": "a"}, {"id": "b", "numeric": [1], "price": 2}, {"id": "c", "price": 1}]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    quarantine = Quarantine(tmp_path / "bad.jsonl")
    assert read_catalogue(path, quarantine).ids.tolist() == ["a", "c"]
    assert [json.loads(line)["line"] for line in quarantine.path.read_text().splitlines()] == [2, 3, 4]
    with pytest.raises(DataError, match=r'items.jsonl line 2: "id": field required'):
        read_catalogue(path)


def test_a_file_without_items(tmp_path):
    (tmp_path / "items.csv").write_text("id,text\n")
    with pytest.raises(DataError, match="no usable item"):
        read_catalogue(tmp_path / "items.csv")
