"""Batches: every window once, few shapes, fillers of weight 0, an order that is a function of seed and epoch."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models import world
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.examples.sequences import Windows, windows
from tfrec.training.window_batches import WindowBatches

INTER = world.interactions(world.catalogue(40), users=30)
CODES = np.array([4, 7], np.int32)
LOG_P = -np.arange(len(INTER), dtype=np.float32)
SNAPSHOT = np.arange(len(INTER), dtype=np.int32) // 10
Batch = dict[str, np.ndarray]


def made(found: Windows, *, batch_size: int = 4, replicas: int = 1, one_shape: bool = False) -> WindowBatches:
    return WindowBatches(found, CODES, SNAPSHOT, LOG_P, batch_size=batch_size, replicas=replicas, one_shape=one_shape)


def epoch(source: WindowBatches, *, seed: int = 0, number: int = 0) -> list[Batch]:
    return list(source.epoch(seed, number).as_numpy_iterator())


def targets(batches: list[Batch]) -> list[tuple[float, int]]:
    """(log p, target) of all that is learnt: log p names the event here."""
    return sorted((float(p), int(t)) for b in batches for p, t in zip(b["log_p"][b["weight"] > 0], b["target"][b["weight"] > 0],
                                                                      strict=True))


@settings(deadline=None, max_examples=20)
@given(length=st.integers(2, 9), batch_size=st.integers(1, 6), replicas=st.integers(1, 3), one_shape=st.booleans())
def test_laws(length, batch_size, replicas, one_shape):
    found = windows(INTER, length=length)
    source = made(found, batch_size=batch_size, replicas=replicas, one_shape=one_shape)
    batches = epoch(source)
    assert len(batches) == source.steps
    # each target once: no window twice, none left out, and none cut where it is learnt
    learnt = found.event[found.weight > 0]
    assert targets(batches) == sorted((float(LOG_P[e]), int(INTER.item[e])) for e in learnt)
    for batch in batches:
        rows, length_of_batch = batch["item"].shape
        assert rows % replicas == 0
        assert rows * length_of_batch <= max(batch_size * length, replicas * length_of_batch)
        read = np.take_along_axis(batch["item"], batch["read_at"], axis=1)
        assert (read[batch["weight"] > 0] >= 0).all()  # the token that is read from is there
    shapes = {b["item"].shape for b in batches}
    assert len(shapes) == len({width for _, width in shapes})
    assert len(shapes) <= (1 if one_shape else 3)


def test_the_order_is_a_function_of_seed_and_epoch():
    source = made(windows(INTER, length=6))
    first = epoch(source, seed=1, number=2)
    for again, same in ((epoch(source, seed=1, number=2), True), (epoch(source, seed=1, number=3), False),
                        (epoch(source, seed=2, number=2), False)):
        equal = all(np.array_equal(a[k], b[k]) for a, b in zip(first, again, strict=True) for k in a)
        assert equal == same
        assert targets(again) == targets(first)


def test_what_a_batch_holds():
    found = windows(INTER, length=6)
    [batch] = epoch(made(found, batch_size=200, one_shape=True))
    assert batch["item"].shape == (200, 6)
    rows = np.flatnonzero(batch["weight"].sum(1) > 0)
    assert rows.tolist() == list(range(len(found)))  # fillers, of weight 0, stand behind
    learnt = batch["weight"] > 0
    event = -batch["log_p"][learnt].astype(int)
    assert (INTER.item[event] == batch["target"][learnt]).all()
    assert (SNAPSHOT[event] == batch["snapshot"][learnt]).all()
    assert set(np.unique(batch["action"])) == {4, 7}


@pytest.mark.parametrize(("one_shape", "expected"), [(False, {4, 7, 13, 25}), (True, {25})])
def test_shapes_halve_down_to_four(one_shape, expected):
    user = np.repeat(np.arange(400), np.tile(np.arange(2, 42), 10))
    n = len(user)
    inter = Interactions(user.astype(np.int32), (np.arange(n) % 60).astype(np.int32), np.arange(n), np.zeros(n, np.int16),
                         np.ones(n, np.float32), tuple(map(str, range(400))), tuple(map(str, range(60))), ("view",))
    source = WindowBatches(windows(inter, length=25), CODES, np.zeros(n, np.int32), np.zeros(n, np.float32), batch_size=4,
                   one_shape=one_shape)
    batches = epoch(source)
    assert {b["item"].shape[1] for b in batches} == expected
    # a batch that is not full is filled from a narrower shape: at most one holds fillers
    assert sum((b["weight"].sum(1) == 0).any() for b in batches) <= 1
