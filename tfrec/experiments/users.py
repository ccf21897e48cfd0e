"""Reads from the settled examples what each user of an experiment earned in it and before it.

Only requests whose labels have all matured count, by the time at which they were shown: a request that earned something settles
at once, and one that did not a day later, so whatever is settled by now would flatter.
"""
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tfrec.data.settled.examples import NEWEST, SettledExamples
from tfrec.experiments.user_moments import FloatArray, user_moments, user_rows

_POSITIONS = """
CREATE TEMP TABLE positions AS
SELECT request_id, "user", shown_time, item, reward, "position", context
FROM settled WHERE source = 'slate' AND seq <= {upto} AND shown_time >= {past} AND shown_time < {until}
""" + NEWEST
_REQUESTS = """
CREATE TEMP TABLE requests AS
SELECT request_id, "user", time, COALESCE({earned}, 0.0) AS reward,
  CASE WHEN context LIKE '%"{id}"%' AND json_valid(context) THEN json_extract_string(context, '$.arms."{id}"') END AS arm
FROM (SELECT request_id, MIN("user") AS "user", MIN(shown_time) AS time, SUM(reward) AS reward, ANY_VALUE(context) AS context,
             LIST({{item: item, position: "position", reward: reward}}) AS shown
      FROM positions GROUP BY request_id)
"""
# what a request counts for, besides its reward
_TEAMS = "json_extract_string(context, '$.teams')"
CREDIT = f"""list_sum(list_transform(shown, lambda one:
    CASE SUBSTR({_TEAMS}, one.position + 1, 1) WHEN '1' THEN one.reward WHEN '0' THEN -one.reward ELSE 0 END))"""
_SHADOW = """CAST(json_extract(context, '$.shadows."{id}"') AS VARCHAR[])"""
KEPT = f"list_sum(list_transform(shown, lambda one: CASE WHEN list_contains({_SHADOW}, one.item) THEN one.reward ELSE 0 END))"
AGREED = f"""list_sum(list_transform(shown, lambda one: CASE WHEN list_contains({_SHADOW}, one.item) THEN 1.0 ELSE 0 END))
    / len(shown)"""
_USERS = """
SELECT own.*, COALESCE(before.requests, 0) AS past_requests, COALESCE(before.reward, 0.0) AS past_reward
FROM (SELECT "user", MIN(arm) AS arm, COUNT(DISTINCT arm) AS arms, COUNT(*) AS requests, SUM(reward) AS reward
      FROM requests WHERE time >= {since} AND arm IS NOT NULL GROUP BY "user") AS own
LEFT JOIN (SELECT "user", COUNT(*) AS requests, SUM(reward) AS reward
           FROM requests WHERE time < {since} GROUP BY "user") AS before
  ON before."user" = own."user"
ORDER BY own."user"
"""
_USUAL = "SELECT COALESCE(AVG(reward), 0.0) AS usual FROM requests WHERE time < {since}"


class ArmUsers(NamedTuple):
    """The users of an arm."""

    users: int
    requests: int
    moments: FloatArray  # [6, 6]


def read_users(settled: SettledExamples, experiment: str, arms: list[str], *, past: int, since: int, until: int,
               upto: int, counted: str = "reward") -> tuple[dict[str, ArmUsers], int]:
    """The users of each arm, and how many are left out because the log has them in two.

    Args:
        settled: the settled examples.
        experiment: by which the log names it.
        arms: their names.
        past: seconds since 1970 from which a user's past counts.
        since: seconds since 1970 at which the experiment began.
        until: seconds since 1970; requests from then on have open labels, or come after the experiment.
        upto: the number of the newest part that is read.
        counted: what a request counts for: its reward, or `CREDIT`, `KEPT` or `AGREED`.
    """
    earned = "reward" if counted == "reward" else f"CASE WHEN json_valid(context) THEN {counted.format(id=experiment)} END"
    times = {"past": int(past), "since": int(since), "until": int(until), "upto": int(upto)}
    found, usual = settled.queries([_POSITIONS.format(**times), _REQUESTS.format(id=experiment, earned=earned),
                                    _USERS.format(**times), _USUAL.format(**times)])
    usual_reward = usual["usual"][0].as_py()
    columns = {name: found[name].to_numpy() for name in ("arms", "requests", "reward", "past_requests", "past_reward")}
    name = found["arm"].to_numpy()
    once = columns["arms"] == 1
    result = {}
    for arm in arms:
        mine = once & (name == arm)
        result[arm] = _arm(columns, mine, usual_reward)
    return result, int((~once).sum())


def _arm(columns: dict[str, npt.NDArray[np.generic]], mine: npt.NDArray[np.bool_], usual: float) -> ArmUsers:
    own = {name: column[mine].astype(np.float64) for name, column in columns.items()}
    rows = user_rows(own["requests"], own["reward"], own["past_requests"], own["past_reward"], usual=usual)
    return ArmUsers(int(mine.sum()), int(own["requests"].sum()), user_moments(rows))
