"""Adapts the factors of floors to what was shown since they changed last."""
import json
import logging

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.config import Config
from tfrec.data import durable_files
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.records import rule_names_of
from tfrec.evaluation.exposure import attention
from tfrec.gateway.rules.floors import FLOORS, KeptFloor, next_factor, read_factors
from tfrec.gateway.rules.known_items import read_known_items
from tfrec.gateway.rules.rule import BusinessRule
from tfrec.gateway.rules.rules_file import read_book
from tfrec.release.publish import newest_dir

log = logging.getLogger(__name__)

LEAST = 200  # requests under a rule, on which its share is measured
_LONGEST = 7 * 86_400  # seconds of the log that are read
_TAKEN_UP = 5  # seconds until gateways have read a new factor


def keep_floors(config: Config, *, now: int) -> dict[str, KeptFloor]:
    """Adapt each floor that enough requests have followed since its last change; returns all of them by their rule.

    Killed at any time, it is done again from the same log.

    Raises:
        UsageError: the file of rules is wrong.
        DataError: the log or the catalogue cannot be read.
    """
    path, version_dir = config.gateway.rules, newest_dir(config.models_dir)
    if path is None or version_dir is None:
        return {}
    book = read_book(path)
    floors = [rule for rule in book.rules if rule.floor is not None]
    before = read_factors(config.run / FLOORS)
    if not floors:
        return {}
    known, kept = read_known_items(version_dir, book), {rule.name: before.get(rule.name, KeptFloor(since=0)) for rule in floors}
    first = max(now - _LONGEST, min(one.since for one in kept.values()))
    shown = FeedbackLog(config.log_uri).shown_since(first, more=["time", "context"])
    ruled = _ruled(shown)
    for rule in floors:
        kept[rule.name] = _adapted(rule, kept[rule.name], shown, ruled.get(rule.name, []), known.touched[rule.name], now)
    if kept != before:
        durable_files.make_directory((config.run / FLOORS).parent)
        text = json.dumps({name: one.model_dump() for name, one in kept.items()})
        durable_files.replace(config.run / FLOORS, text.encode())
    return kept


def _adapted(rule: BusinessRule, kept: KeptFloor, shown: pa.Table, requests: list[str], touched: frozenset[str],
             now: int) -> KeptFloor:
    assert rule.floor is not None
    recent = shown.filter(pc.and_(pc.greater(shown["time"], kept.since), pc.is_in(
        shown["request_id"], value_set=pa.array(requests, pa.string()))))
    n = pc.count_distinct(recent["request_id"]).as_py()
    if n < LEAST:
        return kept
    counts = attention(recent["position"].to_numpy())
    own = pc.is_in(recent["item"], value_set=pa.array(sorted(touched), pa.string())).to_numpy(zero_copy_only=False)
    share = float(counts[np.asarray(own, bool)].sum() / counts.sum())
    factor = next_factor(kept.factor, share, rule.floor)
    log.info("rule %r: %.3f of the exposure, floor %.3f: factor %.2f", rule.name, share, rule.floor, factor)
    return KeptFloor(factor=factor, since=now + _TAKEN_UP, share=round(share, 5), requests=n)


def _ruled(shown: pa.Table) -> dict[str, list[str]]:
    """The requests that each rule held for, by its name."""
    there = shown.filter(pc.is_valid(shown["context"]))
    found: dict[str, list[str]] = {}
    for request, text in zip(there["request_id"].to_pylist(), there["context"].to_pylist(), strict=True):
        for name in rule_names_of(text):
            found.setdefault(name, []).append(request)
    return found
