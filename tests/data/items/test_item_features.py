"""The columns of item features: literal rows, columns that stay where they are, numbers out of all proportion."""
import numpy as np
from numpy.testing import assert_allclose, assert_array_equal

from tfrec.data.items.item_features import FAR, OWN_TAGS, SHARED_TAGS, ItemFeatures
from tfrec.data.records import Item

NUMBERS = OWN_TAGS + SHARED_TAGS  # the first column after the tags
ITEMS = [
    Item(id="a", tags=("red", "tall"), numeric={"year": 2000.0, "price": 1.0}),
    Item(id="b", tags=("red",), numeric={"year": 2010.0}, dense={"image": (0.5, -1.0)}),
]


def test_two_items_by_hand():
    features = ItemFeatures.fit(ITEMS)
    assert features.tags == ("red", "tall")  # the more frequent first
    assert features.numeric == {"price": (1.0, 1.0), "year": (2005.0, 5.0)}
    assert features.width == NUMBERS + 2 + 2
    expected = np.zeros((2, features.width), np.float32)
    expected[0, [0, 1, NUMBERS + 1]] = [1, 1, -1]
    expected[1, [0, NUMBERS + 1, NUMBERS + 2, NUMBERS + 3]] = [1, 1, 0.5, -1]
    assert_array_equal(features.matrix(ITEMS), expected)


def test_rare_and_unknown_tags_share_hashed_columns():
    many = [Item(id=str(n), tags=(f"t{n:02d}",)) for n in range(OWN_TAGS + 3)]
    features = ItemFeatures.fit(many)
    rows = features.matrix([*many, Item(id="new", tags=("never seen",))])
    assert_array_equal(rows[:OWN_TAGS, :OWN_TAGS], np.eye(OWN_TAGS))
    for row in rows[OWN_TAGS:]:
        assert row[:OWN_TAGS].sum() == 0
        assert row[OWN_TAGS:NUMBERS].sum() == 1
    # sha1("never seen") begins with bb8fb152
    assert rows[-1, OWN_TAGS + 0xBB8FB152 % SHARED_TAGS] == 1


def test_new_items_do_not_move_columns():
    features = ItemFeatures.fit(ITEMS)
    new = Item(id="c", tags=("blue",), numeric={"weight": 3.0, "year": 2005.0}, dense={"image": (1.0, 2.0, 3.0), "sound": (1.0,)})
    row = features.matrix([new])[0]
    assert len(row) == features.width
    assert row[:OWN_TAGS].sum() == 0
    assert row[NUMBERS:].tolist() == [0, 0, 0, 0]  # no price, the mean year, a vector of another length, an unknown one


def test_json_round_trip():
    features = ItemFeatures.fit(ITEMS)
    again = ItemFeatures.model_validate_json(features.model_dump_json())
    assert again == features
    assert_array_equal(again.matrix(ITEMS), features.matrix(ITEMS))


def test_equal_numbers_are_no_signal():
    # the mean of three 0.1 is not 0.1 in floating point, and their deviation not 0
    same = [Item(id=str(n), numeric={"x": 0.1}) for n in range(3)]
    features = ItemFeatures.fit(same)
    assert features.numeric["x"][1] == 1.0
    assert_allclose(features.matrix(same)[:, NUMBERS], 0, atol=1e-9)


def test_a_number_out_of_all_proportion_counts_as_far():
    features = ItemFeatures.fit(ITEMS)
    rows = features.matrix([Item(id="c", numeric={"year": 1e300}), Item(id="d", numeric={"year": -1e300})])
    assert rows[:, NUMBERS + 1].tolist() == [FAR, -FAR]


def test_no_items_and_items_without_features():
    features = ItemFeatures.fit([Item(id="a")])
    assert features.matrix([Item(id="a")]).sum() == 0
    assert features.matrix([]).shape == (0, NUMBERS)
