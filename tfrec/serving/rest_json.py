"""JSON of the REST protocol to arrays and back, with the real server's rules and messages.

`instances` is a list of examples, each a value or an object of named values, answered by `predictions`; `inputs` is a value or
an object of whole tensors, answered by `outputs`. A single output loses its name. Text is a string, bytes are
`{"b64": ...}`.
"""
import base64
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from grpc import StatusCode
from tensorflow.core.framework import types_pb2

from tfrec.serving.refusal import Refusal, invalid
from tfrec.serving.saved_model import DEFAULT_SIGNATURE

_MULTIPLE = "multiple input tensors required as per tensorinfo_map"
_MAX_RANK = 254  # of any tensor


_RANGES: dict[int, tuple[float, float]] = {
    types_pb2.DT_FLOAT: (float(np.finfo(np.float32).min), float(np.finfo(np.float32).max)),
    types_pb2.DT_DOUBLE: (float(np.finfo(np.float64).min), float(np.finfo(np.float64).max)),
    types_pb2.DT_INT8: (-(1 << 7), (1 << 7) - 1),
    types_pb2.DT_INT16: (-(1 << 15), (1 << 15) - 1),
    types_pb2.DT_INT32: (-(1 << 31), (1 << 31) - 1),
    types_pb2.DT_INT64: (-(1 << 63), (1 << 63) - 1),
    types_pb2.DT_UINT8: (0, (1 << 8) - 1),
    types_pb2.DT_UINT32: (0, (1 << 32) - 1),
    types_pb2.DT_UINT64: (0, (1 << 64) - 1),
}


@dataclass(frozen=True)
class Body:
    """A parsed body: `by_row` says whether it came as `instances`."""

    signature: str
    by_row: bool
    value: Any


def parse(body: bytes) -> Body:
    """The body of a predict request, before its tensors are read."""
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise invalid(f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {_shown(document)} Is not object")
    signature = document.get("signature_name", DEFAULT_SIGNATURE)
    if not isinstance(signature, str):
        raise invalid(f"JSON Value: {_shown(document)} not formatted correctly. 'signature_name' key must be a string value.")
    keys = [key for key in ("instances", "inputs") if key in document]
    if not keys:
        raise invalid("Missing 'inputs' or 'instances' key")
    if len(keys) == 2:
        expected = "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
        raise invalid(f"JSON Value: {_shown(document)} {expected}")
    value = document[keys[0]]
    by_row = keys[0] == "instances"
    if by_row and not isinstance(value, list):
        raise invalid(f"JSON Value: {_shown(document)} Excepting 'instances' to be an list/array")
    if by_row and not value:
        raise invalid(f"JSON Value: {_shown(document)} No values in 'instances' array")
    return Body(signature or DEFAULT_SIGNATURE, by_row, value)


def read_inputs(body: Body, types: Mapping[str, int]) -> dict[str, np.ndarray]:
    """The named arrays of a body; `types` holds the TensorFlow type number of every input."""
    if body.by_row:
        return _from_rows(body.value, types)
    value = body.value
    if not isinstance(value, dict) or _is_bytes(value):
        if len(types) > 1:
            raise invalid(f"inputs is a plain value/list, but expecting an object as {_MULTIPLE}")
        if not types:
            raise invalid("inputs is a plain value/list, but the signature has no inputs")
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
        if named and row.keys() != types.keys():
            keys = ",".join(sorted(types))
            what = f"Failed to process element: {i} of 'instances' list. JSON object: {_shown(row)}"
            raise invalid(f"{what} keys must be equal to: {keys}")
        for name, dtype in types.items():
            try:
                leaves, shape = _leaves(row[name] if named else row, dtype)
                _same_shape(shapes.setdefault(name, shape), shape)
            except Refusal as error:
                what = f"Failed to process element: {i}" + (f" key: {name}" if named else "")
                raise invalid(f"{what} of 'instances' list. Error: {error.code.name}: {error.message}") from error
            columns[name].extend(leaves)
    return {name: _array(columns[name], [len(rows), *shapes[name]], dtype) for name, dtype in types.items()}


def _same_shape(expected: list[int], got: list[int]) -> None:
    if math.prod(expected) != math.prod(got):
        raise invalid(f"Expecting tensor size: {math.prod(expected)} but got: {math.prod(got)}")
    if expected != got:
        raise invalid(f"Expecting shape {expected} but got: {got}".replace(", ", ","))


def _leaves(value: Any, dtype: int) -> tuple[list[Any], list[int]]:
    """The values of a tensor in order, and its shape, which is that of its first branch."""
    shape = []
    inner = value
    while isinstance(inner, list):
        shape.append(len(inner))
        inner = inner[0] if inner else None
    if len(shape) > _MAX_RANK:
        raise invalid(f"Encountered list at unexpected level: {len(shape)} expected < {_MAX_RANK}")
    raw: list[Any] = []
    _flatten(value, shape, 0, raw)
    return [_leaf(leaf, dtype) for leaf in raw], shape


def _array(leaves: list[Any], shape: list[int], dtype: int) -> np.ndarray:
    if dtype != types_pb2.DT_STRING:
        return np.array(leaves, dtype=tf.dtypes.as_dtype(dtype).as_numpy_dtype).reshape(shape)
    array = np.empty(len(leaves), object)
    array[:] = leaves
    return array.reshape(shape)


def _flatten(value: Any, shape: list[int], level: int, leaves: list[Any]) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            where = f"found at incorrect level: {level + 1} in the JSON DOM. Expected at level: {len(shape)}"
            raise invalid(f"JSON Value: {_shown(value)} {where}")
        leaves.append(value)
        return
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}")
    for element in value:
        _flatten(element, shape, level + 1, leaves)


