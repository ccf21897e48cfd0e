"""Lists on points whose groups are known, and the layout worked out by hand."""
import numpy as np
from numpy.testing import assert_allclose, assert_array_equal

from tfrec.graph.clustering import BLOCK, centroids, layout, nearest


def groups(n: int, each: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    middle = rng.normal(size=(n, 16))
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    vectors = np.repeat(middle, each, axis=0) + rng.normal(0, 0.02, (n * each, 16))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), np.repeat(np.arange(n), each)


def test_a_list_holds_one_group() -> None:
    vectors, group = groups(10, 200)
    found = centroids(vectors, seed=3)
    home = nearest(vectors, found)
    assert len(found) == round(4 * 2000**0.5)
    assert all(len(set(group[home == number])) <= 1 for number in range(len(found)))
    assert np.bincount(home).max() < 200
    assert_allclose(np.linalg.norm(found, axis=1), 1.0, rtol=1e-5)


def test_the_same_seed_gives_the_same_lists() -> None:
    vectors, _ = groups(6, 50)
    assert_array_equal(centroids(vectors, seed=3), centroids(vectors, seed=3))
    assert not np.array_equal(centroids(vectors, seed=3), centroids(vectors, seed=4))


def test_vectors_that_are_all_the_same() -> None:
    vectors = np.tile(np.float32([[0.6, 0.8]]), [300, 1])
    found = centroids(vectors, seed=0)
    assert_allclose(found, np.tile([[0.6, 0.8]], [len(found), 1]), rtol=1e-6)


def test_the_head_comes_first_then_the_lists_in_blocks(monkeypatch) -> None:
    monkeypatch.setattr("tfrec.graph.clustering.HEAD_SHARE", 0.01)
    east, north = np.float32([1, 0]), np.float32([0, 1])
    vectors = np.stack([east] * 70 + [north] * 3)
    log_p = np.full(73, -5, np.float32)
    log_p[[0, 4, 71, 72]] = [-1, -2, -0.5, -4]
    available = np.ones(73, bool)
    available[71] = False  # so it is not popular, and promises nothing
    made = layout(vectors, log_p, available, np.stack([east, north]))
    assert made.head == BLOCK
    assert made.order[:2].tolist() == [0, -1]  # one hundredth of 73 is one item
    assert (made.first.tolist(), made.blocks.tolist()) == ([1, 3], [2, 1])
    assert_array_equal(made.order[BLOCK : BLOCK + 69], np.arange(1, 70))
    assert made.order[3 * BLOCK : 3 * BLOCK + 4].tolist() == [70, 71, 72, -1]
    assert made.max_log_p.tolist() == [-2, -4]
    assert sorted(made.order[made.order >= 0]) == list(range(73))
