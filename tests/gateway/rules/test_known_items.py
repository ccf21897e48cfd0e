"""What a catalogue says of rules' items: by Arrow as by the catalogue itself, and as a filter would."""
from pathlib import Path

import pytest

from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item
from tfrec.errors import DataError
from tfrec.gateway.rules.known_items import PinnedItem, read_known_items
from tfrec.gateway.rules.rule import BusinessRule, RuleBook
from tfrec.release.manifest import CATALOGUE
from tfrec.release.popularity_files import write_columns

ITEMS = Catalogue([
    Item(id="a", text="plain"), Item(id="b", text={"title": "fields"}, tags=("new", "red"), numeric={"price": 5, "year": 2000}),
    Item(id='c"', tags=("red",), numeric={"price": 60}, available=False), Item(id="d", tags=("old",), numeric={"year": 1990}),
    Item(id="123", dense={"v": (1.0, 2.0)}, numeric={"price": 50, "year": 2010}),
])


def book(*rules: dict[str, object]) -> RuleBook:
    return RuleBook(tuple(BusinessRule.model_validate({"name": f"r{n}", **rule}) for n, rule in enumerate(rules)))


@pytest.fixture
def version(tmp_path: Path) -> Path:
    ITEMS.write(tmp_path / CATALOGUE)
    write_columns(tmp_path, ITEMS.numeric_columns)
    return tmp_path


def test_ids_of_what_rules_touch(version: Path) -> None:
    found = read_known_items(version, book(
        {"do": "exclude", "items": ["a", "nobody"]},
        {"do": "exclude", "tags": ["red", "nothing"]},
        {"do": "exclude", "items": ["d"], "tags": ["new"]},
        {"do": "exclude", "bounds": {"price": {"min": 50}}},
        {"do": "exclude", "bounds": {"price": {"max": 50}}},
        {"do": "exclude", "bounds": {"weight": {"max": 50}}},
    ))
    without_price = {"a", "d"}
    assert [found.touched[f"r{n}"] for n in range(6)] == [
        {"a"}, {"b", 'c"'}, {"b", "d"}, {'c"', "123"} | without_price, {"b", "123"} | without_price, set()]
    assert found.columns == {"price", "year"}


def test_pinned_items_with_what_filters_ask(version: Path) -> None:
    found = read_known_items(version, book({"do": "pin", "items": ["b", 'c"', "nobody", "a"], "position": 0}))
    assert found.pinned == {
        "a": PinnedItem(frozenset(), {}, True), "b": PinnedItem(frozenset({"new", "red"}), {"price": 5, "year": 2000}, True),
        'c"': PinnedItem(frozenset({"red"}), {"price": 60}, False)}
    assert found.touched == {}


def test_a_catalogue_without_numbers_or_tags(tmp_path: Path) -> None:
    Catalogue([Item(id="a", text="x")]).write(tmp_path / CATALOGUE)
    found = read_known_items(tmp_path, book({"do": "exclude", "tags": ["t"]}, {"do": "pin", "items": ["a"], "position": 0}))
    assert (found.touched, found.pinned["a"]) == ({"r0": frozenset()}, PinnedItem(frozenset(), {}, True))


def test_a_version_without_a_catalogue_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the catalogue cannot be read"):
        read_known_items(tmp_path, book())
