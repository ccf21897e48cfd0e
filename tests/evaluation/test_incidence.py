"""The sparse matrix against the dense one."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrec.evaluation import incidence
from tfrec.evaluation.incidence import Incidence


def sparse(dense: np.ndarray) -> Incidence:
    return Incidence.of(*np.nonzero(dense))


def test_rows_columns_and_products_by_hand() -> None:
    found = Incidence.of([1, 0, 1], [1, 1, 0])  # [[0, 1], [1, 1]]
    assert [row.tolist() for row in found.rows()] == [[1], [0, 1]]
    assert [row.tolist() for row in found.transposed().rows()] == [[1], [0, 1]]
    assert [row.tolist() for row in found.together()] == [[1, 1], [1, 2]]
    assert found.pairs() == 1 + 4
    assert found.times(np.array([[1.0, 2, 3], [10, 20, 30]])).tolist() == [[10, 20, 30], [11, 22, 33]]
    assert found.squares(np.array([[1.0, 2], [3, 4]])).tolist() == [4, 1 + 2 + 3 + 4]


@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 2**32 - 1), st.sampled_from([1, 64, 1 << 20]))
def test_every_size_is_the_dense_matrix(rows: int, columns: int, seed: int, held: int) -> None:
    rng = np.random.default_rng(seed)
    dense = (rng.random((rows, columns)) < 0.4).astype(float)
    dense[np.arange(max(rows, columns)) % rows, np.arange(max(rows, columns)) % columns] = 1
    found, right, square = sparse(dense), rng.random((columns, 3)), rng.random((columns, columns))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(incidence, "GATHERED_BYTES", held)
        np.testing.assert_allclose(found.times(right), dense @ right, rtol=1e-12)
    np.testing.assert_array_equal(list(found.together()), dense @ dense.T)
    np.testing.assert_allclose(found.squares(square), np.diag(dense @ square @ dense.T), rtol=1e-12)
