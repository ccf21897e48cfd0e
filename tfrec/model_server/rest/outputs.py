"""The JSON of a REST answer from arrays, with the real server's rules and messages.

A single output loses its name. Strings are written byte for byte, and those of an output whose name ends in `_bytes` as
`{"b64": ...}`.
"""
import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.model_server.grpc_status import invalid
from tfrec.model_server.rest.document import type_name


def write_outputs(outputs: Mapping[str, np.ndarray], *, by_row: bool) -> bytes:
    """The body of an answer: `predictions` by row, else `outputs`."""
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
    raise invalid(f"Failed to write JSON value for tensor type: {type_name(tf.dtypes.as_dtype(array.dtype).as_datatype_enum)}")
