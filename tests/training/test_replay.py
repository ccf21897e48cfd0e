"""Replay: how much of the old comes back, in whole windows, the same for the same seed."""
import numpy as np
import pytest

from tfrec.data.interactions import Interactions
from tfrec.training.replay import with_replay

LENGTH = 4
# ten users of eight events each: two windows a user; the last two events of each are new
INTER = Interactions.from_columns(
    [f"u{event % 10}" for event in range(80)], [f"i{event}" for event in range(80)], np.arange(80)
)
NEW = np.arange(80) >= 60


def replay(new: np.ndarray = NEW, *, ratio: float = 1.0, seed: int = 0) -> np.ndarray:
    return with_replay(INTER, new, ratio=ratio, length=LENGTH, seed=seed)


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0, 2.0, 100.0])
def test_the_new_are_kept_and_about_as_many_old_ones_as_asked_for_join_them(ratio):
    chosen = replay(ratio=ratio)
    assert chosen[NEW].all()
    wanted = min(60, ratio * 20)
    assert wanted <= chosen[~NEW].sum() < wanted + LENGTH


def test_old_events_come_in_whole_windows():
    chosen = replay(ratio=1.0)
    for user in range(10):
        oldest = chosen[np.flatnonzero(INTER.user == user)][:LENGTH]  # the window without new events
        assert oldest.all() or not oldest.any()


def test_the_seed_decides():
    assert (replay(seed=1) == replay(seed=1)).all()
    assert (replay(seed=1) != replay(seed=2)).any()


def test_without_news_nothing_is_replayed():
    assert not replay(np.zeros(80, bool)).any()
