"""Event ids that were kept before, at the same moment, or not after all."""
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tfrec.errors import DataError
from tfrec.gateway.dedupe import Deduplicator


def new(repeats: Deduplicator, *ids: str) -> set[str]:
    with repeats.writing(ids) as found:
        return set(found)


def test_an_id_is_new_once() -> None:
    repeats = Deduplicator()
    repeats.fill({"a"})
    assert new(repeats, "a", "b", "b") == {"b"}
    assert new(repeats, "b", "c") == {"c"}


def test_what_was_not_kept_is_new_again() -> None:
    repeats = Deduplicator()
    with pytest.raises(DataError), repeats.writing(["a"]):
        raise DataError("full")
    assert new(repeats, "a") == {"a"}


def test_the_oldest_are_forgotten() -> None:
    repeats = Deduplicator(most=2)
    for event in "abc":
        new(repeats, event)
    assert new(repeats, "b") == set()
    assert new(repeats, "a") == {"a"}


@pytest.mark.parametrize("kept", [True, False])
def test_the_second_sender_waits_for_the_first_ones_fate(kept: bool) -> None:
    repeats, began, go = Deduplicator(), threading.Event(), threading.Event()

    def first() -> None:
        with repeats.writing(["a"]):
            began.set()
            assert go.wait(10)
            if not kept:
                raise DataError("full")

    def second() -> set[str]:
        with repeats.writing(["a", "b"]) as found:
            began.set()
        return found

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(first)
        assert began.wait(10)
        began.clear()
        two = pool.submit(second)
        assert began.wait(10)
        assert not two.done()
        go.set()
        if kept:
            one.result()
            assert two.result() == {"b"}
        else:
            for failed in (one, two):
                with pytest.raises(DataError):
                    failed.result()
