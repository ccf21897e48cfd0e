"""Reads JSON bodies, one object or a list, and writes answers in the same form.

pydantic parses the JSON itself: it refuses what Python's own reader lets through (half characters, numbers of a million digits,
endless nesting).
"""
import json
from collections.abc import Sequence
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, Field, TypeAdapter

from tfrec.gateway.http.refusal import RequestRefused

MAX_IDS = 100_000  # in the lists of one call: about a second's work
_LISTS = ("history", "exclude", "allow_tags", "deny_tags")
_BOM = b"\xef\xbb\xbf"

T = TypeVar("T", bound=BaseModel)


class BodyReader(Generic[T]):
    """Reads one body of a model, or a list of at most `max_length`."""

    def __init__(self, model: type[T], *, max_length: int) -> None:
        self.model = model
        self.max_length = max_length
        many: Any = list[model]  # type: ignore[valid-type]
        self._list: TypeAdapter[list[T]] = TypeAdapter(Annotated[many, Field(min_length=1, max_length=max_length)])

    def read(self, raw: bytes) -> tuple[list[T], bool]:
        """The bodies, and whether they came as a list.

        Raises:
            pydantic.ValidationError: the JSON or a field is wrong.
            RequestRefused: 422, an object has a key twice: of two users, which one is meant?
        """
        raw = raw.removeprefix(_BOM)  # some programs write it in front of UTF-8
        is_list = raw.lstrip(b" \t\r\n")[:1] == b"["
        bodies = self._list.validate_json(raw) if is_list else [self.model.model_validate_json(raw)]
        json.loads(raw, object_pairs_hook=_check_keys)
        return bodies, is_list


def _check_keys(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) < len(pairs):  # the message leaves the key out: a person may have typed it
        raise RequestRefused(422, "An object of the body has a key twice. Send each once.", field="body")


def check_sizes(bodies: Sequence[BaseModel], *, is_list: bool, max_k: int, max_context_bytes: int) -> None:
    """Refuse what one call may not ask.

    Raises:
        RequestRefused: 413, the lists of all bodies have more than `MAX_IDS` ids; 422, a `k` or a context is too large.
    """
    ids = sum(len(getattr(body, name, None) or ()) for body in bodies for name in _LISTS)
    if ids > MAX_IDS:
        raise RequestRefused(413, f"The lists of a call may have {MAX_IDS} ids in all, got {ids}. Send fewer requests at once.")
    for index, body in enumerate(bodies):
        where = f"{index}." if is_list else ""
        if getattr(body, "k", 0) > max_k:
            raise RequestRefused(422, f"Input should be less than or equal to {max_k}", field=f"{where}k")
        if (size := _context_bytes(body)) > max_context_bytes:
            message = f"A context may have {max_context_bytes} bytes, got {size}. The log keeps it with every item."
            raise RequestRefused(422, message, field=f"{where}context")


def _context_bytes(body: BaseModel) -> int:
    context = getattr(body, "context", None)
    return 0 if context is None or not context.model_fields_set else len(context.model_dump_json().encode())


def to_json(answers: Sequence[BaseModel], *, is_list: bool) -> bytes:
    """The answers as a list if the bodies came as one, else the only answer."""
    texts = [answer.model_dump_json() for answer in answers]
    return f"[{','.join(texts)}]".encode() if is_list else texts[0].encode()
