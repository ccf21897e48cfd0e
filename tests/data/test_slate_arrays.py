"""Slates by number: what each field becomes, by hand."""
import numpy as np
from numpy.testing import assert_array_equal

from tfrec.data.sequences import PAD
from tfrec.data.slate_arrays import SlateArrays, slate_arrays
from tfrec.data.slates import Place, Slate

POSITION = {"a": 0, "b": 1, "c": 2, "d": 3}


def request(user: str, time: int, **more: object) -> dict[str, object]:
    nothing = {"query": "", "history": [], "history_action": [], "history_time": [], "exclude": []}
    return nothing | {"user": user, "time": time} | more


def arrays(*slates: Slate) -> SlateArrays:
    return slate_arrays(slates, position=POSITION, codes={"": 0, "view": 0, "buy": 1}, other=15, length=3,
                        queries={"red shoes": np.array([0.6, 0.8], np.float32)}, width=2,
                        snapshot_times=np.array([50, 100, 200]), now=1000, attribution=860)


FIRST = Slate(
    request("ann", 100, query="red shoes", history=["gone", "a", "b", "c", "d"], history_time=[10, 20, 30, 60, 90],
            history_action=["view", "buy", "view", "", "kiss"], exclude=["d", "gone"]),
    [Place("a", -0.5, 0.0), Place("c", -0.1, 2.0, True, 40)],
)
SECOND = Slate(request("bob", 150, history=["a"]), [Place("b", 0.0, 1.0)])
THIRD = Slate(request("ann", 999), [Place("b", None, -1.0), Place("a", None, 0.0)])


def test_what_each_field_becomes() -> None:
    found = arrays(FIRST, SECOND, THIRD)
    assert_array_equal(found.user, [0, 1, 0])
    assert_array_equal(found.history, [[1, 2, 3], [0, PAD, PAD], [PAD, PAD, PAD]])  # the newest three that are known
    assert_array_equal(found.action, [[0, 0, 15], [0, 0, 0], [0, 0, 0]])
    assert_array_equal(found.gap, [[30, 30, 10], [-1, -1, -1], [-1, -1, -1]])
    assert_array_equal(found.query, np.array([[0.6, 0.8], [0, 0], [0, 0]], np.float32))
    assert_array_equal(found.hidden, [[3], [PAD], [PAD]])
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


def test_without_slates_there_are_arrays_of_nothing() -> None:
    assert len(arrays()) == 0
