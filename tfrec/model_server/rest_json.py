"""JSON of the REST protocol to arrays and back, with the real server's rules and messages.

`instances` is a list of examples, each a value or an object of named values, answered by `predictions`; `inputs` is a value or
an object of whole tensors, answered by `outputs`. A single output loses its name. Text is a string, bytes are
`{"b64": ...}`. As in the real server a text is whatever bytes stand between its quotes, in either direction, of a key that comes
twice the first counts, and a number that no double holds is an error.
"""
import base64
import binascii
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from grpc import StatusCode
from tensorflow.core.framework import types_pb2

from tfrec.model_server.grpc_status import MAX_MESSAGE, StatusError, invalid
from tfrec.model_server.saved_model import DEFAULT_SIGNATURE

_MULTIPLE = "multiple input tensors required as per tensorinfo_map"
_MAX_RANK = 254  # of any tensor
_BOM = b"\xef\xbb\xbf"
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SPACE = re.compile(r"[ \t\n\v\f\r]")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)

_INT64 = (-(1 << 63), (1 << 63) - 1)
_UINT64_MAX = (1 << 64) - 1
_FLOATS = (types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE)
_RANGES: dict[int, tuple[int, int]] = {
    types_pb2.DT_INT8: (-(1 << 7), (1 << 7) - 1),
    types_pb2.DT_INT16: (-(1 << 15), (1 << 15) - 1),
    types_pb2.DT_INT32: (-(1 << 31), (1 << 31) - 1),
    types_pb2.DT_INT64: _INT64,
    types_pb2.DT_UINT8: (0, (1 << 8) - 1),
    types_pb2.DT_UINT16: (0, (1 << 16) - 1),
    types_pb2.DT_UINT32: (0, (1 << 32) - 1),
    types_pb2.DT_UINT64: (0, _UINT64_MAX),
}


class _TooBig(ValueError):
    """A number that no double holds."""


def parse(body: bytes) -> dict[str, Any]:
    """The document of a predict request; text holds bytes that are no UTF-8 as surrogates, as `surrogateescape` does."""
    text = body.removeprefix(_BOM).decode("utf-8", "surrogateescape")
    if not text.strip(" \t\r\n"):
        raise invalid("JSON Parse error: The document is empty")
    try:
        # functions of Python, not types: between two of them another thread may have its turn
        document = json.loads(text, parse_int=_int, parse_float=_float, object_pairs_hook=_first_of_each)
    except json.JSONDecodeError as error:
        what = "The document root must not be followed by other values." if error.msg == "Extra data" else error.msg
        raise invalid(f"JSON Parse error: {what} at offset: {error.pos}") from error
    except _TooBig as error:
        where = text.find(str(error))
        raise invalid(f"JSON Parse error: Number too big to be stored in double. at offset: {where}") from error
    except RecursionError as error:
        raise invalid("JSON Parse error: Lists or objects are nested too deeply.") from error
    if _SURROGATE.search(text):
        _check_surrogates(text)
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {_shown(document)} Is not object")
    return document


def _int(literal: str) -> int | float:
    if len(literal) <= 20:
        value = int(literal)
        if _INT64[0] <= value <= _UINT64_MAX:
            return value
    return _float(literal)


def _float(literal: str) -> float:
    value = float(literal)
    if math.isinf(value):
        raise _TooBig(literal)
    return value


def _first_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else dict(reversed(pairs))


def _check_surrogates(text: str) -> None:
    """Refuse half a pair among the escapes of `text`."""
    high_ended = -1
    for escape in _ESCAPE.finditer(text):
        code = int(escape[1], 16) if escape[1] else 0
        low = 0xDC00 <= code <= 0xDFFF
        if low != (high_ended == escape.start()):
            break
        high_ended = escape.end() if 0xD800 <= code <= 0xDBFF else -1
        if high_ended >= 0 and not text.startswith("\\u", high_ended):
            break
    else:
        return
    raise invalid(f"JSON Parse error: The surrogate pair in string is invalid. at offset: {escape.start()}")


def signature_name(document: Mapping[str, Any]) -> str:
    """The signature that a document asks."""
    name = document.get("signature_name", DEFAULT_SIGNATURE)
    if not isinstance(name, str):
        raise invalid(f"JSON Value: {_shown(document)} not formatted correctly. 'signature_name' key must be a string value.")
    return name or DEFAULT_SIGNATURE


