"""When a training stops, and which epoch is the best."""
import math

import pytest

from tfrec.training.early_stopping import EarlyStopping


@pytest.mark.parametrize(("scores", "best", "stops"), [
    ([], None, False),
    ([1.0], 0, False),
    ([1.0, 0.5], 0, False),
    ([1.0, 0.5, 0.9], 0, True),
    ([1.0, 0.5, 1.1], 2, False),
    ([1.0, 1.0, 1.0], 0, True),  # as good is no better
    ([math.nan, math.nan, 0.1], 2, False),
    ([0.1, math.nan, math.nan], 0, True),
    ([-math.inf, -math.inf, -math.inf], 0, True),
])
def test_it_stops_when_the_best_score_is_two_epochs_old(scores, best, stops):
    one_by_one, restored = EarlyStopping(patience=2), EarlyStopping(patience=2, scores=scores)
    for score in scores:
        one_by_one.record(score)
    for stopping in (one_by_one, restored):
        assert stopping.should_stop is stops
        if best is not None:
            assert (stopping.best, stopping.improved) == (best, best == len(scores) - 1)
