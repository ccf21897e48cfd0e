"""Slates by number: what each field becomes, by hand."""
import json

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal

from tfrec.data.examples.sequences import PAD
from tfrec.data.examples.slate_arrays import SlateArrays
from tfrec.data.examples.slate_encoder import SlateEncoder
from tfrec.data.examples.slates import SLATES
from tfrec.data.items.numeric_columns import MISSING
from tfrec.data.records import ServedContext
from tfrec.errors import DataError


def slate(user: str, time: int, *shown: tuple[object, ...], **more: object) -> dict[str, object]:
    """A row of `SLATES`: `shown` are (item, log propensity, reward, converted, delay)."""
    columns = zip(*((*one, False, 0)[:5] for one in shown), strict=True)
    names = ("item", "log_propensity", "reward", "converted", "delay")
    return {"request_id": f"{user}{time}", "user": user, "time": time, "query": ""} | more | {
        name: list(column) for name, column in zip(names, columns, strict=True)}


def arrays(*slates: dict[str, object]) -> SlateArrays:
    encoder = SlateEncoder(
        items=list("abcd"), items_by_tag={"red": np.array([0, 3], np.int32)},
        numbers={"price": np.array([1.0, 2.0, MISSING, 4.0])}, action_codes={"": 0, "view": 0, "buy": 1},
        other_action=15, history_length=3, query_vectors={"red shoes": np.array([0.6, 0.8], np.float32)}, query_width=2,
        snapshot_times=np.array([50, 100, 200]), now=1000, attribution_seconds=860,
    )  # fmt: skip
    n = len(slates)
    return encoder.encode(pa.Table.from_pylist(list(slates), SLATES), context=np.zeros((n, 0), np.float32),
                          acted=np.zeros((n, 0, 0), bool))


FIRST = slate(
    "ann", 100, ("a", -0.5, 0.0), ("c", -0.1, 2.0, True, 40), query="red shoes", history=["gone", "a", "b", "c", "d"],
    history_time=[10, 20, 30, 60, 90], history_action=["view", "buy", "view", "", "kiss"], exclude=["d", "gone"])
SECOND = slate("bob", 150, ("b", 0.0, 1.0), history=["a"])
THIRD = slate("ann", 999, ("b", None, -1.0), ("a", None, 0.0))


def test_what_each_field_becomes() -> None:
    found = arrays(FIRST, SECOND, THIRD)
    assert_array_equal(found.user, [0, 1, 0])
    assert_array_equal(found.history, [[1, 2, 3], [0, PAD, PAD], [PAD, PAD, PAD]])  # the newest three that are known
    assert_array_equal(found.action, [[0, 0, 15], [0, 0, 0], [0, 0, 0]])
    assert_array_equal(found.gap, [[30, 30, 10], [-1, -1, -1], [-1, -1, -1]])
    assert_array_equal(found.query, np.array([[0.6, 0.8], [0, 0], [0, 0]], np.float32))
    assert_array_equal(found.may_come(4), [[True, True, True, False], [True] * 4, [True] * 4])
    assert_array_equal(found.item, [[0, 2], [1, PAD], [1, 0]])
    assert_array_equal(found.log_propensity, np.array([[-0.5, -0.1], [0, np.nan], [np.nan, np.nan]], np.float32))
    assert_array_equal(found.reward, [[0, 2], [1, 0], [-1, 0]])
    assert_array_equal(found.converted, [[False, True], [False, False], [False, False]])
    assert_array_equal(found.delay, [[0, 40], [0, 0], [0, 0]])
    assert_array_equal(found.elapsed, [860, 850, 1])
    assert_array_equal(found.snapshot, [1, 1, 2])


