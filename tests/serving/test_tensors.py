"""Arrays survive the wire, by our fast path and by TensorFlow's own functions in either direction."""
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp

from tfrec.serving.tensors import from_proto, from_values, text_array, to_proto, to_values

SHAPES = stnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
NUMBERS = st.sampled_from(["float32", "float64", "int32", "int64", "bool"]).flatmap(lambda dtype: stnp.arrays(dtype, SHAPES))
TEXTS = stnp.arrays(object, SHAPES, elements=st.binary(max_size=3))


@settings(deadline=None)
@given(NUMBERS | TEXTS)
def test_round_trip_and_agreement_with_tensorflow(array: np.ndarray) -> None:
    for proto in (to_proto(array), tf.make_tensor_proto(array, dtype=tf.string if array.dtype == object else None)):
        for back in (from_proto(proto), tf.make_ndarray(proto)):
            assert back.dtype == array.dtype
            np.testing.assert_array_equal(back, array)


def test_other_types_go_through_tensorflow() -> None:
    array = np.array([1.5, 2.5], np.float16)
    np.testing.assert_array_equal(from_proto(to_proto(array)), array)


def test_a_repeated_tail_may_be_left_out() -> None:
    proto = to_proto(np.array([1, 2], np.int32))
    proto.tensor_shape.dim[0].size = 4
    assert from_proto(proto).tolist() == [1, 2, 2, 2]


def test_a_few_bytes_do_not_become_gigabytes() -> None:
    for array in (np.array([1], np.int32), np.array([1], np.float16)):
        proto = to_proto(array)
        proto.tensor_shape.dim[0].size = 1 << 40
        with pytest.raises(ValueError, match="too large for what was sent"):
            from_proto(proto)


@pytest.mark.parametrize("size", [1, -1])
def test_values_must_fill_the_shape(size: int) -> None:
    proto = to_proto(np.array([1, 2], np.int32))
    proto.tensor_shape.dim[0].size = size
    with pytest.raises(ValueError, match="shape"):
        from_proto(proto)
    proto.tensor_content = b"123"
    with pytest.raises(ValueError, match=r"."):
        from_proto(proto)


@given(TEXTS.filter(lambda array: array.ndim > 0))
def test_text_becomes_bytes(array: np.ndarray) -> None:
    text = text_array(to_values(array))
    assert text.shape == array.shape or array.size == 0
    assert all(isinstance(value, bytes) for value in text.ravel())


def test_values_and_back() -> None:
    assert to_values(text_array([["a", "ü"]])) == [["a", "ü"]]
    assert from_values(["-Infinity", 1.0], "float32").tolist() == [-np.inf, 1.0]
