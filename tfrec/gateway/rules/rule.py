"""The rules of a file: what each does, with which items, when and for which requests.

A file is TOML with a table `[[rule]]` for each rule. It is checked whole: a file with one wrong rule is no file of rules, and the
message names the line, the rule and what to do.
"""
import hashlib
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from tfrec.data.records import MAX_ID, Boost
from tfrec.errors import UsageError

MAX_RULES = 500
MOST_POSITION = 999
_LIST = 1_000  # ids or tags of one rule

_Text = Annotated[str, Field(min_length=1, max_length=MAX_ID)]
_Texts = Annotated[tuple[_Text, ...], Field(max_length=_LIST),
                   BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
_BEGIN, _END = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)


class NumberRange(BaseModel):
    """A range of a numeric column, ends included."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _is_one(self) -> "NumberRange":
        if self.min is None and self.max is None:
            raise ValueError("names no number: give min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"has min {self.min:g} above max {self.max:g}")
        return self


class BusinessRule(BaseModel):
    """One rule. An item is touched that is named, or has one of the tags, or is within all bounds."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)

    name: Annotated[str, Field(pattern=r"^[\w.-]{1,100}$")]
    do: Literal["pin", "exclude", "boost", "bury"]
    items: _Texts = ()
    tags: _Texts = ()
    bounds: dict[_Text, NumberRange] = {}
    factor: float | None = Field(None, gt=1, le=1e6)  # of boost and bury
    floor: float | None = Field(None, gt=0, lt=1)  # of boost: a share of the exposure, held by a factor that is adapted
    position: int | None = Field(None, ge=0, le=MOST_POSITION)  # of a pin, from 0; its next items have the next positions
    since: AwareDatetime | None = Field(None, alias="from")
    until: AwareDatetime | None = None
    when: dict[_Text, _Texts] = {}  # values of the context, of which each must be one of these
    query: _Texts = ()  # all words of one of these must be in the query
    on: Literal["all", "recommendations", "searches"] = "all"

    @model_validator(mode="after")
    def _fits(self) -> "BusinessRule":
        if not (self.items or self.tags or self.bounds):
            raise ValueError("names no item: give items, tags or bounds")
        if self.do == "pin" and (self.position is None or not self.items or self.tags or self.bounds):
            raise ValueError("a pin needs items and a position (0 is the first), and takes no tags and no bounds")
        if self.do != "pin" and self.position is not None:
            raise ValueError(f"position is of a pin, and this is {self.do}: leave it out, or say do = \"pin\"")
        if len(set(self.items)) < len(self.items):
            raise ValueError("names an item twice")
        if self.floor is not None and (self.do != "boost" or self.factor is not None):
            raise ValueError("a floor is of a boost, and has no factor beside it: the factor is adapted to what is shown")
        if (self.factor is not None) != (self.do in ("boost", "bury") and self.floor is None):
            raise ValueError("boost and bury need a factor above 1, such as factor = 2.0, and no other rule takes one")
        if self.do in ("boost", "bury") and len(self.bounds) > 1:
            raise ValueError(f"{self.do} bounds one column: write a rule for each")
        if self.do == "exclude" and (len(self.bounds) > 1 or any(None not in (one.min, one.max) for one in self.bounds.values())):
            raise ValueError("an exclude rule bounds one column at one end, min or max, as what is shown is a range too")
        if self.since and self.until and self.since >= self.until:
            raise ValueError(f"from {self.since.isoformat()} is not before until {self.until.isoformat()}")
        if self.query and self.on == "recommendations":
            raise ValueError("query words are of searches: leave query out, or on = \"recommendations\"")
        if wordless := [text for text in self.query if not words_of(text)]:
            raise ValueError(f"query {wordless[0]!r} has no word in it")
        return self

    def holds(self, *, now: datetime, context: Mapping[str, str], words: frozenset[str]) -> bool:
        """Whether the rule holds at a moment, for a request with these values of its context and words of its query."""
        if (self.since is not None and now < self.since) or (self.until is not None and now >= self.until):
            return False
        if self.on != "all" and (self.on == "searches") != bool(words):
            return False
        if self.query and not any(wanted <= words for wanted in map(words_of, self.query)):
            return False
        return all(context.get(name) in values for name, values in self.when.items())

    def meets(self, other: "BusinessRule") -> bool:
        """Whether there may be a request for which both rules hold."""
        is_apart = any(not set(values) & set(other.when[name]) for name, values in self.when.items() if name in other.when)
        asked = {one.on if one.on != "all" or not one.query else "searches" for one in (self, other)}
        return _same_time(self, other) and not is_apart and asked != {"recommendations", "searches"}

    @property
    def boosts(self) -> tuple[Boost, ...]:
        """What the rule adds to scores: the logarithm of its factor, or less that. A floor begins with 0."""
        if self.factor is None and self.floor is None:
            return ()
        value = math.log(self.factor or 1.0) * (1 if self.do == "boost" else -1)
        named: list[Boost] = [("item", item, value, None, None) for item in self.items]
        return (*named, *(("tag", tag, value, None, None) for tag in self.tags),
                *(("column", name, value, one.min, one.max) for name, one in self.bounds.items()))

    @property
    def positions(self) -> dict[int, str]:
        """Items of a pin by position."""
        return {} if self.position is None else dict(enumerate(self.items, start=self.position))


