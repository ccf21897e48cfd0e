"""The table of settled examples, and what is read from it: by projection and filter, never whole.

It is a Delta table like those of the feedback log, with the same durable commits. A part is one commit, under its number as the
application transaction, so the same part cannot be added twice. Commits name the least and greatest `time`, `shown_time` and
`seq` of their rows, by which readers skip files; parts come in the order of time, so a partition for each day would skip no more
and would cost a file a day for each part.
"""
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tfrec.data.feedback_log.duckdb_view import connected, create_view
from tfrec.data.feedback_log.log import RETENTION_HOURS
from tfrec.data.feedback_log.outdated import Outdated
from tfrec.data.feedback_log.table import LogTable
from tfrec.data.labels import join
from tfrec.data.people.queries import HIDDEN
from tfrec.data.settled.part import Part, together
from tfrec.data.settled.schema import BUCKETS, SCHEMA, WINDOW, WRITER, buckets, rows_of

# where a clock ran ahead a label may be settled twice, and the later one is right
NEWEST = "QUALIFY ROW_NUMBER() OVER (PARTITION BY example_id ORDER BY seq DESC) = 1"
_IS_BEHAVIOUR = "(reward <> 0 OR positive_time IS NOT NULL)"
_ACTION_COLUMNS = """
"user", item, COALESCE(positive_time, time) AS time, COALESCE(positive_action, action) AS action, reward,
positive_time IS NOT NULL AS is_positive, source = 'slate' AS was_shown, seq
"""


class Buckets(NamedTuple):
    """A range of buckets of users, which may run over the last one to the first."""

    first: int
    number: int

    @classmethod
    def share(cls, share: float, *, seed: int) -> "Buckets":
        """About this share of all users; which of them depends on the seed."""
        return cls(seed % BUCKETS, max(0, min(BUCKETS, round(share * BUCKETS))))

    def contain(self, users: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.bool_]:
        """`[n]`: whether each user is in the range."""
        return np.asarray((buckets(users) - self.first) % BUCKETS < self.number)

    @property
    def condition(self) -> str:
        """In SQL, of the column `bucket`."""
        return f"((bucket - {self.first} + {BUCKETS}) % {BUCKETS}) < {self.number}"


