"""What the log says of each window, counted in one pass: requests, what was shown, what came of it, and what was said of person
and moment. Each number is kept by group of users, so that everything else is arithmetic on small tables.

An outcome belongs to the request that it names, or else to the latest one that showed its user the item. Each action on a shown
item counts once. The reward is that of the configuration, of outcomes within the horizon of their impression: those of the newest
window had no more time. The label rule of training also looks for repeats and floods, which would have to wait for more.
"""
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.config import Config
from tfrec.data.feedback_log.duckdb_view import connected, create_view
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.schema import SCHEMAS, Kind
from tfrec.data.labels.malformed_rows import is_well_formed
from tfrec.data.labels.rewards import Lengths, gains, lengths_of
from tfrec.monitors.estimates import GROUPS, Floats
from tfrec.monitors.windows import LookWindows

DAY = 86_400
_CONTEXT = "IF(json_valid(context), context, NULL)"
_REQUESTS = f"""
CREATE TEMP TABLE requests AS
SELECT request_id, MIN("user") AS "user", CAST(hash(MIN("user")) % {GROUPS} AS INTEGER) AS grp, MIN(time) AS time,
  CAST((MIN(time) - $start) // $length AS INTEGER) AS "window", MIN(policy) AS policy, MIN(model_version) AS version,
  COUNT(*) AS size, MAX({_CONTEXT}) AS context, MAX(query) AS query
FROM impressions WHERE time >= $start AND time < $stop GROUP BY request_id
"""
_SOURCES = """
CREATE TEMP TABLE asked AS
SELECT *, COALESCE({source}, '') AS source FROM requests
"""
_OUTCOMES = """
SELECT DISTINCT request_id, "user", item, action, arg_min(value, time) AS value, MIN(time) AS time
FROM outcomes GROUP BY request_id, "user", item, action, COALESCE(request_id, event_id)
"""
_CREDITED = f"""
WITH told AS ({_OUTCOMES})
SELECT a.request_id, a.grp, a."window", a.source, t.item, t.action, t.value, t.time, t.time - a.time AS delay
FROM told AS t
JOIN impressions AS i ON i.request_id = t.request_id AND i.item = t.item JOIN asked AS a ON a.request_id = i.request_id
UNION ALL
SELECT a.request_id, a.grp, a."window", a.source, t.item, t.action, t.value, t.time, t.time - a.time AS delay
FROM (SELECT * FROM told WHERE request_id IS NULL) AS t
JOIN impressions AS i ON i."user" = t."user" AND i.item = t.item JOIN asked AS a ON a.request_id = i.request_id
WHERE t.time > a.time AND t.time <= a.time + $horizon
QUALIFY ROW_NUMBER() OVER (PARTITION BY t."user", t.item, t.action, t.time ORDER BY a.time DESC, a.request_id) = 1
"""
_SHOWN = """
CREATE TEMP TABLE shown AS
SELECT a.request_id, a.grp, a."window", a.source, i.item, MIN(i.position) AS position, MIN(i.score) AS score
FROM impressions AS i JOIN asked AS a ON a.request_id = i.request_id
GROUP BY a.request_id, a.grp, a."window", a.source, i.item
"""
_EARNED = """
CREATE TEMP TABLE earned AS
SELECT a.request_id, a.grp, a."window", a.source, a.policy, a.version, a.context, COALESCE(g.reward, 0) AS reward,
  IF(g.reward IS NULL, 0, 1) AS acted, COALESCE(g.told, 0) AS told
FROM asked AS a LEFT JOIN (
  SELECT request_id, SUM(gain) FILTER (WHERE timely) AS reward, 1 AS told FROM gained GROUP BY request_id
) AS g ON g.request_id = a.request_id
"""


