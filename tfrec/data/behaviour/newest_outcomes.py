"""The newest outcomes of the log, by which a gateway and a popularity delta count what is popular now."""
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.labels.pair_rewards import one_row_per_pair, positive_pairs, rewarded_actions

MAX_ROWS = 1_000_000  # read in about a second
_COLUMNS = ("user", "time", "item", "action", "value", "event_id", "request_id", "writer", "seq")


def newest_outcomes(log: FeedbackLog, *, max_rows: int = MAX_ROWS) -> pa.Table:
    """The newest `max_rows` outcomes of the log, oldest first. Rows of other tools that lack a column are left out.

    Raises:
        DataError: the table cannot be read; names the file.
    """
    table = log.tables["outcomes"]
    dataset = table.dataset()

    def read() -> pa.Table:
        wanted = pc.field("time").is_valid()
        if dataset.count_rows() > max_rows:
            time = dataset.to_table(columns=["time"])["time"].drop_null().to_numpy()
            wanted &= pc.field("time") >= int(np.partition(time, -max_rows)[-max_rows])
        for name in ("user", "item", "action", "value", "event_id", "writer", "seq"):
            wanted &= pc.field(name).is_valid()
        return dataset.to_table(columns=list(_COLUMNS), filter=wanted)

    rows = table.checked(read, dataset)
    return rows.take(pa.array(np.argsort(rows["time"].to_numpy(), kind="stable")[-max_rows:]))


def first_positives(outcomes: pa.Table, rule: LabelRule | None) -> pa.Table:
    """The events that popularity counts, as in training: the earliest positive action of each user and item.

    Without a rule every outcome is positive. The columns are `user`, `item` and `time`, oldest first.
    """
    if rule is None:
        all_alike = outcomes.append_column("reward", pa.array(np.ones(outcomes.num_rows)))
        return one_row_per_pair(all_alike, cap=1.0).select(["user", "item", "time"])
    pairs = one_row_per_pair(rewarded_actions(outcomes, rule.reward, rule.lengths), cap=rule.reward.cap)
    return positive_pairs(pairs).select(["user", "item", "time"])
