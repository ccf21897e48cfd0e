"""Replay: how much of the old comes back, in whole windows, the same for the same seed."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrec.data.interactions import Interactions
from tfrec.data.sequences import windows
from tfrec.training.replay import with_replay

LENGTH = 4
# ten users of eight events each, of which the first has no history and the last two are new: two windows a user
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
    wanted = min(50, ratio * 20)
    assert wanted <= chosen[~NEW].sum() < wanted + LENGTH


events = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 30), st.integers(0, 12), st.booleans()), max_size=60,
    unique_by=lambda event: event[:2],
)


@settings(deadline=None)
@given(events, st.integers(1, 6), st.floats(0, 3), st.integers(0, 3))
def test_what_is_replayed_beside_the_new_is_whole_windows(log, length, ratio, seed):
    users, items, times, _ = zip(*log, strict=True) if log else ((), (), (), ())
    inter = Interactions.from_columns(users, [f"i{item}" for item in items], times)
    news = {(user, f"i{item}") for user, item, _, is_new in log if is_new}
    new = np.array([(inter.users[u], inter.items[i]) in news for u, i in zip(inter.user, inter.item, strict=True)], bool)
    chosen = with_replay(inter, new, ratio=ratio, length=length, seed=seed)
    found = windows(inter, length=length)
    old = [set(event[weight > 0]) - set(np.flatnonzero(new)) for event, weight in zip(found.event, found.weight, strict=True)]
    replayed = set(np.flatnonzero(chosen & ~new))
    whole = [window for window in old if window <= replayed]
    assert set().union(*whole) == replayed
    assert chosen[new].all()


def test_the_seed_decides():
    assert (replay(seed=1) == replay(seed=1)).all()
    assert (replay(seed=1) != replay(seed=2)).any()


def test_without_news_nothing_is_replayed():
    assert not replay(np.zeros(80, bool)).any()
