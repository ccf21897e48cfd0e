"""What the gateway accepts and answers. Every body is one object or a list of them; the answer has the same form.

Bodies are read from JSON by pydantic itself: it refuses what Python's own reader lets through (half characters, numbers of a
million digits, nesting without end).
"""
import json
from collections.abc import Sequence
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetPydanticSchema, TypeAdapter
from pydantic_core import core_schema

from tfrec.data.records import Context, Seconds, Value

MAX_BATCH = 1_000  # requests in one call
MAX_EXPLAINED = 32  # each asks the model once for every event and word piece
MAX_OUTCOMES = 10_000  # outcomes in one call
MAX_IDS = 100_000  # in the lists of one call: about a second's work
_LISTS = ("history", "exclude", "allow_tags", "deny_tags")
_MAX_HISTORY = 10_000
_MAX_TAGS = 1_000
_MAX_QUERY = 10_000  # characters; a search text is not a document

_MAX_ID = 512  # characters
_ID = f"An id is a text of 1 to {_MAX_ID} characters, or a whole number, which is read as text. Send anything else as text."
_BOM = b"\xef\xbb\xbf"

T = TypeVar("T", bound=BaseModel)


def _id_schema(source: Any, handler: Any) -> core_schema.CoreSchema:
    text = core_schema.str_schema(strict=True, min_length=1, max_length=_MAX_ID)
    whole = core_schema.int_schema(strict=True)
    number = core_schema.chain_schema([whole, core_schema.no_info_plain_validator_function(str), text])
    return core_schema.union_schema([text, number], mode="left_to_right", custom_error_type="id", custom_error_message=_ID)


# as catalogue and interactions take them: 123 is "123". True and 1.0 are not: their text depends on who writes it
Id = Annotated[str, GetPydanticSchema(_id_schema, lambda schema, handler: handler(core_schema.union_schema(
    [core_schema.str_schema(min_length=1, max_length=_MAX_ID), core_schema.int_schema()])))]


