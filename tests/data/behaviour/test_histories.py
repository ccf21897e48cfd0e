"""What a user did strictly before a second, in the three forms in which it is asked for."""
import numpy as np
import pytest

from tfrec.data.behaviour.histories import Histories
from tfrec.data.behaviour.interactions import Interactions


@pytest.fixture
def inter() -> Interactions:
    # a at 10, 20, 20, 30; b at 15
    return Interactions.from_columns(list("aabaa"), ["i0", "i1", "i2", "i3", "i4"], [10, 20, 15, 20, 30],
                                     items=["i0", "i1", "i2", "i3", "i4"])


def test_the_same_second_is_not_history(inter):
    histories = Histories(inter)
    assert inter.time.tolist() == [10, 15, 20, 20, 30]
    assert histories.count([0, 1, 2, 3, 4]).tolist() == [0, 0, 1, 1, 3]
    assert histories.of(2).tolist() == [0]
    assert histories.of(4).tolist() == [0, 2, 3]
    assert histories.of(4, last=2).tolist() == [2, 3]
    assert histories.padded([4, 2, 1], length=2).tolist() == [[2, 3], [-1, 0], [-1, -1]]
    row, event = histories.flat([4, 1, 3])
    assert (row.tolist(), event.tolist()) == ([0, 0, 0, 2], [0, 2, 3, 0])


def test_no_events():
    nothing = Histories(Interactions.from_columns([], [], [], items=["i0"]))
    assert nothing.count(np.array([], np.int64)).tolist() == []
