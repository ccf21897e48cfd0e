"""Names as positions."""
import pyarrow as pa
import pytest

from tfrec.data.items.positions import positions


@pytest.mark.parametrize("names", [pa.array(["b", None, "z", "a", "b"], pa.string()),
                                   pa.chunked_array([["b", None], ["z", "a", "b"]], pa.string())])
def test_a_name_that_is_not_known_has_none(names):
    assert positions(names, ["a", "b"]).tolist() == [1, -1, -1, 0, 1]
    assert positions(names[:0], ["a", "b"]).tolist() == []
    assert positions(names, []).tolist() == [-1] * 5
    assert positions(pa.nulls(2, pa.string()), ["a"]).tolist() == [-1, -1]
