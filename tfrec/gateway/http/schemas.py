"""The bodies that the gateway accepts and the answers that it gives, as its OpenAPI describes them.

Every body is one object or a list of objects; the answer has the same form.
"""
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetPydanticSchema, model_validator
from pydantic_core import core_schema

from tfrec.data.records import MAX_ID, Context, Seconds, Value

MAX_BATCH = 1_000  # requests in one call
MAX_EXPLAINED = 32  # each asks the model once for every event and word piece
MAX_OUTCOMES = 10_000  # outcomes in one call
_MAX_HISTORY = 10_000
_MAX_TAGS = 1_000
_MAX_RULES = 20  # bounds, and caps
_MAX_QUERY = 10_000  # characters; a search text is not a document

_ID = f"An id is a text of 1 to {MAX_ID} characters, or a whole number, which is read as text. Send anything else as text."


def _id_schema(source: Any, handler: Any) -> core_schema.CoreSchema:
    text = core_schema.str_schema(strict=True, min_length=1, max_length=MAX_ID)
    whole = core_schema.int_schema(strict=True)
    number = core_schema.chain_schema([whole, core_schema.no_info_plain_validator_function(str), text])
    return core_schema.union_schema([text, number], mode="left_to_right", custom_error_type="id", custom_error_message=_ID)


# as the catalogue and interactions take them: 123 is "123". True and 1.0 are refused: their text depends on who writes it
Id = Annotated[str, GetPydanticSchema(_id_schema, lambda schema, handler: handler(core_schema.union_schema(
    [core_schema.str_schema(min_length=1, max_length=MAX_ID), core_schema.int_schema()])))]

_Name = Annotated[str, Field(max_length=MAX_ID)]

_HISTORY = "What the user did, oldest first. If it is not given, the gateway uses what it has recorded for this user."
_TIME = "When this happened, in seconds since 1970. Now, if it is not given. A time in the future counts as now."
_CONTEXT = ("What is known of the person and the moment. It is logged. The model reads what the `features` section of the "
            "configuration declares.")
_MODEL_VERSION = "The version of the model that answered."


def with_examples(*examples: dict[str, Any]) -> ConfigDict:
    """The settings of a body that the documentation shows with these examples."""
    return ConfigDict(json_schema_extra={"examples": list(examples)})