class SettledExamples:
    """The parts of a run, in a directory or at an object store's URL."""

    def __init__(self, uri: str | Path) -> None:
        """Name the table. One that does not exist is created at its first use."""
        self.table = LogTable(str(uri).rstrip("/"), SCHEMA)

    def last(self) -> Part | None:
        """The newest part; None when nothing is settled yet."""
        number = self.table.last_seq(WRITER)
        return self.parts(number - 1, number)[0] if number else None

    def parts(self, after: int, upto: int) -> list[Part]:
        """The parts numbered after < number <= upto, in their order."""
        found = self.query(f"SELECT context FROM settled WHERE seq > {int(after)} AND seq <= {int(upto)} AND source = '{WINDOW}' "
                           "ORDER BY seq")
        return [Part.model_validate_json(text) for text in found["context"].to_pylist()]

    def summary(self, upto: int) -> tuple[dict[str, int], dict[str, int]]:
        """Of all parts up to one: rows of the log that became no example, by reason, and outcomes by action."""
        return together(self.parts(0, upto))

    def add(self, examples: pa.Table, part: Part) -> None:
        """Commit a part. Nothing happens when one of its number is in the table already."""
        self.table.append(rows_of(examples, part), writer=WRITER)

    def behaviour(self, *, after: int, upto: int, users: Iterable[str] = (), sample: Buckets) -> pa.Table:
        """The rewarded examples of those who act in the parts after < number <= upto, of `users`, and of a sample of all users.

        Returns:
            `user`, `item`, `time` and `action` of the earliest positive outcome or else of the strongest, `reward`,
            `is_positive`, `was_shown`, whether it was of a slate, and `seq`, the number of the part; in the order of time.
        """
        wanted = pa.table({"user": pa.array(sorted(set(users)), pa.string())})
        return self.query(f"""
            WITH wanted_users AS (
              SELECT "user" FROM wanted
              UNION SELECT "user" FROM settled WHERE seq > {int(after)} AND seq <= {int(upto)} AND {_IS_BEHAVIOUR}
            )
            SELECT {_ACTION_COLUMNS} FROM settled
            WHERE seq <= {int(upto)} AND source <> '{WINDOW}' AND {_IS_BEHAVIOUR}
              AND ({sample.condition} OR "user" IN (SELECT "user" FROM wanted_users))
            {NEWEST} ORDER BY time, example_id
            """, {"wanted": wanted})

    def behaviour_gone(self) -> int:
        """About how many examples with a reward have left the table (`drop_outdated`)."""
        if not self.table.gone():
            return 0
        oldest = self.query(f"SELECT context FROM settled WHERE source = '{WINDOW}' ORDER BY seq LIMIT 1")["context"]
        parts = [Part.model_validate_json(text) for text in oldest.to_pylist()]
        return sum(part.behaviour for part in parts if part.number > 1)

    def counts(self, *, after: int, upto: int, items: Sequence[str]) -> tuple[int, int]:
        """How many examples of the parts after < number <= upto name one of `items`, and how many name another item."""
        [row] = self.query(f"""
            SELECT COUNT(*) FILTER (known) AS known, COUNT(*) AS every
            FROM (SELECT item IN (SELECT item FROM catalogue) AS known FROM settled
                  WHERE seq > {int(after)} AND seq <= {int(upto)} AND source <> '{WINDOW}' {NEWEST})
            """, {"catalogue": _catalogue(items)}).to_pylist()
        return row["known"], row["every"] - row["known"]

    def whole(self, *, upto: int, items: Sequence[str]) -> pa.Table:
        """All examples of the parts up to `upto` that name one of `items`, with the columns of the join, in the order of time."""
        columns = ", ".join(f'"{name}"' for name in join.SCHEMA.names)
        return self.query(f"""
            SELECT {columns} FROM settled
            WHERE seq <= {int(upto)} AND source <> '{WINDOW}' AND item IN (SELECT item FROM catalogue)
            {NEWEST} ORDER BY time, example_id
            """, {"catalogue": _catalogue(items)}).cast(join.SCHEMA)

    def item_counts(self, *, since: int, upto: int, period: int) -> pa.Table:
        """How many positive examples each item had, by `item` and `period` (time // period), from the second `since` on.

        Only those of the parts up to `upto` count.
        """
        time = "COALESCE(positive_time, time)"
        return self.query(f"""
            SELECT item, {time} // {int(period)} AS period, COUNT(*) AS count FROM settled
            WHERE seq <= {int(upto)} AND source <> '{WINDOW}' AND positive_time IS NOT NULL AND {time} >= {int(since)}
            GROUP BY ALL ORDER BY period, item
            """)

    def searches(self, *, upto: int) -> pa.Table:
        """`query`, `item` and `reward` of what was chosen after a query was typed."""
        return self.query(f"""
            SELECT query, item, reward FROM settled
            WHERE seq <= {int(upto)} AND source <> '{WINDOW}' AND reward > 0 AND query <> ''
              AND NOT starts_with(query, '{HIDDEN}')
            {NEWEST} ORDER BY time, example_id""")

    def query(self, sql: str, relations: Mapping[str, pa.Table] | None = None) -> pa.Table:
        """The answer of a SELECT statement, in which `settled` is the table and `relations` are tables of the caller."""
        return self.queries([sql], relations)[0]

    def queries(self, statements: Sequence[str], relations: Mapping[str, pa.Table] | None = None) -> list[pa.Table]:
        """The answers of several statements, all of one version of the table.

        Raises:
            DataError: the table cannot be read; names the file.
        """
        dataset = self.table.dataset()

        def run() -> list[pa.Table]:
            with connected() as db:
                create_view(db, "settled", self.table.uri, dataset, SCHEMA)
                for name, rows in (relations or {}).items():
                    db.register(name, rows)
                answers: list[Any] = []
                for statement in statements:
                    if statement.lstrip().upper().startswith("CREATE"):
                        db.execute(statement)
                    else:
                        answers.append(db.sql(statement).to_arrow_table())
                return answers

        return self.table.checked(run, dataset)

    def maintain(self, *, retention_hours: float = RETENTION_HOURS) -> None:
        """Keep the table small and quick to open; no example changes."""
        self.table.maintain(retention_hours=retention_hours)

    def drop_outdated(self, *, before: int, upto: int) -> None:
        """Remove the examples of requests, and of actions without one, of before a time; whole slates leave at once.

        Args:
            before: seconds since 1970.
            upto: the newest part that every version has learnt. What later parts settled stays, and so does what describes them.
        """
        # the row that describes part `upto` tells the next retrain how much came before
        self.table.drop(Outdated(before, {WRITER: upto - 1}, times=("shown_time", "time"), told="seq"))


def _catalogue(items: Sequence[str]) -> pa.Table:
    return pa.table({"item": pa.array(items, pa.string())})
