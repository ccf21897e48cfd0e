"""Arrays survive the wire, by our fast path and by TensorFlow's own functions in either direction."""
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp
from tensorflow.core.framework.tensor_pb2 import TensorProto

from tfrec.client.tensors import from_proto, from_values, text_array, to_proto, to_values

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


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8", "int16", "uint8", "uint16", "uint32", "uint64", "complex64",
                                   "complex128"])
@pytest.mark.parametrize("shape", [(), (2, 1)], ids=str)
def test_other_types_are_written_so_that_tensorflow_reads_them(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.full(shape, 5, tf.dtypes.as_dtype(dtype).as_numpy_dtype)
    for back in (from_proto(to_proto(array)), tf.make_ndarray(to_proto(array))):
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([b"a"]), np.array(["2026-01-01"], "datetime64[D]")], ids=str)
def test_an_array_that_is_no_tensor_is_refused_by_its_type(array: np.ndarray) -> None:
    with pytest.raises(TypeError, match=r"expected numbers, bool or bytes objects, got an array of .*(U|S|datetime)"):
        to_proto(array)


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


def shaped(dtype: str, *shape: int, **fields: Any) -> TensorProto:
    proto = TensorProto(dtype=tf.dtypes.as_dtype(dtype).as_datatype_enum, **fields)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.mark.parametrize(
    ("proto", "expected"),
    [
        (shaped("float32", 2), [0.0, 0.0]),
        (shaped("string", 2), [b"", b""]),
        (shaped("bool", 1), [False]),
        (shaped("float32", 2, float_val=[1, 2, 3]), [1.0, 2.0]),
        (shaped("float32", 0, 2, float_val=[1, 2]), []),
        (shaped("float32", 0, tensor_content=b"123"), []),
        (shaped("string", 2, tensor_content=b"\x01\x02abb"), [b"a", b"bb"]),
        (shaped("float16", 3, half_val=[15360, 16384]), [1.0, 2.0, 2.0]),
        (shaped("bfloat16", 2, half_val=[16256]), [1.0, 1.0]),
        (shaped("int8", 2, int_val=[300, -1]), [44, -1]),
        (shaped("complex64", 2, scomplex_val=[1, 2]), [1 + 2j, 1 + 2j]),
        (shaped("uint64", 2, uint64_val=[5]), [5, 5]),
        (shaped("float32", 2, tensor_content=b"123"), None),
        (shaped("string", 2, tensor_content=b"\x01\x02ab"), None),
        (shaped("string", 1, tensor_content=b"\xff"), None),
        (shaped("bool", 2, tensor_content=b"\x01\x02"), None),
        (shaped("float32", -1), None),
        (TensorProto(dtype=0), None),
    ],
    ids=str,
)
def test_a_proto_is_read_as_tensorflow_itself_reads_it(proto: TensorProto, expected: list[Any] | None) -> None:
    """The expected values are those of a constant that TensorFlow makes of the proto."""
    if expected is None:
        with pytest.raises(ValueError, match=r"."):
            from_proto(proto)
    else:
        array = from_proto(proto)
        assert array.dtype == tf.dtypes.as_dtype(proto.dtype).as_numpy_dtype
        assert array.shape == tuple(dim.size for dim in proto.tensor_shape.dim)
        assert array.tolist() == expected


def test_long_tensors_are_copied_whole() -> None:
    array = np.arange(200_000, dtype=np.int64)
    np.testing.assert_array_equal(from_proto(to_proto(array)), array)


@given(TEXTS.filter(lambda array: array.ndim > 0))
def test_text_becomes_bytes(array: np.ndarray) -> None:
    text = text_array(to_values(array))
    assert text.shape == array.shape or array.size == 0
    assert all(isinstance(value, bytes) for value in text.ravel())


def test_values_and_back() -> None:
    assert to_values(text_array([["a", "ü"]])) == [["a", "ü"]]
    assert from_values(["-Infinity", 1.0], "float32").tolist() == [-np.inf, 1.0]