def _examples(*examples: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": list(examples)})


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class HistoryEvent(_Body):
    """One event of a history that the client sends."""

    item: Id
    action: str = Field("", max_length=512)
    time: Seconds | None = None


class _Ask(_Body):
    k: int = Field(10, ge=1, description="How many items, at most `serving.max_k`.")
    history: list[HistoryEvent] | None = Field(
        None, max_length=_MAX_HISTORY, description="Oldest first. None: what the gateway has seen of this user."
    )
    exclude: list[Id] = Field([], max_length=_MAX_HISTORY, description="Never answered.")
    allow_tags: list[Id] = Field([], max_length=_MAX_TAGS, description="Only items that have one of these, when there is one.")
    deny_tags: list[Id] = Field([], max_length=_MAX_TAGS, description="No item that has one of these.")
    context: Context = Context()
    time: Seconds | None = Field(None, description="When it was asked, if not now: only behaviour of earlier seconds counts.")
    explore: bool | None = Field(None, description="Draw the slate at random, to learn from it. None: as the gateway does.")
    label: str = Field("", max_length=512, description="Of a model version. None: stable, or canary for a share of the users.")


class RecommendRequest(_Ask):
    """Ask for items. With a query it is a search; without one, a recommendation; with both, a personal search."""

    model_config = _examples({"user": "ann", "k": 3}, {"user": "ann", "query": "crime in paris", "deny_tags": ["Horror"]})

    user: Id
    query: str = Field("", max_length=_MAX_QUERY)
    exclude_history: bool = Field(True, description="Nor is what the user has already done something with.")


class SearchRequest(_Ask):
    """Look for a text. With a user it is a personal search, unless `history` is empty."""

    model_config = _examples({"query": "crime in paris", "k": 3})

    query: str = Field(min_length=1, max_length=_MAX_QUERY)
    user: Id | None = Field(None, description="None: somebody. The outcomes that follow then name the request id as their user.")
    exclude_history: bool = False
    explore: bool | None = Field(False, description="Draw the slate at random, to learn from it.")


class SimilarRequest(_Body):
    """Ask for the neighbours of an item."""

    model_config = _examples({"item": "2840", "k": 3})

    item: Id
    k: int = Field(10, ge=1)
    label: str = Field("", max_length=512)


class ExplainRequest(_Body):
    """Ask why an item has the score that it has for someone, now."""

    model_config = _examples({"user": "ann", "item": "2840"}, {"user": "ann", "query": "crime in paris", "item": "2840"})

    user: Id
    item: Id
    query: str = Field("", max_length=_MAX_QUERY)
    history: list[HistoryEvent] | None = Field(
        None, max_length=_MAX_HISTORY, description="Oldest first. None: what the gateway has seen of this user."
    )
    time: Seconds | None = None
    label: str = Field("", max_length=512, description="Of a model version. None: the one that answers this user.")


class Answered(BaseModel):
    """One item of an answer."""

    item: str
    position: int
    score: float


class RecommendAnswer(BaseModel):
    """`request_id` belongs into the outcomes that follow."""

    request_id: str
    model_version: int = Field(description="0: no model answered.")
    items: list[Answered]
    policy: str = Field(description="`greedy`; `plackett_luce(...)`, `thompson(...)` or `linucb(...)` to learn; or `popularity`.")
    label: str = Field(description="Of the version that answered; empty: the newest.")
    fallback: str | None = Field(None, description="Why this is not the answer that it should be; usually nothing.")


class SimilarAnswer(BaseModel):
    """The nearest first."""

    model_version: int
    items: list[Answered]


class EventWeight(BaseModel):
    """What the score would lose without an event of the history."""

    item: str
    action: str
    weight: float


class TokenWeight(BaseModel):
    """What the score would lose without a word piece of the query; `##` begins one that goes on with a word."""

    token: str
    weight: float


class ExplainAnswer(BaseModel):
    """Parts of one score, in its units. They need not add up: what two parts say alike, neither of them is missed for."""

    model_version: int
    score: float | None = Field(description="None: the version does not know the item.")
    popularity: float = Field(description="What popularity adds to it.")
    history: list[EventWeight] = Field(description="Oldest first; those that are read.")
    query: list[TokenWeight]


class OutcomeRequest(_Body):
    """Something that a user did. Send the same `event_id` when in doubt whether it arrived: it counts once."""

    model_config = _examples({"user": "ann", "item": "2840", "action": "click", "event_id": "a5c1", "request_id": "7f3e"})

    user: Id
    item: Id
    action: Id
    event_id: Id | None = Field(None, description="One is given when there is none.")
    request_id: Id | None = Field(None, description="Of the answer that showed the item. None: tfrec did not show it.")
    value: Value = 1.0
    time: Seconds | None = None


class OutcomeAnswer(BaseModel):
    """The outcome is on disk."""

    event_id: str


class Refused(BaseModel):
    """What was wrong with one field, or with the call as a whole."""

    message: str
    field: str | None = None


class ErrorResponse(BaseModel):
    """Every answer that is no success."""

    errors: list[Refused]


class Reader(Generic[T]):
    """Reads one body of a kind, or a list of at most `most`."""

    def __init__(self, model: type[T], *, most: int) -> None:
        self.model = model
        self.most = most
        many: Any = list[model]  # type: ignore[valid-type]
        self._many: TypeAdapter[list[T]] = TypeAdapter(Annotated[many, Field(min_length=1, max_length=most)])

    def read(self, raw: bytes) -> tuple[list[T], bool]:
        """The bodies, and whether they came as a list. Raises pydantic's `ValidationError`."""
        raw = raw.removeprefix(_BOM)  # some write it in front of UTF-8
        many = raw.lstrip(b" \t\r\n")[:1] == b"["
        found = self._many.validate_json(raw) if many else [self.model.model_validate_json(raw)]
        json.loads(raw, object_pairs_hook=_each_once)
        return found, many


def _each_once(pairs: list[tuple[str, Any]]) -> None:
    """Refuse a key that comes twice: of two users, which one is meant?"""
    keys = {key for key, _ in pairs}
    if len(keys) < len(pairs):
        names = [key for key, _ in pairs]
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise RepeatedKey(twice)


class RepeatedKey(Exception):
    """A JSON object names a key twice; the key is the message."""


class WrongField(Exception):
    """A field that is well-formed and may not be as it is, by the gateway's settings."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class TooManyIds(Exception):
    """The lists of one call are too long together."""


def check_sizes(bodies: Sequence[BaseModel], *, many: bool, max_k: int, max_context_bytes: int) -> None:
    """Refuse what one call may not ask.

    Raises:
        WrongField: a `k` or a context is too large.
        TooManyIds: the lists of all bodies have more than `MAX_IDS` ids.
    """
    ids = sum(len(getattr(body, name, None) or ()) for body in bodies for name in _LISTS)
    if ids > MAX_IDS:
        raise TooManyIds(f"The lists of a call may have {MAX_IDS} ids in all, got {ids}. Send fewer requests at once.")
    for place, body in enumerate(bodies):
        where = f"{place}." if many else ""
        if getattr(body, "k", 0) > max_k:
            raise WrongField(f"{where}k", f"Input should be less than or equal to {max_k}")
        if (size := _context_bytes(body)) > max_context_bytes:
            raise WrongField(f"{where}context", f"A context may have {max_context_bytes} bytes, got {size}. No model reads it.")


def _context_bytes(body: BaseModel) -> int:
    context = getattr(body, "context", None)
    return 0 if context is None or not context.model_fields_set else len(context.model_dump_json().encode())


def to_json(answers: Sequence[BaseModel], *, many: bool) -> bytes:
    """The answers in the form of the question."""
    texts = [answer.model_dump_json() for answer in answers]
    return f"[{','.join(texts)}]".encode() if many else texts[0].encode()


def field_of(location: tuple[int | str, ...]) -> str:
    """`(3, "k")` as `3.k`: the field as the client wrote it, cut when that is long."""
    return ".".join(map(str, location))[:200] or "body"
