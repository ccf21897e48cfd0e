"""What a retrain learns: all that is new, and a repeatable sample of what is old."""
import numpy as np
import pytest

from tfrec.training.replay import with_replay

NEW = np.arange(100) >= 90


@pytest.mark.parametrize(("ratio", "expected"), [(0.0, 0), (1.0, 10), (2.5, 25), (100.0, 90)])
def test_all_new_events_and_as_many_old_ones_as_asked(ratio, expected):
    chosen = with_replay(NEW, ratio=ratio, seed=0)
    assert chosen[NEW].all()
    assert chosen[~NEW].sum() == expected


def test_the_sample_is_a_function_of_the_seed():
    assert (with_replay(NEW, ratio=2.0, seed=1) == with_replay(NEW, ratio=2.0, seed=1)).all()
    assert (with_replay(NEW, ratio=2.0, seed=1) != with_replay(NEW, ratio=2.0, seed=2)).any()


def test_nothing_new_replays_nothing():
    assert not with_replay(np.zeros(5, bool), ratio=1.0, seed=0).any()
    assert NEW.sum() == 10  # the mask that came in is as it was
