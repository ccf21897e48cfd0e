"""Logged slates whose chances are known, with what they earned: for who asks what another policy would have earned.

In come the log and a window, out comes a sample of the requests that were answered by chance, each with its places and their
matured rewards, and how many others there are by the reason why they cannot be used. DuckDB reads what it must of each column, so
a log may be larger than memory.
"""
from collections import Counter
from collections.abc import Collection
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from tfrec.config import RewardConfig
from tfrec.data.join import join, register
from tfrec.data.log import FeedbackLog, Window
from tfrec.data.rewards import Lengths
from tfrec.data.rows import Quarantine

_LISTS = ("history", "history_action", "history_time", "exclude", "allow_tags", "deny_tags")
_COLUMNS = ("time", "user", "query", *_LISTS)  # of a request

# a copy of a row says the same; a slate of which one place has no propensity has none
_BY_REQUEST = """
CREATE TEMP TABLE by_request AS
SELECT request_id, MIN(policy) AS policy, BOOL_OR(log_propensity IS NULL) AS is_unknown, BOOL_OR(log_propensity < 0) AS is_chance
FROM impressions GROUP BY request_id
"""
_WANTED = """
CREATE TEMP TABLE wanted AS
SELECT request_id FROM by_request WHERE NOT is_unknown AND is_chance ORDER BY MD5(request_id), request_id LIMIT {most}
"""
_OTHERS = """
SELECT SPLIT_PART(policy, '(', 1) || IF(is_unknown, ': no propensities', ': nothing was left to chance'), COUNT(*)
FROM by_request WHERE is_unknown OR NOT is_chance GROUP BY 1
"""
_REQUESTS = f"""
SELECT request_id, {", ".join(f'ARG_MIN("{name}", "position") AS "{name}"' for name in _COLUMNS)}
FROM impressions SEMI JOIN wanted USING (request_id) GROUP BY request_id
"""
_PLACES = """
SELECT request_id, item, MIN("position") AS place, ANY_VALUE(log_propensity) AS log_propensity
FROM impressions SEMI JOIN wanted USING (request_id) GROUP BY request_id, item ORDER BY request_id, place
"""


class Slate(NamedTuple):
    """A request as served, and the first places of what was shown: item, log propensity given the earlier ones, reward."""

    request: dict[str, Any]
    places: list[tuple[str, float, float]]


def read_slates(
    log: FeedbackLog,
    window: Window,
    *,
    catalogue_ids: Collection[str],
    attribution_seconds: int,
    reward: RewardConfig,
    quarantine: Quarantine | None,
    places: int | None,
    most: int,
    lengths: Lengths | None = None,
) -> tuple[list[Slate], Counter[str]]:
    """Up to `most` slates, the same ones for the same log, with up to `places` places each; and the others, counted by reason.

    Raises:
        DataError: a table cannot be read, or a row is malformed and there is no quarantine.
    """
    table = log.tables["impressions"]
    dataset = table.dataset(window.impressions_version)

    def read() -> tuple[pa.Table, pa.Table, Counter[str]]:
        with duckdb.connect(config={"python_enable_replacements": False}) as db:
            register(db, "impressions", table.uri, dataset)
            db.execute(_BY_REQUEST)
            db.execute(_WANTED.format(most=int(most)))
            requests = db.sql(_REQUESTS).to_arrow_table()
            return requests, db.sql(_PLACES).to_arrow_table(), Counter(dict(db.sql(_OTHERS).fetchall()))

    requests, shown, left_out = table.checked(read, dataset)
    wanted = requests["request_id"]
    examples = join(log, window, catalogue_ids=catalogue_ids, attribution_seconds=attribution_seconds, reward=reward,
                    quarantine=quarantine, lengths=lengths, only=wanted).table
    pairs = zip(examples["request_id"].to_pylist(), examples["item"].to_pylist(), strict=True)
    earned = dict(zip(pairs, examples["reward"].to_pylist(), strict=True))
    of_request: dict[str, list[tuple[str, float]]] = {}
    for row in shown.to_pylist():
        of_request.setdefault(row["request_id"], []).append((row["item"], row["log_propensity"]))
    slates = []
    for row in requests.sort_by("request_id").to_pylist():
        name = row["request_id"]
        cut = of_request[name][:places]
        if all((name, item) in earned for item, _ in cut):
            request = {column: (value or []) if column in _LISTS else value for column, value in row.items()}
            slates.append(Slate(request, [(item, log_pi, earned[name, item]) for item, log_pi in cut]))
        else:
            left_out["labels not mature yet, or items that are not in the catalogue"] += 1
    return slates, left_out
