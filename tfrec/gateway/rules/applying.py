"""Applies rules to a request before it is asked, and to the slate that answers it.

What conflicts is resolved in this order, which docs/rules.md states:

    1. what the request itself leaves out: items, tags, bounds, and what its user has seen
    2. what a review hides: items that wait for one, or were rejected
    3. exclude rules
    4. pins, in the order of the file: the first to name a position, or an item, has it
    5. boosts and buries, which add up

A pin that cannot hold is skipped, and counted with its reason. Pinned items are taken out of the draw, so the other positions
are drawn by the policy from what is left, and their propensities are those of that draw. Boosts move the scores in the graph,
before anything is drawn.
"""
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from tfrec.data.records import AppliedRules
from tfrec.gateway.routing.slate_request import Ruled, SlateAnswer, SlateRequest
from tfrec.gateway.rules.known_items import KnownItems, PinnedItem
from tfrec.gateway.rules.rule import BusinessRule, NumberRange, RuleBook

Range = tuple[float | None, float | None]
Skipped = list[tuple[str, str]]  # a rule's name, and why it did not hold

REVIEW = "(review)"  # stands among the names of rules where a review hides items; no rule can have this name
_NO_NUMBER = (1.7976931348623157e308,) * 2  # a range that no item of a catalogue is in


def apply_rules(book: RuleBook, known: KnownItems | None, request: SlateRequest, *, context: Mapping[str, str],
                now: float, held: Sequence[str] = ()) -> tuple[SlateRequest, Skipped]:
    """What is asked of the model once the rules are applied, and the rules that did not hold.

    Args:
        book: the rules.
        known: what the catalogue says of their items; None where there is no catalogue to ask.
        request: as the caller sent it.
        context: what is known of person and moment, by name.
        now: seconds since 1970.
        held: items that a review hides.
    """
    rules = list(book.holding(now=datetime.fromtimestamp(now, UTC), context=context, query=request.query))
    if not rules and not held:
        return request, []
    skipped: Skipped = []
    excluding = [rule for rule in rules if rule.do == "exclude" and not _lacks_column(rule, known, skipped)]
    bounds = dict(request.bounds)
    for rule in excluding:
        for column, hidden in rule.bounds.items():
            bounds[column] = _both(bounds.get(column, (None, None)), _other_side(hidden))
    without = replace(
        request, exclude=[*request.exclude, *held, *(item for rule in excluding for item in rule.items)], bounds=bounds,
        deny_tags=[*request.deny_tags, *dict.fromkeys(tag for rule in excluding for tag in rule.tags)])
    pins, pinning = _pins(rules, without, known, skipped)
    boosting = [rule for rule in rules if rule.boosts and not _lacks_column(rule, known, skipped)]
    holding = {rule.name for rule in (*excluding, *boosting)} | pinning
    names = [*([REVIEW] if held else []), *(rule.name for rule in rules if rule.name in holding)]
    if not names:
        return request, skipped
    applied = AppliedRules(version=book.version, names=tuple(names), pinned=tuple(pins.values()),
                           boosts=tuple(boost for rule in boosting for boost in rule.boosts))
    unresolved = known is None and any(rule.tags or rule.bounds for rule in excluding)
    hidden_ids = [held, *(rule.items if known is None else known.touched.get(rule.name, ()) for rule in excluding)]
    ruled = Ruled(own=request, applied=applied, pins=pins, hidden=None if unresolved else hidden_ids)
    return replace(without, exclude=[*without.exclude, *pins.values()], k=max(1, request.k - len(pins)), ruled=ruled), skipped


def placed(request: SlateRequest, answer: SlateAnswer) -> SlateAnswer:
    """The slate with the pinned items at their positions, or at its end where it is shorter.

    No chance put them there: each has the log propensity 0 and is marked in the log.
    """
    ruled = request.ruled
    if ruled is None or not ruled.pins:
        return answer
    drawn: list[tuple[str, float, float | None]] = list(zip(answer.items, answer.scores, answer.log_propensities, strict=True))
    del drawn[ruled.own.k - len(ruled.pins) :]
    teams = list(answer.teams[: len(drawn)])
    for position, item in sorted(ruled.pins.items()):
        drawn.insert(position, (item, 0.0, 0.0))
        if answer.teams:
            teams.insert(position, "-")
    items, scores, propensities = zip(*drawn, strict=True)
    return replace(answer, items=items, scores=scores, log_propensities=propensities, teams="".join(teams))


def _pins(rules: Sequence[BusinessRule], request: SlateRequest, known: KnownItems | None,
          skipped: Skipped) -> tuple[dict[int, str], set[str]]:
    """Items by position, and the names of the rules that pin them."""
    pins: dict[int, str] = {}
    names: set[str] = set()
    for rule, position, item in _pinned(rules):
        if position >= request.k:
            continue  # the slate does not reach that far
        if position in pins or item in pins.values():
            skipped.append((rule.name, "taken"))
        elif why := _hidden(item, request, known):
            skipped.append((rule.name, why))
        else:
            pins[position] = item
            names.add(rule.name)
    return pins, names


def _pinned(rules: Sequence[BusinessRule]) -> Iterator[tuple[BusinessRule, int, str]]:
    return ((rule, position, item) for rule in rules if rule.do == "pin" for position, item in rule.positions.items())


def _hidden(item: str, request: SlateRequest, known: KnownItems | None) -> str:
    """Why an item may not be shown to this request; "" if it may."""
    if item in request.exclude:
        return "excluded"
    if known is None:  # nothing is known of the item
        return "filtered" if request.allow_tags or request.deny_tags or request.bounds else ""
    found = known.pinned.get(item)
    if found is None:
        return "unknown"
    if not found.available:
        return "unavailable"
    return "" if _passes(found, request) else "filtered"


def _passes(item: PinnedItem, request: SlateRequest) -> bool:
    allowed = not request.allow_tags or item.tags.intersection(request.allow_tags)
    if not allowed or item.tags.intersection(request.deny_tags):
        return False
    return all(name in item.numbers and _is_within(item.numbers[name], bound) for name, bound in request.bounds.items())


def _is_within(number: float, bound: Range) -> bool:
    least, most = bound
    return (least is None or number >= least) and (most is None or number <= most)


def _lacks_column(rule: BusinessRule, known: KnownItems | None, skipped: Skipped) -> bool:
    """Whether a rule bounds a column that the catalogue does not have: by an exclude rule no item would be shown at all."""
    lacks = known is not None and not rule.bounds.keys() <= known.columns
    if lacks:
        skipped.append((rule.name, "column"))
    return lacks


def _other_side(hidden: NumberRange) -> Range:
    """What is shown where a range is not."""
    if hidden.min is not None:
        return None, math.nextafter(hidden.min, -math.inf)
    assert hidden.max is not None
    return math.nextafter(hidden.max, math.inf), None


def _both(one: Range, other: Range) -> Range:
    least = max((end for end in (one[0], other[0]) if end is not None), default=None)
    most = min((end for end in (one[1], other[1]) if end is not None), default=None)
    return _NO_NUMBER if least is not None and most is not None and least > most else (least, most)