def _leaf(value: Any, dtype: int) -> Any:
    name = types_pb2.DataType.Name(dtype).removeprefix("DT_").lower()
    wrong = invalid(f"JSON Value: {_shown(value)} Type: {_type(value)} is not of expected type: {name}")
    if dtype == types_pb2.DT_STRING:
        if isinstance(value, dict):
            return _decoded(value)
        if not isinstance(value, str):
            raise wrong
        return value.encode("utf-8", "surrogatepass")
    if dtype == types_pb2.DT_BOOL:
        if not isinstance(value, bool):
            raise wrong
        return value
    if dtype not in _RANGES:
        raise Refusal(StatusCode.UNIMPLEMENTED, f"Conversion of JSON Value: {_shown(value)} to type: {name}")
    low, high = _RANGES[dtype]
    whole = isinstance(low, int)
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise wrong
    if whole and not low <= value <= high:
        raise wrong
    if not whole and not low <= value <= high and not (isinstance(value, float) and not math.isfinite(value)):
        raise invalid(f"Cannot convert JSON value: {_shown(value)} to {name} without loss of precision.")
    return value


def _decoded(value: dict[str, Any]) -> bytes:
    if not _is_bytes(value):
        raise invalid(f"JSON Value: {_shown(value)} not formatted correctly for base64 data")
    try:
        return base64.b64decode(value["b64"], validate=True)
    except ValueError as error:
        raise invalid("Unable to base64 decode") from error


def _is_bytes(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not _is_bytes(value)


def _type(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "Null", True: "True", False: "False"}[value]
    return {"str": "String", "list": "Array", "dict": "Object"}.get(type(value).__name__, "Number")


def _shown(value: Any) -> str:
    try:
        return json.dumps(value, indent=4)
    except RecursionError:
        return "..."


def write_outputs(outputs: Mapping[str, np.ndarray], *, by_row: bool) -> bytes:
    """The body of the answer."""
    if by_row:
        sizes = {}
        for name, array in outputs.items():
            if array.ndim == 0:
                raise invalid(f"Tensor name: {name} has no shape information ")
            sizes[name] = len(array)
            expected = next(iter(sizes.values()))
            if len(array) != expected:
                raise invalid(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {expected}")
    values = {name: _plain(name, array) for name, array in outputs.items()}
    if len(values) == 1:
        answer: Any = next(iter(values.values()))
    elif by_row:
        answer = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    else:
        answer = values
    return json.dumps({"predictions" if by_row else "outputs": answer}, ensure_ascii=False).encode()


def _plain(name: str, array: np.ndarray) -> Any:
    if array.dtype == object:
        as_bytes = name.endswith("_bytes")
        flat = np.empty(array.size, object)
        flat[:] = [
            {"b64": base64.b64encode(v).decode()} if as_bytes else v.decode("utf-8", "replace") for v in array.ravel()
        ]
        return flat.reshape(array.shape).tolist()
    if array.dtype == np.float32:  # by its own shortest decimal: .1, not .10000000149011612
        return array.astype(str).astype(np.float64).tolist()
    if array.dtype.kind in "iub" or array.dtype == np.float64:
        return array.tolist()
    raise invalid(f"Failed to write JSON value for tensor type: {array.dtype.name}")