@dataclass(frozen=True)
class RuleBook:
    """The rules of a file in its order, which decides between rules of one kind."""

    rules: tuple[BusinessRule, ...] = ()
    version: str = ""  # the beginning of the SHA-256 of the file

    def holding(self, *, now: datetime, context: Mapping[str, str], query: str) -> Iterator[BusinessRule]:
        """Yields the rules that hold for a request."""
        words = words_of(query)
        return (rule for rule in self.rules if rule.holds(now=now, context=context, words=words))


def words_of(text: str) -> frozenset[str]:
    """The words of a text, in small letters."""
    return frozenset(re.findall(r"\w+", text.casefold()))


def read_rules(text: bytes, *, where: str) -> RuleBook:
    """The rules in the text of a file.

    Raises:
        UsageError: names `where`, the line and the rule.
    """
    try:
        decoded = text.decode()
        table = tomllib.loads(decoded)
    except UnicodeDecodeError as error:
        raise UsageError(f"{where}: not UTF-8 from byte {error.start} on. Save the file as UTF-8.") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where}: expected TOML, got {error}. A rule begins with [[rule]]; texts need quotes.") from error
    found = table.get("rule", [])
    if table.keys() - {"rule"} or not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        named = sorted(table.keys() - {"rule"}) or ["rule"]
        raise UsageError(f"{where}: expected tables [[rule]] alone, got {named[0]!r}. Write [[rule]] above each rule.")
    if len(found) > MAX_RULES:
        raise UsageError(f"{where}: expected at most {MAX_RULES} rules, got {len(found)}. Name several items in one rule.")
    lines = [number for number, line in enumerate(decoded.splitlines(), start=1) if re.match(r"\s*\[\[\s*rule\s*\]\]", line)]
    places = [f"{where} line {line}" for line in lines] if len(lines) == len(found) else [where] * len(found)
    rules = tuple(_checked(one, place) for one, place in zip(found, places, strict=True))
    _check_together(rules, places)
    return RuleBook(rules, hashlib.sha256(text).hexdigest()[:12])


def _checked(found: dict[str, Any], place: str) -> BusinessRule:
    try:
        return BusinessRule.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ").rstrip(".")
        if key in ("from", "until"):
            message = "expected a time with its zone, such as 2026-12-01T00:00:00+01:00"
        elif first["type"] == "extra_forbidden":
            there = ", ".join(field.alias or name for name, field in BusinessRule.model_fields.items())
            message = f"there is no such setting; there are {there}"
        raise UsageError(f"{place}: rule {str(found.get('name', '?'))[:100]!r}: {f'{key}: ' if key else ''}{message}.") from error


def _check_together(rules: Sequence[BusinessRule], places: Sequence[str]) -> None:
    first: dict[str, str] = {}
    for rule, place in zip(rules, places, strict=True):
        if rule.name in first:
            raise UsageError(f"{place}: rule {rule.name!r}: this name is on {first[rule.name]} already. Give each rule its own.")
        first[rule.name] = place
    for one, other in combinations([rule for rule in rules if rule.do == "pin"], 2):
        taken = one.positions.keys() & other.positions.keys()
        if taken and _same_requests(one, other) and _same_time(one, other):
            raise UsageError(f"{first[other.name]}: rule {other.name!r}: position {min(taken)} has a pin by {one.name!r}, for "
                             "the same requests at the same time. Move one, or let it hold at other times or for other requests.")


def _same_requests(one: BusinessRule, other: BusinessRule) -> bool:
    return (one.when, set(one.query), one.on) == (other.when, set(other.query), other.on)


def _same_time(one: BusinessRule, other: BusinessRule) -> bool:
    return max(one.since or _BEGIN, other.since or _BEGIN) < min(one.until or _END, other.until or _END)
