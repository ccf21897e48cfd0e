"""Decodes messages to records: JSON text or rows, one record or a list of them, in tfrec's own format.

A row with a `slate` is an impression, any other one an outcome, whose `event_id` may be absent. What cannot be a record becomes a
`Fault` with its reason, and one bad record of a list does not take the others with it.
"""
import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from tfrec.data.readers.columns import ColumnNames
from tfrec.data.readers.rows import brief, parse_json
from tfrec.data.readers.validation import validate
from tfrec.data.records import Impression, Outcome

_SAID = ("user", "request_id", "item", "action", "time", "value")
_NAMES = {record: ColumnNames.of(record) for record in (Impression, Outcome)}


class Fault(NamedTuple):
    """Something that should be a record and is none."""

    reason: str
    row: Any


class LeftOut(NamedTuple):
    """Something that is right and is no record, such as the login of a user."""

    reason: str


Decoded = Impression | Outcome | Fault | LeftOut
Content = bytes | Mapping[str, Any]
Decode = Callable[[Content], Sequence[Decoded]]


def decode_tfrec(content: Content) -> Sequence[Decoded]:
    """The records of a message: `Impression` or `Outcome` as JSON or as a row, or a JSON list of them."""
    if isinstance(content, bytes) and content[:1] == b"{" and b"\\" not in content:
        with contextlib.suppress(ValidationError):  # decoded below to say why; a null may be a default there
            return ((Impression if b'"slate"' in content else Outcome).model_validate_json(content),)
    return [row if isinstance(row, Fault) else _record(row) for row in rows_of_message(content)]


def rows_of_message(content: Content) -> list[dict[str, Any] | Fault]:
    """The rows of a message: one object or a list of objects. Fields that are null or empty are left out."""
    if isinstance(content, bytes):
        try:
            found = parse_json(content)
        except UnicodeDecodeError as error:
            return [Fault(f"not UTF-8 (byte 0x{content[error.start]:02x})", content.decode("utf-8", "replace"))]
        except (ValueError, RecursionError) as error:
            return [Fault(f"not JSON ({error})", content.decode("utf-8", "replace"))]
    else:
        found = content
    return [_row(one) for one in (found if isinstance(found, list) else [found])]


def event_id(*said: Any) -> str:
    """The id of an event that has none, made of what it says: one that was sent twice has the same."""
    text = "\0".join(map(str, said))
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def without_nulls(found: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are neither null nor empty, of the objects in it too: Parquet knows no absent field."""
    return {name: _without_nulls(value) for name, value in found.items() if value is not None and value != ""}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return without_nulls(value)
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value


def _row(found: Any) -> dict[str, Any] | Fault:
    if not isinstance(found, Mapping):
        return Fault(f"expected a JSON object, or a list of them, got {brief(found)}", found)
    row = without_nulls(found)
    broken = next((name for name, value in row.items() if isinstance(value, str) and "\0" in value), None)
    return row if broken is None else Fault(f'"{broken}": holds a zero byte', found)


def _record(row: dict[str, Any]) -> Decoded:
    record: type[Impression] | type[Outcome] = Impression if "slate" in row else Outcome
    made = {"event_id": event_id(*(row.get(name) for name in _SAID))} if record is Outcome and "event_id" not in row else {}
    found = validate(record, row | made, names=_NAMES[record])
    return Fault(found, row) if isinstance(found, str) else found
