"""Replay: how much of the old comes back, in whole windows, the same for the same seed."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.examples.sequences import windows
from tfrec.training.replay import BANDS, reservoir, slice_weights, slices, with_replay

LENGTH = 4
# ten users of eight events each, of which the first has no history and the last two are new: two windows a user
INTER = Interactions.from_columns(
    [f"u{event % 10}" for event in range(80)], [f"i{event}" for event in range(80)], np.arange(80)
)
NEW = np.arange(80) >= 60


def replay(new: np.ndarray = NEW, *, ratio: float = 1.0, seed: int = 0, evenness: float = 0.0) -> np.ndarray:
    return with_replay(INTER, new, ratio=ratio, length=LENGTH, seed=seed, evenness=evenness)


@pytest.mark.parametrize("evenness", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0, 2.0, 100.0])
def test_the_new_are_kept_and_about_as_many_old_ones_as_asked_for_join_them(ratio, evenness):
    chosen = replay(ratio=ratio, evenness=evenness)
    assert chosen[NEW].all()
    wanted = min(50, ratio * 20)
    assert wanted <= chosen[~NEW].sum() < wanted + LENGTH


events = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 30), st.integers(0, 12), st.booleans()), max_size=60,
    unique_by=lambda event: event[:2],
)


@settings(deadline=None)
@given(events, st.integers(1, 6), st.floats(0, 3), st.integers(0, 3), st.floats(0, 1))
def test_what_is_replayed_beside_the_new_is_whole_windows(log, length, ratio, seed, evenness):
    users, items, times, _ = zip(*log, strict=True) if log else ((), (), (), ())
    inter = Interactions.from_columns(users, [f"i{item}" for item in items], times)
    news = {(user, f"i{item}") for user, item, _, is_new in log if is_new}
    new = np.array([(inter.users[u], inter.items[i]) in news for u, i in zip(inter.user, inter.item, strict=True)], bool)
    chosen = with_replay(inter, new, ratio=ratio, length=length, seed=seed, evenness=evenness)
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


def test_a_window_is_of_the_period_the_popularity_and_the_activity_of_its_events():
    # u0 takes 12 rare items early; at the end, 12 people take item p, and u1 only it and another rare one
    early = [("u0", f"r{k}", k) for k in range(12)]
    late = [(f"v{k}", "p", 990 + k // 2) for k in range(12)]
    both = [("u1", "p", 985), ("u1", "q", 1000), ("u2", "q", 1), ("u2", "p", 999)]
    users, items, times = zip(*early, *late, *both, strict=True)
    inter = Interactions.from_columns(users, items, times)
    found = windows(inter, length=20)
    names = [inter.users[inter.user[event[0]]] for event in found.event]
    assert dict(zip(names, slices(inter, found, found.weight > 0), strict=True)) == {
        "u0": 0 * BANDS * BANDS + 0 * BANDS + 1,  # the first of ten periods, items met once, ten events and more
        "u1": 9 * BANDS * BANDS + 0 * BANDS + 0,  # the last, an item met twice, few events
        "u2": 9 * BANDS * BANDS + 1 * BANDS + 0,  # the last, an item met fourteen times
    }


def test_a_window_weighs_by_the_size_of_its_slice():
    slice_of, events = np.array([3, 3, 7, 7, 9]), np.array([4, 12, 3, 1, 0])
    np.testing.assert_allclose(slice_weights(slice_of, events, evenness=1.0), [1 / 16, 1 / 16, 1 / 4, 1 / 4, 0])
    np.testing.assert_allclose(slice_weights(slice_of, events, evenness=0.5), [1 / 4, 1 / 4, 1 / 2, 1 / 2, 0])
    np.testing.assert_allclose(slice_weights(slice_of, events, evenness=0.0), [1, 1, 1, 1, 0])


def test_a_reservoir_draws_by_weight():
    """With weights 1, 2 and 5 the chances of being first are 1/8, 2/8, 5/8; what has no weight is last."""
    weight = np.array([0.0, 1.0, 2.0, 5.0])
    drawn = np.array([reservoir(weight, seed=seed) for seed in range(4000)])
    assert (drawn[:, -1] == 0).all()
    share = np.bincount(drawn[:, 0], minlength=4) / 4000
    np.testing.assert_allclose(share, [0, 1 / 8, 2 / 8, 5 / 8], atol=0.025)  # three standard errors
    # then 2 of the remaining 7 after 1: P(1, 2) = 1/8 * 2/7
    assert np.mean((drawn[:, 0] == 1) & (drawn[:, 1] == 2)) == pytest.approx(1 / 8 * 2 / 7, abs=0.01)


def test_evenness_gives_a_quiet_past_and_rare_items_their_share():
    """90 people early, 10 late, all alike but for the time: of ten windows drawn about nine are early, or five."""
    rows = [(f"u{k}", f"i{k}-{n}", 1_000_000 * (k >= 90) + n) for k in range(100) for n in range(3)]
    users, items, times = zip(*rows, strict=True)
    inter = Interactions.from_columns(users, items, times)
    new = inter.time >= 2_000_000
    new[np.flatnonzero(inter.time == 1_000_002)] = True  # the ten last events; each person's last window has one old target left
    late = inter.time >= 1_000_000

    def share(evenness: float) -> float:
        drawn = [with_replay(inter, new, ratio=2.0, length=4, seed=seed, evenness=evenness) & ~new for seed in range(50)]
        return float(np.mean([chosen[late].sum() / chosen.sum() for chosen in drawn]))

    uniform, half, even = (share(evenness) for evenness in (0.0, 0.5, 1.0))
    assert uniform == pytest.approx(10 / 190, abs=0.03)  # of 190 old targets ten are late
    assert uniform < half < even
    assert even == pytest.approx(0.33, abs=0.05)  # its ten events, of which a sample of twenty takes most, and never more


def test_of_many_new_events_a_sample_is_learnt_and_as_many_old_ones():
    chosen = with_replay(INTER, NEW, ratio=0.5, length=LENGTH, seed=3, max_new=6)
    assert 6 <= chosen[NEW].sum() < 6 + LENGTH
    wanted = 0.5 * chosen[NEW].sum()
    assert wanted <= chosen[~NEW].sum() < wanted + LENGTH
    assert with_replay(INTER, NEW, ratio=0.0, length=LENGTH, seed=3, max_new=20)[NEW].all()
