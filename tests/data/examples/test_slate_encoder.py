"""Slates by number: what each field becomes, by hand."""
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tfrec.data.examples.sequences import PAD
from tfrec.data.examples.slate_arrays import SlateArrays
from tfrec.data.examples.slate_encoder import SlateEncoder
from tfrec.data.examples.slates import PopularityAtRequest, Slate, SlatePosition

POSITION = {"a": 0, "b": 1, "c": 2, "d": 3}


def request(user: str, time: int, **more: object) -> dict[str, object]:
    nothing = {"query": "", "history": [], "history_action": [], "history_time": [], "exclude": [], "allow_tags": [],
               "deny_tags": [], "live": live()}
    return nothing | {"user": user, "time": time} | more


def live(**log_p: float) -> PopularityAtRequest:
    return PopularityAtRequest(list(log_p), np.arange(len(log_p), dtype=np.int32), np.array(list(log_p.values()), np.float32))


def arrays(*slates: Slate) -> SlateArrays:
    encoder = SlateEncoder(
        item_positions=POSITION, items_by_tag={"red": np.array([0, 3], np.int32)}, action_codes={"": 0, "view": 0, "buy": 1},
        other_action=15, history_length=3, query_vectors={"red shoes": np.array([0.6, 0.8], np.float32)}, query_width=2,
        snapshot_times=np.array([50, 100, 200]), now=1000, attribution_seconds=860,
    )  # fmt: skip
    return encoder.encode(slates)


FIRST = Slate(
    request("ann", 100, query="red shoes", history=["gone", "a", "b", "c", "d"], history_time=[10, 20, 30, 60, 90],
            history_action=["view", "buy", "view", "", "kiss"], exclude=["d", "gone"]),
    [SlatePosition("a", -0.5, 0.0), SlatePosition("c", -0.1, 2.0, True, 40)],
)
SECOND = Slate(request("bob", 150, history=["a"]), [SlatePosition("b", 0.0, 1.0)])
THIRD = Slate(request("ann", 999), [SlatePosition("b", None, -1.0), SlatePosition("a", None, 0.0)])


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


def test_only_slates_that_chance_had_a_part_in_are_drawn() -> None:
    assert_array_equal(arrays(FIRST, SECOND, THIRD).drawn, [True, False, False])


def test_a_request_knows_the_same_users_next_one() -> None:
    assert_array_equal(arrays(FIRST, SECOND, THIRD).following, [2, PAD, PAD])


def test_an_item_that_left_the_catalogue_leaves_a_hole_and_nothing_else() -> None:
    found = arrays(Slate(request("ann", 100), [SlatePosition("gone", -0.5, 0.0), SlatePosition("c", -0.1, 2.0, True, 40)]))
    assert_array_equal(found.item, [[PAD, 2]])
    assert_array_equal(found.reward, [[0, 2]])
    assert_array_equal(found.drawn, [True])


def test_tags_and_exclusions_say_what_could_come() -> None:
    asked = [{"allow_tags": ["red", ""]}, {"deny_tags": ["red", "unknown"]}, {"allow_tags": ["unknown"]},
             {"allow_tags": ["red"], "exclude": ["a", "a", "gone"]}, {"allow_tags": [""]}]
    found = arrays(*(Slate(request("ann", 100, **one), [SlatePosition("a", None, 0.0)]) for one in asked))
    expected = np.array([[1, 0, 0, 1], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 1, 1]], bool)
    assert_array_equal(found.may_come(4), expected)
    assert_array_equal(found.take(np.array([3, 0])).may_come(4), expected[[3, 0]])


def test_live_popularity_is_kept_by_position() -> None:
    sent = PopularityAtRequest(["b", "gone", "a"], np.array([0, 1, 2, 0], np.int32), np.array([-1, -2, -3, -4], np.float32))
    found = arrays(SECOND, Slate(request("ann", 100, live=sent), [SlatePosition("a", None, 0.0)]))
    assert_array_equal(found.live_item.lengths, [0, 2])
    assert dict(zip(found.live_item.values.tolist(), found.live_log_p.values.tolist(), strict=True)) == {0: -3, 1: -4}


@pytest.mark.parametrize("longest", [10, 100_000])
def test_memory_does_not_depend_on_one_requests_exclusions(longest: int) -> None:
    slates = [Slate(request("ann", n, exclude=["a"]), [SlatePosition("b", None, 0.0)]) for n in range(2_000)]
    slates[7] = Slate(request("ann", 7, exclude=["a", "c"] * longest), [SlatePosition("b", None, 0.0)])
    found = arrays(*slates)
    assert found.excluded.values.nbytes + found.excluded.begin.nbytes < 40_000  # a row as wide as that would be 1.6 GB


def test_without_slates_there_are_arrays_of_nothing() -> None:
    assert len(arrays()) == 0