@dataclass(frozen=True)
class Cells:
    """Counts by user group, window and source, one row for each combination with a value.

    Args:
        table: Columns `grp`, `window`, `source`, maybe `part`, and columns of sums.
    """

    table: pa.Table
    windows: int

    def without(self, sources: Sequence[str]) -> "Cells":
        """Without the rows of some sources."""
        known = pa.array(sources, pa.string())
        return Cells(self.table.filter(pc.invert(pc.is_in(self.table["source"], value_set=known))), self.windows)

    def only(self, column: str, value: object) -> "Cells":
        """The rows with a value in a column."""
        return Cells(self.table.filter(pc.equal(self.table[column], pa.scalar(value, self.table.schema.field(column).type))),
                     self.windows)

    def values(self, column: str) -> list[str]:
        """The values of a column, in order."""
        return sorted(pc.unique(self.table[column]).to_pylist())

    def sums(self, *columns: str) -> Floats:
        """`[groups, windows, columns]`."""
        found = np.zeros((GROUPS, self.windows, len(columns)))
        at = self._at
        for number, name in enumerate(columns):
            np.add.at(found[..., number], at, self.table[name].to_numpy().astype(np.float64))
        return found

    def by_part(self, *, most: int) -> tuple[list[str], Floats]:
        """The most frequent parts and `[groups, windows, parts + 1]` of the column `n`, all other parts together last."""
        coded = self.table["part"].combine_chunks().dictionary_encode()
        code, names = coded.indices.to_numpy(), coded.dictionary.to_pylist()
        n = self.table["n"].to_numpy().astype(np.float64)
        order = np.argsort(-np.bincount(code, n, len(names)), kind="stable")[:most]
        place = np.full(len(names), len(order))
        place[order] = np.arange(len(order))
        found = np.zeros((GROUPS, self.windows, len(order) + 1))
        np.add.at(found, (*self._at, place[code]), n)
        return [names[number] for number in order], found

    @cached_property
    def _at(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        return self.table["grp"].to_numpy().astype(np.int64), self.table["window"].to_numpy().astype(np.int64)


class Counted:
    """The counts of a log. Use it within `counted`, which opens it."""

    def __init__(self, db: duckdb.DuckDBPyConnection, config: Config, windows: LookWindows, lengths: Lengths) -> None:
        self._db, self._config, self.windows = db, config, windows
        self._cells: dict[str, Cells] = {}
        db.execute(_REQUESTS, {"start": windows.start, "length": windows.length, "stop": windows.end})
        db.execute(_SOURCES.format(source=value_of(config.monitors.source)))
        self.credited = self._credited(lengths)
        db.register("gained", self.credited)
        db.execute(_SHOWN)
        db.execute(_EARNED)

    def requests(self) -> Cells:
        """`requests`, `reward`, those that were `acted` on, and those with an outcome of any delay (`told`)."""
        return self.cells("SELECT grp, \"window\", source, COUNT(*) AS requests, SUM(reward) AS reward, SUM(acted) AS acted, "
                          "SUM(told) AS told FROM earned GROUP BY ALL")

    def parts(self, of: str) -> Cells:
        """The same with `part`: the version, the policy, or a name of the context."""
        part = {"version": "CAST(version AS VARCHAR)", "policy": "split_part(policy, '(', 1)"}.get(of) or value_of(of)
        return self.cells(f"SELECT grp, \"window\", source, COALESCE({part}, '') AS part, COUNT(*) AS requests, COUNT(*) AS n, "
                          "SUM(reward) AS reward, SUM(acted) AS acted FROM earned GROUP BY ALL")

    def positions(self) -> Cells:
        """`n` shown, `reward` and `acted`, by position (`part`)."""
        return self.cells("""
SELECT s.grp, s."window", s.source, CAST(s.position AS VARCHAR) AS part, COUNT(*) AS n, COUNT(*) AS requests,
  SUM(COALESCE(g.reward, 0)) AS reward, COUNT(g.item) AS acted
FROM shown AS s LEFT JOIN (SELECT request_id, item, SUM(gain) AS reward FROM gained WHERE timely GROUP BY ALL) AS g
  ON g.request_id = s.request_id AND g.item = s.item
GROUP BY ALL""")

    def actions(self) -> Cells:
        """`n` outcomes within the horizon, by action (`part`)."""
        return self.cells("SELECT grp, \"window\", source, action AS part, COUNT(*) AS n FROM gained WHERE timely GROUP BY ALL")

    def delays(self) -> Cells:
        """`n` outcomes, those `untimely`, outside the horizon, those `timely`, and the sum of log2(1 + seconds) of the latter."""
        return self.cells("""
SELECT grp, "window", source, COUNT(*) AS n, SUM(IF(timely, 0, 1)) AS untimely, SUM(IF(timely, 1, 0)) AS timely,
  SUM(IF(timely, log2(1 + greatest(delay, 0)), 0)) AS doublings
FROM gained GROUP BY ALL""")

    def context(self, name: str, *, number: bool) -> Cells:
        """`n` requests by the value of a name (`part`): a category, or a tenth of the numbers of the earlier windows."""
        value = f"COALESCE({value_of(name)}, '')"
        if number:
            told = f"TRY_CAST({value_of(name)} AS DOUBLE)"
            [edges] = self._db.execute(f"SELECT quantile_cont({told}, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]) FROM asked "
                                       f"WHERE \"window\" < {self.windows.count - 1}").fetchall()
            above = " + ".join(f"IF({told} > {edge!r}, 1, 0)" for edge in sorted({*(edges[0] or ())})) or "0"
            value = f"IF({told} IS NULL, '', CAST({above} AS VARCHAR))"
        return self.cells(f"SELECT grp, \"window\", source, {value} AS part, COUNT(*) AS n FROM asked GROUP BY ALL")

    def novelty(self) -> Cells:
        """`n` shown, and the bits that they tell: -log2 of the share of the item in what earlier windows showed."""
        return self.cells(f"""
WITH before AS (SELECT item, COUNT(*) AS n FROM shown WHERE "window" < {self.windows.count - 1} GROUP BY item),
  every AS (SELECT GREATEST(SUM(n), 1) AS n FROM before)
SELECT grp, "window", source, COUNT(*) AS n, SUM(-log2(COALESCE(b.n, 0.5) / every.n)) AS bits
FROM shown AS s LEFT JOIN before AS b ON b.item = s.item CROSS JOIN every GROUP BY ALL""")

    def newcomers(self) -> Cells:
        """`n` shown, and those `new`: their item was not shown in the window before. The oldest window has none."""
        return self.cells("""
WITH seen AS (SELECT DISTINCT item, "window" FROM shown)
SELECT s.grp, s."window", s.source, COUNT(*) AS n, SUM(IF(p.item IS NULL, 1, 0)) AS new
FROM shown AS s LEFT JOIN seen AS p ON p.item = s.item AND p."window" = s."window" - 1
WHERE s."window" > 0 GROUP BY ALL""")

    def coverage(self, sources: Sequence[str]) -> tuple[Floats, Floats]:
        """How many items each window showed `[windows]`, and those that one group alone was shown `[groups, windows]`."""
        table = self._query(f"""
WITH items AS (
  SELECT item, "window", MIN(grp) AS grp, COUNT(DISTINCT grp) AS groups FROM shown
  WHERE NOT list_contains($gone, source) GROUP BY item, "window")
SELECT IF(groups = 1, grp, {GROUPS}) AS grp, "window", COUNT(*) AS n FROM items GROUP BY ALL""",
                            {"gone": list(sources)})
        found = np.zeros((GROUPS + 1, self.windows.count))
        found[table["grp"].to_numpy(), table["window"].to_numpy()] = table["n"].to_numpy()
        return found.sum(axis=0), found[:GROUPS]

    def calibration(self) -> Cells:
        """What the second stage `expected` of what it put first, and what was `earned`, by the configured weights of heads.

        Left out are pins of rules, requests with weights of their own, and answers without the model.
        """
        weights = self._config.ranker.heads
        worth = " + ".join(f"MAX(IF(g.action = {_text(name)} AND g.timely, {float(weight)}, 0))"
                           for name, weight in weights.items())
        return self.cells(f"""
SELECT grp, "window", source, SUM(exp(score)) AS expected, SUM(worth) AS earned FROM (
  SELECT s.grp, s."window", s.source, s.request_id, MIN(s.score) AS score, {worth} AS worth
  FROM shown AS s JOIN asked AS a ON a.request_id = s.request_id
  LEFT JOIN gained AS g ON g.request_id = s.request_id AND g.item = s.item
  WHERE s.position = 0 AND a.version > 0 AND (a.policy LIKE 'plackett_luce%' OR a.policy LIKE 'greedy%')
    AND NOT list_contains(COALESCE(json_extract_string(a.context, '$.rules.pinned[*]'), []), s.item)
    AND json_extract_string(a.context, '$.head_weights') IS NULL
  GROUP BY s.grp, s."window", s.source, s.request_id)
GROUP BY ALL""")

    def queries(self, *, most: int) -> pa.Table:
        """A sample of searches of the newest window and of as many before it: `grp`, `window`, `source`, `query`."""
        newest = self.windows.count - 1
        some = ("SELECT grp, \"window\", source, query FROM asked WHERE query <> '' AND \"window\" {} " + str(newest) +
                f" ORDER BY hash(request_id), request_id LIMIT {most}")
        return self._query(f"({some.format('=')}) UNION ALL ({some.format('<')})")

    def requests_of(self, version: int, *, most: int) -> pa.Table:
        """A sample of the newest window's requests that a version answered by its scores: the rows of the log, with `grp`."""
        return self._query(f"""
SELECT i.*, a.grp FROM impressions AS i JOIN (
  SELECT request_id, grp FROM asked WHERE version = {version} AND "window" = {self.windows.count - 1}
    AND (policy LIKE 'plackett_luce%' OR policy = 'greedy')
  ORDER BY hash(request_id), request_id LIMIT {most}
) AS a ON a.request_id = i.request_id ORDER BY i.request_id, i.position""")

    def newest_outcome(self) -> int | None:
        """Seconds since 1970 of the newest outcome that is not in the future."""
        [[found]] = self._db.execute("SELECT MAX(time) FROM outcomes WHERE time <= $stop",
                                     {"stop": self.windows.end + self.windows.horizon}).fetchall()
        return None if found is None else int(found)

    def cells(self, select: str) -> Cells:
        """The answer of a statement, which several monitors may ask for."""
        if select not in self._cells:
            self._cells[select] = Cells(self._query(select), self.windows.count)
        return self._cells[select]

    def _query(self, select: str, values: Mapping[str, object] | None = None) -> pa.Table:
        found: pa.Table = self._db.sql(select, params=dict(values or {})).to_arrow_table()
        return found

    def _credited(self, lengths: Lengths) -> pa.Table:
        """Outcomes with their request, `delay`, whether they are `timely`, and what they `gain`."""
        found = self._query(_CREDITED, {"horizon": self.windows.horizon})
        actions, action = _coded(found["action"])
        length = lengths_of(lengths, actions, action, *_coded(found["item"]))
        delay = found["delay"].to_numpy()
        gain = gains(self._config.reward, actions=actions, action=action, value=found["value"].to_numpy(),
                     time=found["time"].to_numpy(), delay=np.maximum(delay, 0), length=length)
        timely = (delay >= 0) & (delay <= self.windows.horizon)
        return found.append_column("timely", pa.array(timely)).append_column("gain", pa.array(gain))


@contextmanager
def counted(config: Config, windows: LookWindows, *, lengths: Lengths) -> Iterator[Counted]:
    """Count the log for the block.

    Args:
        config: Of the run.
        windows: That are counted.
        lengths: Of items, by action, as the reward needs them.

    Raises:
        DataError: A table of the log cannot be read.
    """
    log = FeedbackLog(config.log_uri)
    spans: dict[Kind, tuple[int, int]] = {
        "impressions": (windows.start, windows.end - 1),
        # clocks of programs go wrong, by hours when it is the time zone
        "outcomes": (windows.start - DAY, windows.end + windows.horizon + DAY)}
    with connected() as db:
        for kind, (since, until) in spans.items():
            table = log.tables[kind]
            create_view(db, f"all_{kind}", table.uri, table.within(since, until), SCHEMAS[kind])
            db.execute(f"CREATE TEMP VIEW {kind} AS SELECT * FROM all_{kind} WHERE time BETWEEN {since} AND {until} "
                       f"AND {is_well_formed(kind)}")
        yield Counted(db, config, windows, lengths)


def _coded(values: pa.ChunkedArray) -> tuple[list[str], npt.NDArray[np.int32]]:
    """The different values, and the number of each one."""
    coded = values.combine_chunks().dictionary_encode()
    return coded.dictionary.to_pylist(), coded.indices.to_numpy()


def value_of(name: str) -> str:
    """SQL of what the context of a request says by a name; null where it says nothing."""
    at = name if name in ("place", "device") else f"profile.{_quoted(name)}"
    return f"NULLIF(json_extract_string(context, {_text('$.' + at)}), '')"


def _quoted(name: str) -> str:
    """A key of a JSON path."""
    return '"' + name.replace('"', '\\"') + '"'


def _text(value: str) -> str:
    """A text of SQL."""
    return "'" + value.replace("'", "''") + "'"
