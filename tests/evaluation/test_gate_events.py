"""Nobody judges alone: one user's share, bursts of new users, and windows full of newcomers."""
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tfrec.data.behaviour.interactions import Interactions
from tfrec.evaluation.gate_events import gate_events, newest_within_share

Event = tuple[str, str, int]


def stream(*events: Event, since: int) -> tuple[Interactions, np.ndarray]:
    """Behaviour, and what of it is new: from the second `since` on."""
    users, items, times = zip(*events, strict=True)
    inter = Interactions.from_columns(list(users), list(items), np.array(times))
    return inter, inter.time >= since


def known_users(n: int, *, each: int = 1) -> list[Event]:
    """`n` users with one old event each, and `each` new ones on items that differ."""
    old = [(f"u{u}", f"a{u % 7}", u) for u in range(n)]
    return old + [(f"u{u}", f"b{(u + k) % 9}", 1000 + 10 * u + k) for u in range(n) for k in range(each)]


def test_the_newest_share_judges() -> None:
    inter, new = stream(*known_users(40), since=1000)
    judges = gate_events(inter, new, share=0.25, limit=100, user_share=0.05)
    assert judges.events.tolist() == list(range(70, 80))
    assert judges.left_out == {}
    assert len(gate_events(inter, new, share=0.25, limit=4, user_share=0.05)) == 4


def test_a_thousand_newcomers_of_one_click_leave_the_others_to_judge() -> None:
    newcomers = [(f"n{n}", "b0", 5000 + n) for n in range(1000)]
    inter, new = stream(*known_users(40), *newcomers, since=1000)
    judges = gate_events(inter, new, share=0.25, limit=100, user_share=0.05)
    assert judges.events.tolist() == list(range(70, 80))  # of those that can be asked, the newest quarter


def test_nobody_to_ask() -> None:
    inter, new = stream(*[(f"n{n}", "b0", n) for n in range(50)], since=0)
    assert len(gate_events(inter, new, share=0.3, limit=10, user_share=0.05)) == 0


def test_a_burst_of_new_users_on_one_item_does_not_judge() -> None:
    pushed = [(f"f{n}", item, 2000 + 2 * n + k) for n in range(300) for k, item in enumerate(("seed", "film"))]
    inter, new = stream(*known_users(100, each=5), *pushed, since=1000)
    judges = gate_events(inter, new, share=0.9, limit=10_000, user_share=0.05)
    film = inter.items.index("film")
    assert not (inter.item[judges.events] == film).any()
    assert judges.left_out["burst"] == 300
    assert len(judges) > 300


def test_what_everybody_rushes_to_judges() -> None:
    """A new hit: the old users take it as the new ones do."""
    old = [(f"u{u}", "hit", 1500 + u) for u in range(60)]
    fresh = [(f"f{n}", item, 2000 + 2 * n + k) for n in range(60) for k, item in enumerate(("seed", "hit"))]
    inter, new = stream(*known_users(60), *old, *fresh, since=1000)
    assert gate_events(inter, new, share=1.0, limit=10_000, user_share=0.05).left_out == {}


@given(counts=st.lists(st.integers(1, 60), min_size=1, max_size=40))
def test_no_single_user_decides(counts: list[int]) -> None:
    """Whoever acts how often: nobody has more than 5% of the judging events, or than an equal share where users are few."""
    old = [(f"u{u}", "old", u) for u in range(len(counts))]
    acts = [(f"u{u}", f"i{n}", 1000 + 100 * n + u) for u, count in enumerate(counts) for n in range(count)]
    inter, new = stream(*old, *acts, since=1000)
    judges = gate_events(inter, new, share=1.0, limit=100_000, user_share=0.05)
    share = np.bincount(inter.user[judges.events], minlength=len(counts))
    assert (share > 0).all()
    assert share.max() <= max(1, 0.05 * len(judges), share.mean())
    assert len(judges) + judges.left_out.get("user_share", 0) == sum(counts)
    np.testing.assert_array_equal(judges.events, np.unique(judges.events))


def test_of_each_user_the_newest_rows_are_taken() -> None:
    user = np.array([3, 7, 3, 3, 9, 7, 3, 3])
    assert newest_within_share(user, share=1.0).tolist() == list(range(8))
    assert newest_within_share(user, share=0.01).tolist() == [4, 5, 7]  # an equal share
    assert newest_within_share(user, share=0.4).tolist() == [1, 4, 5, 6, 7]
    assert newest_within_share(user[:0], share=0.5).tolist() == []


@given(st.lists(st.integers(0, 9), min_size=1, max_size=200), st.floats(0.01, 1))
def test_no_single_user_has_more_than_its_share_of_rows(users: list[int], share: float) -> None:
    user = np.array(users)
    kept = newest_within_share(user, share=share)
    counts = np.unique(user[kept], return_counts=True)[1]
    assert counts.max() <= max(share * len(kept), len(kept) / len(counts), 1)
    assert set(user[kept]) == set(users)
    for who in set(users):
        own = np.flatnonzero(user == who)
        assert kept[user[kept] == who].tolist() == own[-np.count_nonzero(user[kept] == who) :].tolist()