def read_inputs(document: Mapping[str, Any], types: Mapping[str, int]) -> tuple[dict[str, np.ndarray], bool]:
    """The named arrays of a document, and whether it has them by row; `types` holds the TensorFlow type number of every input."""
    if not types:
        raise invalid(f"Failed to get input map for signature: {document.get('signature_name') or 'DEFAULT'}")
    keys = [key for key in ("instances", "inputs") if key in document]
    if not keys:
        raise invalid("Missing 'inputs' or 'instances' key")
    if len(keys) == 2:
        expected = "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
        raise invalid(f"JSON Value: {_shown(document)} {expected}")
    value = document[keys[0]]
    if keys[0] == "inputs":
        return _from_columns(value, types), False
    if not isinstance(value, list):
        raise invalid(f"JSON Value: {_shown(document)} Expecting 'instances' to be an list/array")
    if not value:
        raise invalid(f"JSON Value: {_shown(document)} No values in 'instances' array")
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
            what = f"Failed to process element: {i} of 'instances' list. JSON object: {_shown(row)}"
            raise invalid(f"{what} keys must be equal to: {','.join(sorted(types))}")
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
    return _typed(raw, dtype), shape


def _array(leaves: list[Any], shape: list[int], dtype: int) -> np.ndarray:
    if dtype != types_pb2.DT_STRING:
        with np.errstate(over="ignore"):  # a double that is too large for a float becomes an infinity
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
    if level + 1 == len(shape) and not any(isinstance(element, list) for element in value):
        leaves.extend(value)
        return
    for element in value:
        _flatten(element, shape, level + 1, leaves)


def _typed(raw: list[Any], dtype: int) -> list[Any]:
    """`raw` as values of the type, of which all must be."""
    if not raw:
        return raw
    if dtype == types_pb2.DT_STRING:
        return [v.encode("utf-8", "surrogateescape") if type(v) is str else _decoded(v) for v in raw]
    fits = _fits(dtype)
    if fits is None:
        raise StatusError(StatusCode.UNIMPLEMENTED, f"Conversion of JSON Value: {_shown(raw[0])} to type: {_named(dtype)}")
    for value in raw:
        if not fits(value):
            raise _wrong_type(value, dtype)
    return raw


def _fits(dtype: int) -> Callable[[Any], bool] | None:
    """Whether a value is one of the type; None for a type that JSON cannot say."""
    if dtype == types_pb2.DT_BOOL:
        return lambda value: type(value) is bool
    if dtype in _FLOATS:
        return lambda value: type(value) is float or type(value) is int
    if dtype not in _RANGES:
        return None
    low, high = _RANGES[dtype]
    return lambda value: type(value) is int and low <= value <= high


def _wrong_type(value: Any, dtype: int) -> StatusError:
    return invalid(f"JSON Value: {_shown(value)} Type: {_type(value)} is not of expected type: {_named(dtype)}")


def _named(dtype: int) -> str:
    return str(types_pb2.DataType.Name(dtype)).removeprefix("DT_").lower()


def _decoded(value: Any) -> bytes:
    """The bytes of `{"b64": ...}`; like the real server's decoder it passes over white space and needs no padding."""
    if not isinstance(value, dict):
        raise _wrong_type(value, types_pb2.DT_STRING)
    if not _is_bytes(value):
        raise invalid(f"JSON Value: {_shown(value)} not formatted correctly for base64 data")
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


def _shown(value: Any) -> str:
    """As much of a value's JSON as a message has room for."""
    if isinstance(value, str):
        value = value[:MAX_MESSAGE]
    shown = ""
    try:
        for part in json.JSONEncoder(indent=4, ensure_ascii=False).iterencode(value):
            shown += part
            if len(shown) > MAX_MESSAGE:
                break
    except RecursionError:
        shown += "..."
    return shown[: MAX_MESSAGE + 1]


def write_outputs(outputs: Mapping[str, np.ndarray], *, by_row: bool) -> bytes:
    """The body of the answer."""
    if by_row:
        _check_rows(outputs.items())
    values = {name: _plain(name, array) for name, array in outputs.items()}
    if len(values) == 1:
        answer: Any = next(iter(values.values()))
    elif by_row:
        answer = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    else:
        answer = values
    document = json.dumps({"predictions" if by_row else "outputs": answer}, ensure_ascii=False)
    return document.encode("utf-8", "surrogateescape")


def _check_rows(outputs: Iterable[tuple[str, np.ndarray]]) -> None:
    expected = 0
    for name, array in outputs:
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if not len(array):
            raise invalid(f"Tensor name: {name} has invalid batch size: 0")
        if expected and len(array) != expected:
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {expected}")
        expected = len(array)


def _plain(name: str, array: np.ndarray) -> Any:
    if array.dtype == object:
        as_bytes = name.endswith("_bytes")
        flat = np.empty(array.size, object)
        flat[:] = [
            {"b64": base64.b64encode(v).decode()} if as_bytes else v.decode("utf-8", "surrogateescape") for v in array.ravel()
        ]
        return flat.reshape(array.shape).tolist()
    if array.dtype == np.float32:  # by its own shortest decimal: .1, not .10000000149011612
        return array.astype(str).astype(np.float64).tolist()
    if array.dtype.kind in "iub" or array.dtype == np.float64:
        return array.tolist()
    raise invalid(f"Failed to write JSON value for tensor type: {_named(tf.dtypes.as_dtype(array.dtype).as_datatype_enum)}")
