"""What a file of rules would do with the catalogue of a version: the items that each rule touches, and what cannot hold."""
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

from tfrec.errors import UsageError
from tfrec.gateway.rules.floors import KeptFloor, read_factors
from tfrec.gateway.rules.known_items import KnownItems, read_known_items
from tfrec.gateway.rules.rule import BusinessRule, read_rules

_SHOWN = 5  # ids of the items that a rule touches


def rules_report(path: Path, version_dir: Path | None, *, now: float, factors: Path | None = None) -> dict[str, Any]:
    """A report that is ready for JSON; what can never hold is in `problems`.

    Raises:
        UsageError: the file cannot be read, or a rule is wrong.
        DataError: the version has no catalogue that can be read.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}. Name a file of rules.") from error
    book = read_rules(text, where=str(path))
    kept = read_factors(factors)
    known = None if version_dir is None else read_known_items(version_dir, book)
    at = datetime.fromtimestamp(now, UTC)
    ahead = tuple(rule for rule in book.rules if rule.until is None or at < rule.until)
    problems = [] if known is None else [words for rule in ahead for words in _lost(rule, known, ahead)]
    return {
        "version": book.version, "catalogue": None if version_dir is None else version_dir.name,
        "rules": {rule.name: _described(rule, known, at) | _floor(rule, kept) for rule in book.rules},
        "problems": problems + list(_contested(ahead)),
    }


def _described(rule: BusinessRule, known: KnownItems | None, now: datetime) -> dict[str, Any]:
    if rule.since and now < rule.since:
        holds = f"from {rule.since.isoformat()}"
    elif rule.until and now >= rule.until:
        holds = f"until {rule.until.isoformat()}"
    else:
        holds = "today"
    ids = sorted(rule.items) if known is None or rule.do == "pin" else sorted(known.touched[rule.name])
    return {"do": rule.do, "holds": holds, "items": len(ids), "such as": ids[:_SHOWN]}


def _floor(rule: BusinessRule, kept: dict[str, KeptFloor]) -> dict[str, Any]:
    """What is known of a floor."""
    if rule.floor is None:
        return {}
    now = kept.get(rule.name, KeptFloor())
    return {"floor": rule.floor, "exposure": now.share, "requests": now.requests, "factor": round(now.factor, 3)}


def _lost(rule: BusinessRule, known: KnownItems, rules: tuple[BusinessRule, ...]) -> Iterator[str]:
    """What a catalogue does not let a rule do."""
    for column in sorted(rule.bounds.keys() - known.columns):
        yield f"rule {rule.name!r}: the catalogue has no numeric column {column!r}; there are {sorted(known.columns)}"
    if rule.do != "pin":
        if not known.touched[rule.name]:
            yield f"rule {rule.name!r}: touches no item of the catalogue"
        return
    for item in rule.items:
        if item not in known.pinned:
            yield f"rule {rule.name!r}: the catalogue has no item {item!r}"
        elif not known.pinned[item].available:
            yield f"rule {rule.name!r}: item {item!r} is not available"
        for other in rules:
            if other.do == "exclude" and other.meets(rule) and item in known.touched[other.name]:
                yield f"rule {rule.name!r}: item {item!r} is excluded by {other.name!r}"


def _contested(rules: tuple[BusinessRule, ...]) -> Iterator[str]:
    """Pins that may meet at one position, or pin one item, for some requests: the first in the file has it."""
    for one, other in combinations([rule for rule in rules if rule.do == "pin"], 2):
        if not one.meets(other):
            continue
        if taken := one.positions.keys() & other.positions.keys():
            yield f"rule {other.name!r}: {one.name!r} may have position {min(taken)} for the same request, and comes first"
        elif both := set(one.items) & set(other.items):
            yield f"rule {other.name!r}: {one.name!r} may pin {min(both)!r} for the same request, and comes first"
