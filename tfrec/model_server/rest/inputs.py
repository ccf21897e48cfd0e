"""Arrays from the JSON of a REST request, with the real server's rules and messages.

`instances` is a list of examples, each a value or an object of named values, answered by `predictions`; `inputs` is a value or
an object of whole tensors, answered by `outputs`. Text is a string, bytes are `{"b64": ...}`.
"""
import base64
import binascii
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from grpc import StatusCode
from tensorflow.core.framework import types_pb2

from tfrec.model_server.grpc_status import StatusError, invalid
from tfrec.model_server.rest.document import INT64, UINT64_MAX, shown, type_name

_MULTIPLE = "multiple input tensors required as per tensorinfo_map"
_MAX_RANK = 254  # of any tensor
_SPACE = re.compile(r"[ \t\n\v\f\r]")
_FLOATS = (types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE)
_RANGES: dict[int, tuple[int, int]] = {
    types_pb2.DT_INT8: (-(1 << 7), (1 << 7) - 1),
    types_pb2.DT_INT16: (-(1 << 15), (1 << 15) - 1),
    types_pb2.DT_INT32: (-(1 << 31), (1 << 31) - 1),
    types_pb2.DT_INT64: INT64,
    types_pb2.DT_UINT8: (0, (1 << 8) - 1),
    types_pb2.DT_UINT16: (0, (1 << 16) - 1),
    types_pb2.DT_UINT32: (0, (1 << 32) - 1),
    types_pb2.DT_UINT64: (0, UINT64_MAX),
}


def read_inputs(document: Mapping[str, Any], types: Mapping[str, int]) -> tuple[dict[str, np.ndarray], bool]:
    """The named arrays of a document, and whether it has them by row; `types` has the TensorFlow type number of each input."""
    if not types:
        raise invalid(f"Failed to get input map for signature: {document.get('signature_name') or 'DEFAULT'}")
    keys = [key for key in ("instances", "inputs") if key in document]
    if not keys:
        raise invalid("Missing 'inputs' or 'instances' key")
    if len(keys) == 2:
        expected = "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
        raise invalid(f"JSON Value: {shown(document)} {expected}")
    value = document[keys[0]]
    if keys[0] == "inputs":
        return _from_columns(value, types), False
    if not isinstance(value, list):
        raise invalid(f"JSON Value: {shown(document)} Expecting 'instances' to be an list/array")
    if not value:
        raise invalid(f"JSON Value: {shown(document)} No values in 'instances' array")
    return _from_rows(value, types), True


def _from_columns(value: Any, types: Mapping[str, int]) -> dict[str, np.ndarray]:
    if not _is_named(value):
        if len(types) > 1:
            raise invalid(f"inputs is a plain value/list, but expecting an object as {_MULTIPLE}")
        value = {next(iter(types)): value}
    arrays = {}
    for name, dtype in types.items():
        if name not in value:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        arrays[name] = _array(*_leaves(value[name], dtype), dtype)
    return arrays


def _from_rows(rows: list[Any], types: Mapping[str, int]) -> dict[str, np.ndarray]:
    named = _is_named(rows[0])
    if not named and len(types) > 1:
        raise invalid(f"instances is a plain list, but expecting list of objects as {_MULTIPLE}")
    columns: dict[str, list[Any]] = {name: [] for name in types}
    shapes: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        if _is_named(row) != named:
            expected, got = ("object", "list") if named else ("value/list", "object")
            raise invalid(f"Expecting {expected} but got {got} at item {i} of input list")
        for name, value in row.items() if named else ((next(iter(types)), row),):
            try:
                if name not in types:
                    raise invalid(f"JSON object: does not have named input: {name}")
                leaves, shape = _leaves(value, types[name])
                _same_shape(shapes.setdefault(name, shape), shape)
            except StatusError as error:
                what = f"Failed to process element: {i}" + (f" key: {name}" if named else "")
                raise invalid(f"{what} of 'instances' list. Error: {error.code.name}: {error.message}") from error
            columns[name].extend(leaves)
        if named and row.keys() != types.keys():
            what = f"Failed to process element: {i} of 'instances' list. JSON object: {shown(row)}"
            raise invalid(f"{what} keys must be equal to: {','.join(sorted(types))}")
    return {name: _array(columns[name], [len(rows), *shapes[name]], dtype) for name, dtype in types.items()}


