"""Neither a crowd of new accounts nor one busy user decides what is learnt; where nobody pushes, nothing changes."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrec.data.behaviour.damping import FEW, LEAST_MEANS, damping, newcomer_factors, user_factors
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.behaviour.newcomers import HISTORY_SECONDS

ITEMS = 6
events = st.lists(st.tuples(st.integers(0, ITEMS - 1), st.booleans()), max_size=60)
weighing = st.lists(st.tuples(st.integers(0, 8), st.floats(0.01, 100)), min_size=1, max_size=40)


def columns(rows):
    item, newcomer = zip(*rows, strict=True) if rows else ((), ())
    return np.array(item, np.int64), np.array(newcomer, bool)


def factors(rows):
    return newcomer_factors(*columns(rows), n_items=ITEMS)


@given(events)
def test_a_factor_never_raises_a_weight_and_is_one_for_people_with_a_history(rows):
    found, (_, newcomer) = factors(rows), columns(rows)
    assert ((found > 0) & (found <= 1)).all()
    assert (found[~newcomer] == 1).all()


@given(events, st.integers(0, ITEMS - 1), st.integers(1, 500))
def test_more_newcomers_on_an_item_never_lower_what_counts_of_it_and_agreement_never_does(rows, item, more):
    """What counts of an item is the sum of its factors; it has a bound that more newcomers of the item do not move."""
    def counting(rows):
        return factors(rows)[columns(rows)[0] == item].sum()

    assert counting(rows + [(item, True)] * more) >= counting(rows) - 1e-9
    assert counting(rows + [(item, False)] * more) >= counting(rows) - 1e-9
    many = counting(rows + [(item, True)] * 2000)
    assert counting(rows + [(item, True)] * 4000) == pytest.approx(max(many, 0)) or many == pytest.approx(2000, abs=60)


@given(events)
def test_without_newcomers_nothing_changes(rows):
    assert (factors([(item, False) for item, _ in rows]) == 1).all()


@given(weighing, st.floats(0.001, 1))
def test_no_user_weighs_more_than_the_share_and_as_much_is_left_as_can_be(rows, share):
    user, weight = (np.array(column) for column in zip(*rows, strict=True))
    found = user_factors(user, weight, share=share)
    assert ((found > 0) & (found <= 1)).all()
    before, after = np.bincount(user, weight), np.bincount(user, weight * found)
    q = max(share, LEAST_MEANS / np.count_nonzero(before))
    bound = min(1.0, q) * after.sum()
    assert after.max() <= bound * (1 + 1e-9)
    capped = after < before * (1 - 1e-9)
    assert after[capped] == pytest.approx(bound)  # nobody is bound by more than that
    assert found[~capped[user]] == pytest.approx(1.0)


def test_shares_by_hand():
    # 30 users of one event and one of 100: c = q 30 / (1 - q) with q = 2 / 31; and with q = .25, c = 10
    user = np.concatenate([np.arange(30), np.full(100, 30)])
    assert user_factors(user, np.ones(130), share=0.01)[-1] == pytest.approx(2 / 31 * 30 / (1 - 2 / 31) / 100)
    assert user_factors(user, np.ones(130), share=0.25)[-1] == pytest.approx(0.1)
    assert user_factors(np.zeros(0, int), np.zeros(0), share=0.25).tolist() == []


@pytest.mark.parametrize("users", [1, 2, 7])
def test_a_handful_of_users_who_do_alike_count_whole(users):
    assert (user_factors(np.repeat(np.arange(users), 6), np.ones(6 * users), share=0.001) == 1).all()


def world(fakes=300, others=200):
    """People with a history on 50 items, a newcomer for five of them, and fakes who push one item. The last day is new."""
    day = 10 * HISTORY_SECONDS
    rows = [(f"u{u}", f"i{(7 * u + k) % 49}", k) for u in range(others) for k in range(2)]
    rows += [(f"u{u}", f"i{(7 * u + k) % 49}", day + k) for u in range(others) for k in range(2, 5)]
    rows += [(f"n{u}", f"i{u % 49}", day + 9) for u in range(others // 5)]
    rows += [(f"f{u}", "pushed", day + 10) for u in range(fakes)]
    user, item, time = zip(*rows, strict=True)
    inter = Interactions.from_columns(user, item, time, items=[f"i{n}" for n in range(49)] + ["pushed"], now=day + 99)
    return inter, inter.time >= day


def test_three_hundred_fake_users_count_as_a_few_and_are_reported():
    inter, new = world()
    found = damping(inter, new, user_share=0.05)
    pushed = np.array(inter.items)[inter.item] == "pushed"
    assert (found.factor[~pushed] == 1).all()
    # 600 events of people with a history on 21 items, 40 of newcomers on others: 3 * 41 / 601 * (0 + 601 / 22)
    assert found.factor[pushed].sum() == pytest.approx(3 * 41 / 22)
    assert found.figures() == {"items": {"pushed": [300, 5.59]}}
    assert found.warnings() == ["item pushed: 300 events of newcomers count as 5.6"]
    assert (damping(*world(fakes=FEW), user_share=0.05).factor == 1).all()


def test_a_push_of_the_past_is_damped_in_the_replay_too():
    inter, new = world()
    found = damping(inter, np.zeros(len(inter), bool), user_share=0.05)
    pushed = np.array(inter.items)[inter.item] == "pushed"
    # with the first day of everybody, 440 events of newcomers on others: 3 * 441 / 601 * (0 + 601 / 22)
    assert found.factor[pushed].sum() == pytest.approx(3 * 441 / 22)
    assert found.figures() == {}


def test_a_user_who_does_everything_is_named():
    rows = [(f"u{u}", f"i{u}", u) for u in range(40)] + [("busy", f"i{n}", 100 + n) for n in range(40)]
    user, item, time = zip(*rows, strict=True)
    inter = Interactions.from_columns(user, item, time)
    found = damping(inter, np.ones(80, bool), user_share=0.05)
    assert found.figures() == {"users": {"busy": [40, round(0.05 * 40 / 0.95, 2)]}}


def test_an_empty_window_is_not_damped():
    inter = Interactions.from_columns([], [], [])
    assert damping(inter, np.zeros(0, bool), user_share=0.05).figures() == {}