def test_a_pinned_item_has_no_place_in_the_numbers_and_the_others_keep_theirs() -> None:
    ruled = json.dumps({"rules": {"version": "v", "names": ["top"], "pinned": ["a", "d"]}})
    found = arrays(slate("ann", 100, ("a", 0.0, 9.0, True, 5), ("b", -0.5, 1.0), ("d", 0.0, 0.0), context=ruled),
                   slate("bob", 150, ("a", -0.5, 1.0)), slate("cat", 160, ("a", 0.0, 1.0), context=ruled))
    assert_array_equal(found.item, [[PAD, 1, PAD], [0, PAD, PAD], [PAD, PAD, PAD]])
    assert_array_equal(found.reward, [[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    assert_array_equal(found.drawn, [True, True, False])


def test_what_could_come_is_within_the_bounds_that_were_served() -> None:
    context = ServedContext(place="home", bounds={"price": (None, 2.0)})
    bounded = slate("ann", 100, ("a", -0.5, 0.0), exclude=["b"], context=context.model_dump_json())
    asked = [context.model_copy(update={"bounds": bounds}).model_dump_json() for bounds in (
        {"price": (2.0, 4.0)}, {"price": (None, None)}, {"colour": (1.0, None)}, {})]
    foreign = ['{"place": "\\"bounds\\""}', '?"bounds"']
    others = [slate("bob", 100 + n, ("a", -0.5, 0.0), context=text) for n, text in enumerate([*asked, *foreign])]
    assert arrays(bounded, *others).may_come(4).tolist() == [
        [True, False, False, False], [False, True, False, True], [True, True, False, True], [False] * 4, [True] * 4, [True] * 4,
        [True] * 4]


def test_only_slates_that_chance_had_a_part_in_are_drawn() -> None:
    assert_array_equal(arrays(FIRST, SECOND, THIRD).drawn, [True, False, False])


def test_a_request_knows_the_same_users_next_one() -> None:
    assert_array_equal(arrays(FIRST, SECOND, THIRD).following, [2, PAD, PAD])


def test_an_item_that_left_the_catalogue_leaves_a_hole_and_nothing_else() -> None:
    found = arrays(slate("ann", 100, ("gone", -0.5, 0.0), ("c", -0.1, 2.0, True, 40)))
    assert_array_equal(found.item, [[PAD, 2]])
    assert_array_equal(found.reward, [[0, 2]])
    assert_array_equal(found.drawn, [True])


def test_tags_and_exclusions_say_what_could_come() -> None:
    asked = [{"allow_tags": ["red", ""]}, {"deny_tags": ["red", "unknown"]}, {"allow_tags": ["unknown"]},
             {"allow_tags": ["red"], "exclude": ["a", "a", "gone"]}, {"allow_tags": [""]}]
    found = arrays(*(slate("ann", 100, ("a", None, 0.0), **one) for one in asked))
    expected = np.array([[1, 0, 0, 1], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 1, 1]], bool)
    assert_array_equal(found.may_come(4), expected)
    assert_array_equal(found.take(np.array([3, 0])).may_come(4), expected[[3, 0]])


def test_live_popularity_is_kept_by_position() -> None:
    sent = {"prior_items": ["b", "gone", "a", "b"], "prior_log_p": [-1, -2, -3, -4]}
    found = arrays(SECOND, slate("ann", 100, ("a", None, 0.0), **sent))
    assert_array_equal(found.live_item.lengths, [0, 2])
    assert dict(zip(found.live_item.values.tolist(), found.live_log_p.values.tolist(), strict=True)) == {0: -3, 1: -4}


@pytest.mark.parametrize("longest", [10, 100_000])
def test_memory_does_not_depend_on_one_requests_exclusions(longest: int) -> None:
    slates = [slate("ann", n, ("b", None, 0.0), exclude=["a"]) for n in range(2_000)]
    slates[7] = slate("ann", 7, ("b", None, 0.0), exclude=["a", "c"] * longest)
    found = arrays(*slates)
    assert found.excluded.values.nbytes + found.excluded.begin.nbytes < 40_000  # a row as wide as that would be 1.6 GB


def test_without_slates_there_are_arrays_of_nothing() -> None:
    assert len(arrays()) == 0


@pytest.mark.parametrize(("column", "value"), [
    ("history_action", ["view"]), ("history_time", [1, 2, 3]), ("prior_log_p", [-1.0])])
def test_lists_that_belong_together_have_one_length(column: str, value: list[object]) -> None:
    with pytest.raises(DataError, match="impressions: expected"):
        arrays(slate("ann", 100, ("a", None, 0.0), history=["a", "b"], prior_items=["a", "b"], **{column: value}))
