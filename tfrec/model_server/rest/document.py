"""The JSON document of a REST request, read with the real server's rules and messages.

As in the real server a string is whatever bytes stand between its quotes, the first of two equal keys counts, and a number that
does not fit a double is an error.
"""
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from tensorflow.core.framework import types_pb2

from tfrec.model_server.grpc_status import MAX_MESSAGE, invalid
from tfrec.model_server.saved_model import DEFAULT_SIGNATURE

INT64 = (-(1 << 63), (1 << 63) - 1)
UINT64_MAX = (1 << 64) - 1
_BOM = b"\xef\xbb\xbf"
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)


class _TooBig(ValueError):
    """A number that does not fit a double."""


def parse(body: bytes) -> dict[str, Any]:
    """The document of a predict request. Bytes that are not UTF-8 become surrogates, as by `surrogateescape`."""
    text = body.removeprefix(_BOM).decode("utf-8", "surrogateescape")
    if not text.strip(" \t\r\n"):
        raise invalid("JSON Parse error: The document is empty")
    try:
        # Python functions rather than types, so that another thread may run between two numbers
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
        raise invalid(f"JSON Value: {shown(document)} Is not object")
    return document


def _int(literal: str) -> int | float:
    if len(literal) <= 20:
        value = int(literal)
        if INT64[0] <= value <= UINT64_MAX:
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
    """Refuse an unpaired surrogate among the escapes of `text`."""
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
    """The name of the signature that a document asks for."""
    name = document.get("signature_name", DEFAULT_SIGNATURE)
    if not isinstance(name, str):
        raise invalid(f"JSON Value: {shown(document)} not formatted correctly. 'signature_name' key must be a string value.")
    return name or DEFAULT_SIGNATURE


def shown(value: Any) -> str:
    """The JSON of a value, cut to the length of a message."""
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


def type_name(dtype: int) -> str:
    """TensorFlow's name of a type as the real server's messages have it, such as `int64`."""
    return str(types_pb2.DataType.Name(dtype)).removeprefix("DT_").lower()
