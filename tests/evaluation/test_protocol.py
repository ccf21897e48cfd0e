"""Which events are evaluated, what is history, and how a rank is counted, by hand."""
import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrec.data.behaviour.interactions import Interactions
from tfrec.errors import ModelError
from tfrec.evaluation.protocol import (
    Histories,
    Ints,
    Scorer,
    evaluated_events,
    hash_sample,
    no_evaluated_event,
    rank_events,
    with_history,
)

A, B, C, D, E = range(5)


def constant(*scores: float) -> Scorer:
    return lambda events: np.tile(np.array(scores, np.float32), (len(events), 1))


def test_histories_end_before_the_second(tiny: Interactions) -> None:
    histories = Histories(tiny)
    assert histories.count(np.arange(8)).tolist() == [0, 0, 1, 1, 0, 0, 1, 3]  # a basket is no history of itself
    assert set(tiny.item[histories.of(7)]) == {A, B, C}
    assert histories.of(7, last=1).tolist() == [3]
    row, events = histories.flat([6, 4, 2])
    assert row.tolist() == [0, 2]
    assert events.tolist() == [1, 0]
    assert histories.padded([0, 6, 7], length=2).tolist() == [[-1, -1], [-1, 1], [2, 3]]


def test_evaluated_are_the_later_events_of_people_with_a_history(tiny: Interactions) -> None:
    asked = evaluated_events(tiny, share=0.5)
    assert asked.train_end == 4
    assert asked.events.tolist() == [6, 7]
    assert with_history(tiny, np.arange(8)).tolist() == [2, 3, 6, 7]


def test_above_the_limit_the_smallest_sha1_are_evaluated(tiny: Interactions) -> None:
    words = {2: "u|b|20", 3: "u|c|20", 6: "v|b|40", 7: "u|d|50"}
    if tiny.item[2] == C:
        words[2], words[3] = words[3], words[2]
    by_sha = sorted(words, key=lambda event: hashlib.sha1(words[event].encode()).hexdigest())
    for limit in range(5):
        assert hash_sample(tiny, [7, 6, 3, 2], limit=limit).tolist() == sorted(by_sha[:limit])
        assert evaluated_events(tiny, share=0.25, limit=limit).events.tolist() == sorted(by_sha[:limit])


IDS = st.text("a|\u00e9\u4e2d0", min_size=1, max_size=3)  # with the sign between the parts, two events may have one sha1


@given(st.lists(st.tuples(IDS, IDS, st.integers(0, 1 << 40)), min_size=1, max_size=30), st.data())
def test_of_any_events_those_with_the_smallest_sha1_are_sampled(rows: list[tuple[str, str, int]], data: st.DataObject) -> None:
    inter = Interactions.from_columns(*map(list, zip(*rows, strict=True)), now=1 << 41)
    events = data.draw(st.lists(st.integers(0, len(inter) - 1), max_size=40))
    limit = data.draw(st.integers(0, 40))

    def order(event: int) -> tuple[str, int]:
        words = f"{inter.users[inter.user[event]]}|{inter.items[inter.item[event]]}|{inter.time[event]}"
        return hashlib.sha1(words.encode()).hexdigest(), event

    assert hash_sample(inter, events, limit=limit).tolist() == sorted(sorted(events, key=order)[:limit])


def test_ranks_leave_history_out_and_count_ties_half(tiny: Interactions) -> None:
    ranks = rank_events(tiny, [6, 7], constant(5, 4, 3, 3, 3), train_end=4, top=3)
    # v:b among b c d e: the best. u:d among d e: a tie
    assert ranks.rank.tolist() == [1, 1.5]
    assert ranks.candidates.tolist() == [4, 2]
    assert ranks.cold.tolist() == [False, True]  # d has an event before second 50, but none that trained
    assert ranks.untouched.tolist() == [False, False]
    assert [tiny.users[user] for user in ranks.users] == ["v", "u"]
    assert ranks.slates is not None
    assert ranks.slates.tolist() == [[B, C, D], [D, E, -1]]


def test_untouched_items_have_no_event_before_the_second(tiny: Interactions) -> None:
    ranks = rank_events(tiny, [2, 3, 6], constant(0, 0, 0, 0, 0))  # train_end: before the first of them
    assert ranks.untouched.tolist() == [True, True, False]
    assert ranks.cold.tolist() == [True, True, True]
    assert rank_events(tiny, [], constant(0, 0, 0, 0, 0)).rank.tolist() == []


def test_scores_that_cannot_be_ranked_are_refused(tiny: Interactions) -> None:
    with pytest.raises(ModelError, match=r"must return \[batch, n_items\] = \(2, 5\), got \(2, 3\)"):
        rank_events(tiny, [6, 7], constant(1, 2, 3))
    with pytest.raises(ModelError, match=r"NaN for 2 of 2 events, first for event 6"):
        rank_events(tiny, [6, 7], constant(1, 2, 3, np.nan, 5))


@given(st.data())
def test_ranks_follow_the_definition_in_chunks_of_any_size(data: st.DataObject) -> None:
    rows = st.tuples(st.integers(0, 3), st.integers(0, 6), st.integers(0, 9))
    log = data.draw(st.lists(rows, min_size=1, max_size=25))
    user, item, time = ([str(value) for value in column] for column in zip(*log, strict=True))
    inter = Interactions.from_columns(user, item, [int(t) for t in time], items=[str(code) for code in range(7)])
    table = np.array(data.draw(st.lists(st.lists(st.integers(0, 3), min_size=7, max_size=7), min_size=25, max_size=25)), float)

    def scorer(events: Ints) -> np.ndarray:
        return table[events]

    events = np.arange(len(inter))
    found = rank_events(inter, events, scorer, chunk_bytes=data.draw(st.sampled_from([1, 56 * 3, 1 << 20])), top=2)
    assert found.slates is not None
    for event in events:
        earlier = (inter.user == inter.user[event]) & (inter.time < inter.time[event])
        free = [code for code in range(7) if code not in inter.item[earlier]]
        own, others = table[event, inter.item[event]], [table[event, code] for code in free if code != inter.item[event]]
        assert found.rank[event] == 1 + sum(s > own for s in others) + 0.5 * sum(s == own for s in others)
        best = sorted(free, key=lambda code: (-table[event, code], code))[:2]
        assert found.slates[event].tolist() == best + [-1] * (2 - len(best))
        assert found.candidates[event] == len(free)
        assert found.untouched[event] == (inter.item[inter.time < inter.time[event]] != inter.item[event]).all()


@pytest.mark.parametrize(
    ("users", "times", "why"),
    [
        (list("aaaabcdefg"), range(10), "all 2 of the last 20% are the first of their users"),
        (list("abcdefghab"), [5] * 10, "none of the last 20%, 2 events, has one of its user before it"),
        ([], [], "there are only 0 events"),
    ],
)
def test_when_no_event_can_be_evaluated_the_error_says_why(users, times, why) -> None:
    inter = Interactions.from_columns(users, [f"i{k}" for k in range(len(users))], list(times))
    error = no_evaluated_event(inter, evaluated_events(inter))
    assert error is not None
    assert why in str(error)
    assert "Expected: an event is evaluated when its user has another one before it" in str(error)


def test_where_one_event_can_be_evaluated_there_is_no_error(tiny: Interactions) -> None:
    assert no_evaluated_event(tiny, evaluated_events(tiny, share=0.5)) is None
