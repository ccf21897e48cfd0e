"""The reward of a (user, item) pair, which decides whether the pair is behaviour: of several actions, one event or none.

    reward(user, item) = clip(sum over their actions of clip(gain(action), -cap, cap), -cap, cap)

The pair is behaviour when this is above zero. Its time and its action are those of the earliest action with a positive gain:
actions without a weight, dismissals and repeats neither stand for a pair nor hide the action that does. The rule is the same for
files (`interaction_files.py`), for the joined log (`behaviour/merge.py`) and for the gateway's memory (`gateway/user_acts.py`).
"""
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.config import RewardConfig
from tfrec.data.labels.repeated_actions import Codes, one_code, repeated_or_too_fast
from tfrec.data.labels.rewards import Lengths, gains, lengths_of, reads_of

NEGLIGIBLE = 1e-9  # a sum this near to zero is a rounding error, not a preference

ACTIONS = pa.schema([("user", pa.string()), ("item", pa.string()), ("time", pa.int64()), ("action", pa.string()),
                     ("reward", pa.float64())])


def rewarded_actions(events: pa.Table, reward: RewardConfig, lengths: Lengths) -> pa.Table:
    """The events that count, with the reward of each: columns of `ACTIONS`. Coded columns stay coded.

    Args:
        events: user, item, time, action, value and, optionally, request_id.
        reward: the reward rule.
        lengths: of items, by action.
    """
    (action, actions), (item, items) = _coded(events["action"]), _coded(events["item"])
    names, time = actions.to_pylist(), events["time"].to_numpy()
    length = lengths_of(lengths, names, action, items.to_pylist(), item) if lengths else None
    gain = gains(reward, actions=names, action=action, value=events["value"].to_numpy(), time=time, length=length)
    asked = [_coded(events[name])[0] for name in ("user", "request_id") if name in events.column_names]
    can_repeat = np.array([reads in ("nothing", "rating") for reads in reads_of(reward, names)], np.bool_)[action]
    kept = (gain != 0) & ~repeated_or_too_fast(asked[0], [*asked, item, action], time, can_repeat=can_repeat)
    columns = [*(events[name] for name in ("user", "item", "time", "action")), pa.array(gain)]
    return _as_actions(pa.table(columns, names=ACTIONS.names).filter(pa.array(kept)))


def one_row_per_pair(actions: pa.Table, *, cap: float, is_positive: pa.Array | None = None) -> pa.Table:
    """One row for each user and item with the reward of all its actions, in the order of time.

    Args:
        actions: columns of `ACTIONS`, those of strings as such or coded (a dictionary).
        cap: `reward.cap`.
        is_positive: `[n]`, whether each row can stand for its pair; by default, those with a reward above zero.

    Returns:
        Columns of `ACTIONS`, with the time and action of the earliest positive action or, where there is none, of the earliest.
        Pairs whose reward is not positive are included.
    """
    actions = _as_actions(actions.select(ACTIONS.names)).combine_chunks()
    if not actions.num_rows:
        return actions
    (user, _), (item, _), (action, names) = (_coded(actions[name]) for name in ("user", "item", "action"))
    time, reward = actions["time"].to_numpy(), np.clip(actions["reward"].to_numpy(), -cap, cap)
    positive = reward > NEGLIGIBLE if is_positive is None else is_positive.to_numpy(zero_copy_only=False)
    by_name = np.argsort(np.argsort(np.array(names.to_pylist(), object)))
    rank = np.append(by_name, len(names))[action]  # ties of a second go by name
    pair = one_code([user, item])
    order = np.lexsort((rank, time, ~positive, pair))  # of each pair, positive actions first, the earliest of them first
    first = np.flatnonzero(np.diff(pair[order], prepend=-1))
    total = np.clip(np.add.reduceat(reward[order], first), -cap, cap)
    found = actions.take(order[first])
    return found.set_column(found.column_names.index("reward"), "reward", pa.array(total)).sort_by("time")


def positive_pairs(pairs: pa.Table) -> pa.Table:
    """The rows of `one_row_per_pair` that are behaviour."""
    return pairs.filter(pa.array(pairs["reward"].to_numpy() > NEGLIGIBLE))


def rename_users(rows: pa.Table, name: Callable[[str], str]) -> pa.Table:
    """The same rows with `name(user)` for each user; `name` is called once for each of them."""
    code, users = _coded(rows["user"])
    renamed = pa.array([name(user) for user in users.to_pylist()], pa.string()).take(pa.array(code))
    return rows.set_column(rows.column_names.index("user"), "user", renamed)


def _as_actions(rows: pa.Table) -> pa.Table:
    coded = {field.name: field.type for field in rows.schema if pa.types.is_dictionary(field.type)}
    return rows.cast(pa.schema([(field.name, coded.get(field.name, field.type)) for field in ACTIONS]))


def _coded(values: pa.ChunkedArray) -> tuple[Codes, pa.Array]:
    """Codes of strings, which may be coded already, and the strings; null is one more code."""
    encoded = values.combine_chunks().dictionary_encode()
    codes = pc.fill_null(encoded.indices, len(encoded.dictionary)).to_numpy(zero_copy_only=False)
    return np.asarray(codes, np.int64), encoded.dictionary
