"""The rhythm of runs, on a clock of the test."""
import threading

from hypothesis import given
from hypothesis import strategies as st

from tfrec.retrain.beats import beats


class Clock(threading.Event):
    """A wait takes no time and moves the clock; it is set when the last run has ended."""

    now = 100.0

    def wait(self, timeout: float | None = None) -> bool:
        self.now += timeout or 0.0
        return self.is_set()


@given(st.integers(1, 50), st.lists(st.integers(0, 500), min_size=1, max_size=20))
def test_beats_do_not_drift_and_missed_ones_are_skipped(every: int, runs: list[int]) -> None:
    clock, began, skipped = Clock(), [], []
    for missed in beats(float(every), clock, clock=lambda: clock.now):
        began.append(clock.now - 100)
        skipped.append(missed)
        clock.now += runs[len(began) - 1]
        if len(began) == len(runs):
            clock.set()
    assert all(moment % every == 0 for moment in began)
    assert skipped[0] == 0
    for number in range(1, len(runs)):
        ended = began[number - 1] + runs[number - 1]
        assert ended <= began[number] < max(ended, began[number - 1] + 1) + every  # the first beat that is not over yet
        assert began[number] - began[number - 1] == every * (1 + skipped[number])


def test_a_wait_ends_when_it_is_told_to_stop() -> None:
    stopping, seen = threading.Event(), 0
    for _ in beats(3600.0, stopping):
        seen += 1
        stopping.set()
    assert seen == 1
