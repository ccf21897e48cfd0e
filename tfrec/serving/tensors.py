"""Arrays to tensor protos and back, for both ends of a connection.

`tf.make_tensor_proto` and `tf.make_ndarray` take 20-60 us a tensor, a good part of what a small model takes. The types of tfrec's
signatures are therefore written straight into the fields that the real server fills (`AsProtoField`); the rest goes through
TensorFlow. Text is an array of bytes objects, as TensorFlow has it.
"""
import math
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from tfrec.serving.manifest import DType, Values

_FIELDS = {  # name of the numpy type -> (enum, field of the proto)
    "float32": (types_pb2.DT_FLOAT, "float_val"),
    "float64": (types_pb2.DT_DOUBLE, "double_val"),
    "int32": (types_pb2.DT_INT32, "int_val"),
    "int64": (types_pb2.DT_INT64, "int64_val"),
    "bool": (types_pb2.DT_BOOL, "bool_val"),
    "object": (types_pb2.DT_STRING, "string_val"),
}
_MAX_FILLED = 1 << 26  # values: half a gigabyte of the widest
_BY_ENUM = {enum: (np.dtype(name), field) for name, (enum, field) in _FIELDS.items()}


def to_proto(array: np.ndarray) -> tensor_pb2.TensorProto:
    """`array` as a proto; text must be an array of bytes objects."""
    known = _FIELDS.get(array.dtype.name)
    if known is None:
        return tf.make_tensor_proto(array)
    proto: tensor_pb2.TensorProto = tensor_pb2.TensorProto(dtype=known[0])
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    getattr(proto, known[1]).extend(array.ravel().tolist())
    return proto


def from_proto(proto: tensor_pb2.TensorProto) -> np.ndarray:
    """The array of a proto, in typed fields or packed; `ValueError` when its values do not fill its shape.

    A proto may leave out the repeated tail of its values, up to `_MAX_FILLED` of them: a few bytes must not take all memory.
    """
    shape = [dim.size for dim in proto.tensor_shape.dim]
    size = math.prod(shape)
    if size > _MAX_FILLED and size > proto.ByteSize():
        raise ValueError(f"the shape {shape} is too large for what was sent")
    known = _BY_ENUM.get(proto.dtype)
    if known is None or proto.tensor_content:
        try:
            return np.asarray(tf.make_ndarray(proto))
        except (TypeError, KeyError) as error:
            raise ValueError(str(error)) from error
    values = getattr(proto, known[1])
    if proto.tensor_shape.unknown_rank or min(shape, default=0) < 0:
        raise ValueError(f"a tensor that is sent needs a whole shape, got {shape}")
    if len(values) > size or (size and not values):
        raise ValueError(f"{len(values)} values do not fill the shape {shape}")
    array = np.empty(size, known[0])
    array[: len(values)] = values
    if len(values) < size:
        array[len(values) :] = values[-1]  # a proto may leave out a repeated tail
    return array.reshape(shape)


def text_array(values: Any) -> np.ndarray:
    """Nested sequences of str or bytes, equally long on each level, as an array of UTF-8 bytes."""
    return _each(np.array(values, dtype=object), lambda value: value.encode() if isinstance(value, str) else value)


def from_values(values: Values, dtype: DType) -> np.ndarray:
    """The array of a manifest's nested lists."""
    return text_array(values) if dtype == "string" else np.array(values, dtype=dtype)


def to_values(array: np.ndarray) -> Values:
    """Nested lists for a manifest."""
    if array.dtype == object:
        array = _each(array, lambda value: value.decode("utf-8", "replace"))
    return list(array.tolist())


def _each(array: np.ndarray, function: Any) -> np.ndarray:
    result = np.empty(array.size, object)
    result[:] = [function(value) for value in array.ravel()]
    return result.reshape(array.shape)