def _same_shape(expected: list[int], got: list[int]) -> None:
    if math.prod(expected) != math.prod(got):
        raise invalid(f"Expecting tensor size: {math.prod(expected)} but got: {math.prod(got)}")
    if expected != got:
        raise invalid(f"Expecting shape {expected} but got: {got}".replace(", ", ","))


def _leaves(value: Any, dtype: int) -> tuple[list[Any], list[int]]:
    """The values of a tensor in order, and its shape, by the first element of each list."""
    shape = []
    inner = value
    while isinstance(inner, list):
        shape.append(len(inner))
        inner = inner[0] if inner else None
    if len(shape) > _MAX_RANK:
        raise invalid(f"Encountered list at unexpected level: {len(shape)} expected < {_MAX_RANK}")
    raw: list[Any] = []
    _flatten(value, shape, 0, raw)
    return _typed(raw, dtype), shape


def _array(leaves: list[Any], shape: list[int], dtype: int) -> np.ndarray:
    if dtype != types_pb2.DT_STRING:
        with np.errstate(over="ignore"):  # a double that is too large for a float becomes infinity
            return np.array(leaves, dtype=tf.dtypes.as_dtype(dtype).as_numpy_dtype).reshape(shape)
    array = np.empty(len(leaves), object)
    array[:] = leaves
    return array.reshape(shape)


def _flatten(value: Any, shape: list[int], level: int, leaves: list[Any]) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            where = f"found at incorrect level: {level + 1} in the JSON DOM. Expected at level: {len(shape)}"
            raise invalid(f"JSON Value: {shown(value)} {where}")
        leaves.append(value)
        return
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}")
    if level + 1 == len(shape) and not any(isinstance(element, list) for element in value):
        leaves.extend(value)
        return
    for element in value:
        _flatten(element, shape, level + 1, leaves)


def _typed(raw: list[Any], dtype: int) -> list[Any]:
    """`raw` as values of the type, which all must have."""
    if not raw:
        return raw
    if dtype == types_pb2.DT_STRING:
        return [v.encode("utf-8", "surrogateescape") if type(v) is str else _decoded(v) for v in raw]
    fits = _fits(dtype)
    if fits is None:
        raise StatusError(StatusCode.UNIMPLEMENTED, f"Conversion of JSON Value: {shown(raw[0])} to type: {type_name(dtype)}")
    for value in raw:
        if not fits(value):
            raise _wrong_type(value, dtype)
    return raw


def _fits(dtype: int) -> Callable[[Any], bool] | None:
    """A check that a value has the type; None for a type without a form in JSON."""
    if dtype == types_pb2.DT_BOOL:
        return lambda value: type(value) is bool
    if dtype in _FLOATS:
        return lambda value: type(value) is float or type(value) is int
    if dtype not in _RANGES:
        return None
    low, high = _RANGES[dtype]
    return lambda value: type(value) is int and low <= value <= high


def _wrong_type(value: Any, dtype: int) -> StatusError:
    return invalid(f"JSON Value: {shown(value)} Type: {_type(value)} is not of expected type: {type_name(dtype)}")


def _decoded(value: Any) -> bytes:
    """The bytes of `{"b64": ...}`. Like the real server's decoder this skips white space and needs no padding."""
    if not isinstance(value, dict):
        raise _wrong_type(value, types_pb2.DT_STRING)
    if not _is_bytes(value):
        raise invalid(f"JSON Value: {shown(value)} not formatted correctly for base64 data")
    coded = _SPACE.sub("", value["b64"])
    bare = coded.rstrip("=.")
    padding = -len(bare) % 4
    try:
        if len(coded) - len(bare) not in (0, padding):
            raise invalid("Unable to base64 decode")
        return base64.b64decode(bare.encode("ascii") + b"=" * padding, validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise invalid("Unable to base64 decode") from error


def _is_bytes(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not _is_bytes(value)


def _type(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "Null", True: "True", False: "False"}[value]
    return {"str": "String", "list": "Array", "dict": "Object"}.get(type(value).__name__, "Number")
