"""Reads the column `context` of the log, which holds JSON of `records.Context`."""
import logging
from functools import lru_cache

import pyarrow as pa
from pydantic import ValidationError

from tfrec.data.records import Context

log = logging.getLogger(__name__)


def context_values(column: pa.ChunkedArray) -> list[dict[str, str]]:
    """What each request said of person and moment, by name. A row whose JSON is no context says nothing, and is warned of."""
    bad = 0

    @lru_cache(maxsize=100_000)  # most requests of a device and a place are alike
    def values(text: str) -> dict[str, str] | None:
        try:
            return Context.model_validate_json(text).values()
        except ValidationError:
            return None

    found = []
    for text in column.to_pylist():
        known = values(text) if text else {}
        bad += known is None
        found.append(known or {})
    if bad:
        log.warning("impressions: %d of %d contexts are not of the form that the gateway writes, and count as unknown", bad,
                    len(found))
    return found
