"""The records that cross tfrec's boundary: `Item`, `Impression` and `Outcome`. They are checked once, here.

Raw rows (JSON, CSV, Parquet, HTTP bodies) become immutable records, or raise a pydantic error that a reader turns into file, line
and field. What is not logged when an answer is given (positions, propensities, the history as served) cannot be recovered later,
so an `Impression` holds all of it. Times are whole seconds since 1970-01-01 UTC.
"""
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)


def _whole(value: Any) -> Any:
    """Write a whole number as an id: 10, not 10.0, which JSON and data frames with gaps make of it."""
    return int(value) if type(value) is float and value.is_integer() and abs(value) <= 1 << 53 else value


MAX_ID = 512  # characters
Key = Annotated[str, Field(min_length=1, max_length=MAX_ID), BeforeValidator(_whole)]  # in this order, lengths cost nothing
Seconds = Annotated[int, Field(ge=0, lt=1 << 40)]
MAX_VALUE = 1e15  # the sum of a few thousand such values, times the largest weight, is still a finite number
Value = Annotated[float, Field(ge=-MAX_VALUE, le=MAX_VALUE)]


class Record(BaseModel):
    """An immutable row. Unknown fields are ignored; numbers may arrive as text (CSV), and ids as numbers (JSON)."""

    model_config = ConfigDict(extra="ignore", frozen=True, coerce_numbers_to_str=True, allow_inf_nan=False)


class Item(Record):
    """An item that can be shown. `text` is one string, or named fields that are read in their order."""

    id: Key
    text: str | dict[str, str] = ""
    tags: tuple[str, ...] = ()
    numeric: dict[str, float] = {}
    dense: dict[str, tuple[float, ...]] = {}  # vectors made elsewhere, for example from an image
    created_at: Seconds | None = None
    available: bool = True

    @property
    def full_text(self) -> str:
        """The text that the encoder reads: the fields in their order, joined by a full stop."""
        if isinstance(self.text, str):
            return self.text
        return ". ".join(t for t in self.text.values() if t)


class Shown(Record):
    """An item at a position of a slate. `log_propensity` is ln P(this item here | the positions above), None when unknown."""

    item: Key
    position: int = Field(ge=0, lt=1 << 31)
    score: float
    log_propensity: float | None = Field(default=None, le=0)


_Short = Annotated[str, Field(max_length=MAX_ID)]


class Context(Record):
    """Where a request came from. It is logged with every slate, so it is kept short."""

    place: _Short = ""
    device: _Short = ""
    profile: dict[_Short, _Short] = Field({}, max_length=100)

    def values(self) -> dict[str, str]:
        """What is known, by name: the profile, `place` and `device`. An empty text is nothing."""
        found = self.profile | {name: value for name in ("place", "device") if (value := getattr(self, name))}
        return {name: value for name, value in found.items() if value}


Bounds = dict[_Short, tuple[float | None, float | None]]  # of numeric columns, the least and the most; None: no bound


BoostKind = Literal["item", "tag", "column"]
# what is added to the scores of an item, of the items with a tag, or of those within a range of a numeric column, ends included
Boost = tuple[BoostKind, str, float, float | None, float | None]  # of what kind, its name, how much, the least and the most


class AppliedRules(BaseModel):
    """The rules of a business that an answer follows, with the items that they pinned, which no policy chose, and the boosts."""

    model_config = ConfigDict(frozen=True)

    version: _Short
    names: tuple[_Short, ...]
    pinned: tuple[_Short, ...] = ()
    boosts: tuple[Boost, ...] = ()


class ServedContext(Context):
    """A context in the log, which also holds what else decided: bounds, weights of heads, arms of experiments, and rules."""

    bounds: Bounds = {}
    head_weights: dict[_Short, float] | None = None  # of the second stage; None: as configured
    arms: dict[_Short, _Short] = {}  # by experiment
    teams: str = ""  # where two rankings are interleaved: `0` or `1` for each position, `-` where neither chose
    shadows: dict[_Short, tuple[str, ...]] = {}  # by experiment, items that would have been shown instead
    rules: AppliedRules | None = None


