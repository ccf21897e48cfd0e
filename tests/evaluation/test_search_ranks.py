"""Ranks of searches by hand, and what is no better than chance."""
import numpy as np
import pytest

from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item
from tfrec.evaluation.search_ranks import LOG, OWN_TEXTS, Searches, chosen_searches, is_above_chance, own_texts, rank_searches

CATALOGUE = Catalogue([Item(id=name, text=text, available=name != "gone") for name, text in
                       [("a", "red"), ("b", "same"), ("c", "same"), ("d", ""), ("gone", "away"), ("e", "blue")]])


def test_ranks_by_hand_in_parts_and_whole() -> None:
    scores = np.array([[3.0, 1.0, 2.0], [1.0, 1.0, 1.0], [np.nan, 0.5, 0.1]])
    searches = Searches(("x", "y", "z"), np.array([2, 0, 0]), np.arange(3), LOG)
    for size in (1, 1 << 20):
        assert rank_searches(searches, lambda rows: scores[rows], n_items=3, chunk_bytes=size).tolist() == [2.0, 2.0, 3.0]


def test_only_texts_that_one_item_has_are_searched_for() -> None:
    found = own_texts(CATALOGUE, limit=10)
    assert (found.texts, found.items.tolist(), found.source) == (("red", "blue"), [0, 5], OWN_TEXTS)
    assert own_texts(CATALOGUE, limit=1).texts == ("red",)


def test_queries_of_the_log_are_for_what_was_chosen() -> None:
    found = chosen_searches([("x", "e", "ann"), ("", "a", "ann"), ("y", "unknown", "bob"), ("z", "a", "bob")], CATALOGUE)
    assert (found.texts, found.items.tolist(), found.users.tolist()) == (("x", "z"), [5, 0], [0, 1])
    assert len(chosen_searches([], CATALOGUE)) == 0


@pytest.mark.parametrize("n_items", [2, 10, 1000])
def test_chance_is_told_from_skill(n_items: int) -> None:
    rng = np.random.default_rng(0)
    assert is_above_chance(np.ones(60), n_items)
    assert sum(is_above_chance(rng.integers(1, n_items + 1, 60).astype(float), n_items) for _ in range(200)) <= 3
    assert not is_above_chance(np.zeros(0), n_items)
