"""Converts arrays to tensor protos and back, for both ends of a connection.

`tf.make_tensor_proto` and `tf.make_ndarray` take 20-60 us a tensor, a good part of what a small model takes, and a client has no
TensorFlow. So the types of tfrec's signatures are written straight into the fields that TensorFlow Serving fills
(`AsProtoField`), and others as packed bytes. Reading follows TensorFlow's `Tensor::FromProto`. Text is an array of bytes objects.
"""
import math
from typing import Any, NoReturn

import ml_dtypes
import numpy as np

from tfrec.client.contract import DType, Values
from tfrec.client.protos import tensor_pb2, types_pb2

_FIELDS = {  # name of the numpy type -> (enum, field of the proto)
    "float32": (types_pb2.DT_FLOAT, "float_val"),
    "float64": (types_pb2.DT_DOUBLE, "double_val"),
    "int32": (types_pb2.DT_INT32, "int_val"),
    "int64": (types_pb2.DT_INT64, "int64_val"),
    "bool": (types_pb2.DT_BOOL, "bool_val"),
    "object": (types_pb2.DT_STRING, "string_val"),
}
_PACKED = {  # types that are written as packed bytes
    "float16": (types_pb2.DT_HALF, "half_val"),
    "bfloat16": (types_pb2.DT_BFLOAT16, "half_val"),
    "int8": (types_pb2.DT_INT8, "int_val"),
    "int16": (types_pb2.DT_INT16, "int_val"),
    "uint8": (types_pb2.DT_UINT8, "int_val"),
    "uint16": (types_pb2.DT_UINT16, "int_val"),
    "uint32": (types_pb2.DT_UINT32, "uint32_val"),
    "uint64": (types_pb2.DT_UINT64, "uint64_val"),
    "complex64": (types_pb2.DT_COMPLEX64, "scomplex_val"),
    "complex128": (types_pb2.DT_COMPLEX128, "dcomplex_val"),
}
_WRITTEN_AS = {"half_val": np.uint16, "int_val": np.int32}  # fields whose type differs from the tensor's
_MAX_FILLED = 1 << 26  # values: half a gigabyte of the widest
_AT_ONCE = 1 << 16  # values that are copied before another thread may run
_BY_ENUM = {
    enum: (np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name), field)
    for name, (enum, field) in (_FIELDS | _PACKED).items()
}


def to_proto(array: np.ndarray) -> tensor_pb2.TensorProto:
    """`array` as a proto; text must be an array of bytes objects.

    Raises:
        TypeError: there is no tensor of its type.
    """
    name = array.dtype.name
    if name not in _FIELDS and name not in _PACKED:
        raise TypeError(f"to_proto: expected numbers, bool or bytes objects, got an array of {array.dtype}")
    enum, field = _FIELDS.get(name) or _PACKED[name]
    proto: tensor_pb2.TensorProto = tensor_pb2.TensorProto(dtype=enum)
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if name in _FIELDS:
        getattr(proto, field).extend(array.ravel().tolist())
    else:
        proto.tensor_content = array.tobytes()
    return proto


def from_proto(proto: tensor_pb2.TensorProto) -> np.ndarray:
    """The array of a proto, whose values are in a typed field or packed as bytes.

    Typed values beyond the shape are left out. If there are too few, the last one is repeated, or zero if there is none. At
    most `_MAX_FILLED` are filled in, so that a few bytes cannot take all memory. Packed values must fill the shape.

    Raises:
        ValueError: the shape is not fully known, the type cannot be read, or the values do not fit the shape.
    """
    shape = [dim.size for dim in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or min(shape, default=0) < 0:
        raise ValueError(f"a tensor that is sent needs a whole shape, got {shape}")
    if proto.dtype not in _BY_ENUM:
        raise ValueError(f"tensors of type number {proto.dtype} are not read")
    size = math.prod(shape)
    if size > _MAX_FILLED and size > proto.ByteSize():
        raise ValueError(f"the shape {shape} is too large for what was sent")
    dtype, field = _BY_ENUM[proto.dtype]
    if not size:
        return np.empty(shape, dtype)
    if proto.tensor_content:
        return _unpacked(proto.tensor_content, dtype, size).reshape(shape)
    values = getattr(proto, field)
    if field.endswith("complex_val"):  # real and imaginary parts in turn
        values = [complex(*pair) for pair in zip(values[::2], values[1::2], strict=False)]
    array = _filled(values, np.dtype(_WRITTEN_AS.get(field, dtype)), size)
    return (array.astype(dtype) if field == "int_val" else array.view(dtype)).reshape(shape)


def _filled(values: Any, dtype: np.dtype, size: int) -> np.ndarray:
    array = np.empty(size, dtype)
    here = min(len(values), size)
    for begin in range(0, here, _AT_ONCE):
        end = min(here, begin + _AT_ONCE)
        array[begin:end] = values[begin:end]
    array[here:] = values[here - 1] if here else b"" if dtype.hasobject else 0
    return array


def _unpacked(content: bytes, dtype: np.dtype, size: int) -> np.ndarray:
    if not dtype.hasobject:
        if len(content) != size * dtype.itemsize:
            _wrong_size(content)
        if dtype.kind == "b" and content.strip(b"\0\1"):
            raise ValueError("packed values that are neither false nor true")
        return np.frombuffer(content, dtype).copy()
    lengths, position = [], 0
    for _ in range(size):  # the lengths of all texts, as varints; then come the texts
        length = shift = 0
        while True:
            if position >= len(content) or shift > 28:
                _wrong_size(content)
            length |= (content[position] & 127) << shift
            position, shift = position + 1, shift + 7
            if content[position - 1] < 128:
                break
        lengths.append(length)
    if position + sum(lengths) != len(content):
        _wrong_size(content)
    array = np.empty(size, object)
    for i, length in enumerate(lengths):
        array[i] = content[position : position + length]
        position += length
    return array


def _wrong_size(content: bytes) -> NoReturn:
    raise ValueError(f"{len(content)} packed bytes do not fill the shape")


def text_array(values: Any) -> np.ndarray:
    """Nested sequences of str or bytes, of equal length on each level, as an array of UTF-8 bytes objects."""
    return _each(np.array(values, dtype=object), lambda value: value.encode() if isinstance(value, str) else value)


def from_values(values: Values, dtype: DType) -> np.ndarray:
    """The array of nested lists that a manifest holds."""
    return text_array(values) if dtype == "string" else np.array(values, dtype=dtype)


def to_values(array: np.ndarray) -> Values:
    """The array as nested lists for a manifest."""
    if array.dtype == object:
        array = _each(array, lambda value: value.decode("utf-8", "replace"))
    return list(array.tolist())


def _each(array: np.ndarray, function: Any) -> np.ndarray:
    result = np.empty(array.size, object)
    result[:] = [function(value) for value in array.ravel()]
    return result.reshape(array.shape)