def pinned_of(context: str | None) -> tuple[str, ...]:
    """The items of a slate that rules pinned, by the JSON of its `ServedContext`."""
    served = _served(context, "pinned")
    return () if served is None or served.rules is None else served.rules.pinned


def rule_names_of(context: str | None) -> tuple[str, ...]:
    """The names of the rules that a slate followed, by the JSON of its `ServedContext`."""
    served = _served(context, "rules")
    return () if served is None or served.rules is None else served.rules.names


def boosts_of(context: str | None) -> tuple[Boost, ...]:
    """What was added to scores before a slate was chosen, by the JSON of its `ServedContext`."""
    served = _served(context, "boosts")
    return () if served is None or served.rules is None else served.rules.boosts


def bounds_of(context: str | None) -> list[tuple[str, float | None, float | None]]:
    """Column, least and most of each bound in the JSON of a `ServedContext`."""
    served = _served(context, "bounds")
    return [] if served is None else [(column, least, most) for column, (least, most) in served.bounds.items()]


def head_weights_of(context: str | None) -> dict[str, float] | None:
    """The weights of heads in the JSON of a `ServedContext`; None where the request named none."""
    served = _served(context, "head_weights")
    return None if served is None else served.head_weights


def _served(context: str | None, asked: str) -> ServedContext | None:
    """The JSON of a context that has the field `asked`; None for any other."""
    if not context or f'"{asked}"' not in context:  # nearly all
        return None
    try:
        return ServedContext.model_validate_json(context)
    except ValidationError:  # of another tool, which may write anything there
        return None


class Impression(Record):
    """One answered request, with everything that was known and shown when it was answered."""

    request_id: Key
    time: Seconds
    user: Key  # a pseudonym
    query: str = ""
    history: tuple[str, ...] = ()  # as served, oldest first
    history_action: tuple[str, ...] = ()  # beside `history`, or empty
    history_time: tuple[Annotated[int, Field(ge=-1, lt=1 << 40)], ...] = ()  # beside `history`, or empty; -1: unknown
    exclude: tuple[str, ...] = ()  # items that must not be shown. With the tags, it decides
    allow_tags: tuple[str, ...] = ()  # what another policy could have shown
    deny_tags: tuple[str, ...] = ()
    prior_items: tuple[str, ...] = ()  # items whose live popularity was sent along,
    prior_log_p: tuple[float, ...] = ()  # and their log p, on which the scores depend
    context: ServedContext = ServedContext()
    slate: tuple[Shown, ...] = Field(min_length=1)
    policy: Key
    model_version: int = Field(ge=0, lt=1 << 63)

    @field_serializer("context", when_used="json")
    def _context_as_text(self, context: Context) -> str:
        """In the log, a context is one column of JSON."""
        # a copy that was not validated may hold a `Context`
        served = context if isinstance(context, ServedContext) else ServedContext()
        said = {"bounds": bool(served.bounds), "head_weights": served.head_weights is not None, "arms": bool(served.arms),
                "teams": bool(served.teams), "shadows": bool(served.shadows), "rules": served.rules is not None}
        return context.model_dump_json(exclude={name for name, is_said in said.items() if not is_said})

    @field_validator("context", mode="before")
    @classmethod
    def _context_from_text(cls, value: Any) -> Any:
        if isinstance(value, Context) and not isinstance(value, ServedContext):
            return ServedContext(**dict(value))
        return ServedContext.model_validate_json(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _lengths_agree(self) -> "Impression":
        for name in ("history_action", "history_time"):
            n = len(getattr(self, name))
            if n not in (0, len(self.history)):
                raise ValueError(f"{name} must be empty or as long as history ({len(self.history)}), got {n}")
        if len(self.prior_log_p) != len(self.prior_items):
            raise ValueError(f"prior_log_p must be as long as prior_items ({len(self.prior_items)}), got {len(self.prior_log_p)}")
        return self


class Outcome(Record):
    """What a user did with an item. Without a `request_id` it is organic: tfrec did not show the item."""

    event_id: Key
    user: Key
    item: Key
    action: Key
    time: Seconds
    value: Value = 1.0
    request_id: Key | None = None

    @field_validator("request_id", mode="before")
    @classmethod
    def _blank_is_absent(cls, value: Any) -> Any:
        return None if value == "" else value
