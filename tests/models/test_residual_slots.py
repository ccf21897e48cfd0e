"""Residual slots: one item a slot, the stalest gives way."""
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tfrec.models.residual_slots import assign_slots

N = 8


def assign(slot: list[int], items: list[int], last_seen: list[int], *, slots: int) -> tuple[list[int], list[int]]:
    given_slots, taken = assign_slots(np.array(slot, np.int32), np.array(items, np.int64), np.array(last_seen), slots=slots)
    return given_slots.tolist(), taken.tolist()


def test_free_slots_go_to_the_newest_first():
    assert assign([0, 0, 0, 0], [0, 2, 2, 3], [5, 0, 9, 7], slots=3) == ([0, 0, 1, 2], [])
    assert assign([0, 2, 0, 0], [0, 1], [5, 6, 0, 0], slots=4) == ([1, 2, 0, 0], [])


def test_the_stalest_gives_way_and_its_slot_is_cleared():
    assert assign([1, 2, 0, 0], [2], [3, 8, 9, 0], slots=3) == ([0, 2, 1, 0], [1])


def test_no_item_is_pushed_out_by_one_seen_before_it():
    assert assign([1, 2, 0, 0], [2], [3, 8, 2, 0], slots=3) == ([1, 2, 0, 0], [])


@given(st.lists(st.lists(st.tuples(st.integers(0, N - 1), st.integers(0, 50)), max_size=6), max_size=6), st.integers(2, 6))
def test_laws(batches, slots):
    slot, last_seen = np.zeros(N, np.int32), np.zeros(N, np.int64)
    for batch in batches:
        items = np.array([item for item, _ in batch], np.int64)
        np.maximum.at(last_seen, items, np.array([time for _, time in batch], np.int64))
        before = slot
        slot, taken = assign_slots(before, items, last_seen, slots=slots)
        held = slot[slot > 0]
        assert len(set(held.tolist())) == len(held)  # no two items share a slot
        assert held.max(initial=0) < slots
        tuned = np.flatnonzero((before > 0) & (slot != before))
        assert sorted(before[tuned]) == sorted(taken)
        assert (slot[tuned] == 0).all()  # a slot is kept or lost, never exchanged
        new = np.flatnonzero((before == 0) & (slot > 0))
        assert set(new) <= set(items.tolist())
        # whoever gave way is no fresher than whoever has a slot among those seen now
        if len(tuned):
            assert last_seen[tuned].max() <= last_seen[new].min()
        if (slot[items] == 0).any():
            assert len(held) == slots - 1  # nobody goes without while a slot is free


def test_what_was_given_is_not_changed_in_place():
    slot = np.array([1, 0], np.int32)
    assign_slots(slot, np.array([1]), np.array([0, 9]), slots=2)
    assert slot.tolist() == [1, 0]
