"""Snapshots of the popularity prior hold what was known at their moments."""
import numpy as np
import pytest
from numpy.testing import assert_allclose

from tfrec.data.behaviour.interactions import Interactions
from tfrec.errors import DataError
from tfrec.models.popularity_prior import PopularityPrior
from tfrec.models.prior_snapshots import snapshots

DAY = 86_400
MIXED = np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 0.1, 0.2])


@pytest.fixture
def tiny_log() -> Interactions:
    """a at day 0, b and c in one second of day 1, a at day 2; d never."""
    return Interactions.from_columns(list("0123"), list("abca"), [0, DAY, DAY, 2 * DAY], items=list("abcd"))


def log_p_of(events: list[tuple[int, int]]) -> np.ndarray:
    prior = PopularityPrior(4, weights=MIXED)
    prior.update([item for item, _ in events], [time for _, time in events])
    return prior.log_p()


def test_a_snapshot_holds_what_was_strictly_before_the_second_of_its_edge(tiny_log: Interactions) -> None:
    found = snapshots(tiny_log, weights=MIXED, edges=[0, 1, 2, 3, 4])
    past = [[], [(0, 0)], [(0, 0)], [(0, 0), (1, DAY), (2, DAY)], [(0, 0), (1, DAY), (2, DAY), (0, 2 * DAY)]]
    assert found.log_p.dtype == np.float32
    assert_allclose(found.log_p, [log_p_of(events) for events in past], rtol=1e-5)
    assert found.first_touch.dtype == np.int32
    assert found.first_touch.tolist() == [1, 3, 3, 5]


def test_no_snapshot_and_no_event(tiny_log: Interactions) -> None:
    log_p, first_touch = snapshots(tiny_log, weights=MIXED, edges=[])
    assert (log_p.shape, first_touch.tolist()) == ((0, 4), [0, 0, 0, 0])
    assert_allclose(snapshots(tiny_log.slice(0, 0), weights=MIXED, edges=[0]).log_p, [[np.log(0.25)] * 4], rtol=1e-6)


@pytest.mark.parametrize("edges", [[-1], [5], [2, 1]])
def test_edges_ascend_within_the_log(tiny_log: Interactions, edges: list[int]) -> None:
    with pytest.raises(DataError, match="expected ascending edges from 0 to 4"):
        snapshots(tiny_log, weights=MIXED, edges=edges)
