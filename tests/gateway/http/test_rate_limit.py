"""The token bucket that measures a key's rate."""
from hypothesis import given
from hypothesis import strategies as st

from tfrec.gateway.http.rate_limit import TokenBucket


@given(st.floats(0.1, 100), st.lists(st.tuples(st.floats(0, 5), st.integers(1, 50)), max_size=60))
def test_no_caller_gets_more_than_the_rate_and_a_burst_and_none_owes(rate: float, calls: list[tuple[float, int]]) -> None:
    now, taken, burst = [0.0], 0, max(1.0, 2 * rate)
    bucket = TokenBucket(rate, clock=lambda: now[0])
    for pause, n in calls:
        now[0] += pause
        wait = bucket.take(n)
        if wait == 0.0:
            taken += n
            assert taken <= burst + rate * now[0] + 1e-6
        else:
            assert wait <= max(1e-3, burst / rate) + 1e-6  # however much was asked for before
            now[0] += wait
            if n <= bucket.burst:
                now[0] += 1e-6
                assert bucket.take(n) == 0.0
                taken += n
