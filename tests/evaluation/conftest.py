"""A log of eight events, small enough to rank by hand."""
import pytest

from tfrec.data.behaviour.interactions import Interactions


@pytest.fixture
def tiny() -> Interactions:
    """In order: u:a@10, v:a@11, the basket {u:b, u:c}@20, the basket {w:a, w:d}@30, v:b@40, u:d@50; item e is in no event."""
    return Interactions.from_columns(
        user=["u", "v", "u", "u", "w", "w", "v", "u"],
        item=["a", "a", "b", "c", "a", "d", "b", "d"],
        time=[10, 11, 20, 20, 30, 30, 40, 50],
        items=["a", "b", "c", "d", "e"],
    )