class StrictBody(BaseModel):
    """A body: a field that it does not have is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class HistoryEvent(StrictBody):
    """One event of a history that the client sends."""

    item: Id = Field(description="The item that the user acted on.")
    action: str = Field("", max_length=512, description="What the user did, such as `click`. Empty: unknown.")
    time: Seconds | None = Field(None, description="When the user did it, in seconds since 1970. If it is not given: unknown.")


class NumberBound(StrictBody):
    """The range that a number must be in. An item without the number is not returned."""

    min: float | None = Field(None, description="The least. If it is not given: no limit.")
    max: float | None = Field(None, description="The most. If it is not given: no limit.")

    @model_validator(mode="after")
    def _is_a_range(self) -> "NumberBound":
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min must not be above max")
        return self


class ShownItem(StrictBody):
    """An item that the application has shown."""

    item: Id
    log_propensity: float | None = Field(None, le=0, description="The logarithm of the probability with which it was chosen for "
                                         "this position, given the items above it. If it is not given: not known.")


class _SlateBody(StrictBody):
    k: int = Field(10, ge=1, description="The number of items to return, at most `serving.max_k` of the configuration.")
    history: list[HistoryEvent] | None = Field(None, max_length=_MAX_HISTORY, description=_HISTORY)
    exclude: list[Id] = Field([], max_length=_MAX_HISTORY, description="Items that are not returned.")
    allow_tags: list[Id] = Field([], max_length=_MAX_TAGS, description="If it is not empty, only items with one of these tags "
                                 "are returned.")
    deny_tags: list[Id] = Field([], max_length=_MAX_TAGS, description="Items with one of these tags are not returned.")
    bounds: dict[_Name, NumberBound] = Field({}, max_length=_MAX_RULES, description="By numeric column of the catalogue, the "
                                             "range that is returned, such as `{\"price\": {\"max\": 50}}`.")
    diversity: float = Field(0.0, ge=0, le=1, description="How much the items should differ: 0 for the best ones, 1 for those "
                             "that are least alike. From 0.1 to 0.3 the answer changes a little.")
    caps: dict[_Name, Annotated[int, Field(ge=1)]] = Field(
        {}, max_length=_MAX_RULES, description="By the beginning of tags, how many items with the same tag are returned at most. "
        "With `{\"brand:\": 2}`: two of `brand:a`, and two of `brand:b`.")
    head_weights: dict[_Name, Annotated[float, Field(ge=-1e9, le=1e9)]] | None = Field(
        None, max_length=_MAX_RULES, description="What each action counts in the scores of the second stage, such as "
        "`{\"purchase\": 1}`; actions that are not named count nothing. With `{}`: the order of the first stage. If it is not "
        "given, the weights in `ranker.heads` of the configuration count.")
    context: Context = Field(Context(), description=_CONTEXT)
    time: Seconds | None = Field(None, description="When the user asked, in seconds since 1970. If it is given, the gateway uses "
                                 "only what it recorded for earlier seconds. Now, if it is not given.")
    explore: bool | None = Field(None, description="Whether the items are chosen by the exploring policy, to learn from the "
                                 "outcomes. If it is not given, `gateway.explore` of the configuration decides.")
    label: str = Field("", max_length=512, description="The label of the model version that answers. If it is empty, the "
                       "stable version answers, or the canary for its share of the users.")
    shown: list[ShownItem] | None = Field(
        None, min_length=1, max_length=_MAX_HISTORY, description="What the application shows by its own choice, the first "
        "position first. The answer is what tfrec would have shown. Both are logged, and outcomes are of what was shown.")

    @model_validator(mode="after")
    def _is_shown_once(self) -> "_SlateBody":
        if self.shown and len({one.item for one in self.shown}) < len(self.shown):
            raise ValueError("shown must not name an item twice")
        return self

    @model_validator(mode="after")
    def _is_drawn_or_reranked(self) -> "_SlateBody":
        if self.explore and self.is_reranked:
            raise ValueError("explore must not be true with diversity or caps: the probabilities of the items would not be known")
        return self

    @property
    def is_reranked(self) -> bool:
        """Whether the best items alone are no answer."""
        return self.diversity > 0 or bool(self.caps)


class RecommendRequest(_SlateBody):
    """A request for items for a user. With a `query` it is a personal search."""

    model_config = with_examples({"user": "ann", "k": 3}, {"user": "ann", "query": "crime in paris", "deny_tags": ["Horror"]},
                                 {"user": "ann", "bounds": {"year": {"min": 1990}}, "diversity": 0.2, "caps": {"director:": 2}})

    user: Id = Field(description="The user's id. The gateway logs and remembers it as a pseudonym.")
    query: str = Field("", max_length=_MAX_QUERY, description="The text to search for.")
    exclude_history: bool = Field(True, description="Whether items that the user has already acted on are left out.")


class SearchRequest(_SlateBody):
    """A search for a text. With a `user` it is a personal search, unless `history` is an empty list."""

    model_config = with_examples({"query": "crime in paris", "k": 3})

    query: str = Field(min_length=1, max_length=_MAX_QUERY, description="The text to search for.")
    user: Id | None = Field(None, description="The user's id. If it is not given, send the `request_id` of the answer as the "
                            "`user` of the outcomes that follow.")
    exclude_history: bool = Field(False, description="Whether items that the user has already acted on are left out.")
    explore: bool | None = Field(False, description="Whether the items are chosen by the exploring policy, to learn from the "
                                 "outcomes.")


class PreviewRequest(_SlateBody):
    """A request to see what would be answered, to a user or to nobody in particular. It is not logged."""

    model_config = with_examples({"query": "crime in paris", "k": 3}, {"user": "ann", "k": 3})

    user: Id | None = Field(None, description="The user's id.")
    query: str = Field("", max_length=_MAX_QUERY, description="The text to search for.")
    exclude_history: bool = Field(True, description="Whether items that the user has already acted on are left out.")
    explore: bool | None = Field(False, description="Whether the items are chosen by the exploring policy.")


Asked = RecommendRequest | SearchRequest | PreviewRequest  # what is answered by a slate


class SimilarRequest(StrictBody):
    """A request for the nearest items to an item."""

    model_config = with_examples({"item": "2840", "k": 3})

    item: Id = Field(description="The item whose neighbours are returned.")
    k: int = Field(10, ge=1, description="The number of items to return, at most `serving.max_k` of the configuration.")
    label: str = Field("", max_length=512, description="The label of the model version that answers. If it is empty, the stable "
                       "version answers.")


class ExplainRequest(StrictBody):
    """A request to explain the score that an item has for a user now."""

    model_config = with_examples({"user": "ann", "item": "2840"}, {"user": "ann", "query": "crime in paris", "item": "2840"})

    user: Id = Field(description="The user's id.")
    item: Id = Field(description="The item whose score is explained.")
    query: str = Field("", max_length=_MAX_QUERY, description="The text that the user searches for.")
    history: list[HistoryEvent] | None = Field(None, max_length=_MAX_HISTORY, description=_HISTORY)
    context: Context = Field(Context(), description="What is known of the person and the moment, as in a request for items.")
    time: Seconds | None = Field(None, description="The time that the score is for, in seconds since 1970. If it is given, the "
                                 "gateway uses only what it recorded for earlier seconds. Now, if it is not given.")
    label: str = Field("", max_length=512, description="The label of the model version that answers. If it is empty, the version "
                       "that answers this user.")


class Answered(BaseModel):
    """One item of an answer."""

    item: str
    position: int = Field(description="The item's rank in the answer, from 0.")
    score: float = Field(description="The item's score. Scores of one answer can be compared with each other.")


class RecommendAnswer(BaseModel):
    """The items for a user, best first. With `diversity` or `caps`, in the order in which they were chosen."""

    request_id: str = Field(description="Names this answer. Send it with the outcomes that follow.")
    model_version: int = Field(description="The version of the model that answered; 0 if no model did.")
    items: list[Answered]
    policy: str = Field(description="How the items were chosen: `greedy` (the best first); `reranked` (by diversity or caps); "
                        "`plackett_luce(...)`, `thompson(...)` or `linucb(...)` when exploring; `words` or `popularity` if no "
                        "model answered.")
    label: str = Field(description="The label of the version that answered. Empty: the newest version.")
    pinned: list[int] = Field([], description="Positions that a rule of the business filled. The score there is 0, as no model "
                              "chose the item.")
    fallback: str | None = Field(None, description="Why something else answered than the configuration says. Usually null.")


class SimilarAnswer(BaseModel):
    """The nearest items, the nearest first."""

    model_version: int = Field(description=_MODEL_VERSION)
    items: list[Answered]


class EventWeight(BaseModel):
    """How much one event of the history contributes to the score."""

    item: str
    action: str
    weight: float = Field(description="What the score would lose without this event.")


class TokenWeight(BaseModel):
    """How much one word piece of the query contributes to the score."""

    token: str = Field(description="A word, or a part of one; a part that continues a word begins with `##`.")
    weight: float = Field(description="What the score would lose without this word piece.")


class ExplainAnswer(BaseModel):
    """What each part contributes to a score, in units of the score.

    The contributions need not add up to the score: if two events say the same, the score loses little without either one.
    """

    model_version: int = Field(description=_MODEL_VERSION)
    score: float | None = Field(description="The item's score; null if the version does not know the item.")
    popularity: float = Field(description="What the item's popularity adds to the score.")
    history: list[EventWeight] = Field(description="The events that the model reads, oldest first.")
    query: list[TokenWeight] = Field(description="The word pieces of the query, in their order.")


class OutcomeRequest(StrictBody):
    """Something that a user did with an item. If you do not know whether it arrived, send it again with the same `event_id`."""

    model_config = with_examples({"user": "ann", "item": "2840", "action": "click", "event_id": "a5c1", "request_id": "7f3e"})

    user: Id = Field(description="The user's id, as in the request that showed the item.")
    item: Id = Field(description="The item that the user acted on.")
    action: Id = Field(description="What the user did, such as `click` or `purchase`. The `reward` section of the configuration "
                       "says what each action is worth.")
    event_id: Id | None = Field(None, description="Names this outcome: with the same user and `event_id` it is recorded once. "
                                "If it is not given, the gateway makes one.")
    request_id: Id | None = Field(None, description="The `request_id` of the answer that showed the item. If it is not given, "
                                  "tfrec did not show the item.")
    value: Value = Field(1.0, description="How much: seconds watched, a price, a rating. The `reward` section of the "
                         "configuration says how it is read.")
    time: Seconds | None = Field(None, description=_TIME)


class OutcomeAnswer(BaseModel):
    """The outcome is recorded on disk."""

    event_id: str = Field(description="The `event_id` that was sent, or the one that the gateway made.")


class ErrorDetail(BaseModel):
    """What is wrong with one field, or with the call as a whole."""

    message: str
    field: str | None = Field(None, description="The field that is wrong, such as `k`, or `3.k` in the fourth object of a list.")


class ErrorResponse(BaseModel):
    """Every answer that is not a success."""

    errors: list[ErrorDetail]
