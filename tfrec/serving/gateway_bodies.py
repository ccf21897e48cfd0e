"""What the gateway accepts and answers. Every body is one object or a list of them; the answer has the same form."""
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from tfrec.data.records import Context, Key, Seconds

MAX_BATCH = 1_000  # requests in one call
MAX_OUTCOMES = 10_000  # outcomes in one call
_MAX_HISTORY = 10_000
_MAX_TAGS = 1_000
_MAX_QUERY = 10_000  # characters; a search text is not a document

T = TypeVar("T")


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Did(_Body):
    """One event of a history that the client sends."""

    item: Key
    action: str = Field("", max_length=512)
    time: Seconds | None = None


class RecommendRequest(_Body):
    """Ask for items. With a query it is a search; without one, a recommendation; with both, a personal search."""

    user: Key
    query: str = Field("", max_length=_MAX_QUERY)
    k: int = Field(10, ge=1)
    history: list[Did] | None = Field(None, max_length=_MAX_HISTORY)  # oldest first; None: what the gateway saw of this user
    exclude: list[Key] = Field([], max_length=_MAX_HISTORY)  # never answered
    exclude_history: bool = True  # nor is what the user has already done something with
    allow_tags: list[Key] = Field([], max_length=_MAX_TAGS)  # only items that have one of these, when there is one
    deny_tags: list[Key] = Field([], max_length=_MAX_TAGS)  # and none of these
    context: Context = Context()
    time: Seconds | None = None  # when it was asked, if not now: only behaviour of earlier seconds then counts
    label: str = Field("", max_length=512)  # of the model version; none: the newest


class Answered(BaseModel):
    """One item of an answer."""

    item: str
    position: int
    score: float


class RecommendAnswer(BaseModel):
    """`request_id` belongs into the outcomes that follow."""

    request_id: str
    model_version: int
    items: list[Answered]


class OutcomeRequest(_Body):
    """Something that a user did. Send the same `event_id` when in doubt whether it arrived: it counts once."""

    user: Key
    item: Key
    action: Key
    event_id: Key | None = None  # one is given when there is none
    request_id: Key | None = None  # of the answer that showed the item; none: tfrec did not show it
    value: float = 1.0
    time: Seconds | None = None


class OutcomeAnswer(BaseModel):
    """The outcome is on disk."""

    event_id: str


def _form(body: Any) -> str:
    return "many" if isinstance(body, list) else "one"


Recommends = Annotated[
    Annotated[RecommendRequest, Tag("one")]
    | Annotated[list[RecommendRequest], Field(min_length=1, max_length=MAX_BATCH), Tag("many")],
    Discriminator(_form),
]
Outcomes = Annotated[
    Annotated[OutcomeRequest, Tag("one")]
    | Annotated[list[OutcomeRequest], Field(min_length=1, max_length=MAX_OUTCOMES), Tag("many")],
    Discriminator(_form),
]


def as_list(body: T | list[T]) -> list[T]:
    """The body as a list."""
    return body if isinstance(body, list) else [body]


def field_of(location: tuple[int | str, ...]) -> str:
    """`("body", "many", 3, "k")` as `3.k`: the field as the client wrote it."""
    return ".".join(str(part) for part in location if part not in ("body", "one", "many")) or "body"
