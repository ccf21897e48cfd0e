"""What counts as behaviour: of several acts of a user on an item, one event or none.

    reward(user, item) = clip(sum over their acts of clip(gain(act), -cap, cap), -cap, cap)

The pair is behaviour when this is above zero. Its time and its action are those of the earliest act with a gain above zero: acts
without a weight, dismissals and repeats neither stand for a pair nor hide the act that does. The rule is the same for files
(`read_interactions`), for the joined log (`behaviour.gather`) and for the gateway's memory (`serving/behaviour.py`).

A repeat is the same act on the same item again within `REPEAT_SECONDS`, unless values add up (seconds watched). It counts
nothing, and neither does what one user does faster than a person can: more than `MINUTE_LIMIT` acts in a minute.
"""
import logging
import time as clock
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.config import RewardConfig
from tfrec.data.labels.rewards import Lengths, gains, lengths_of, reads_of

REPEAT_SECONDS = 30 * 60  # a session, by its usual length
MINUTE_LIMIT = 600  # ten a second for a minute is no hand (MovieLens: at most 193)
NOTHING = 1e-9  # a sum this near to zero is zero: rounding is no preference

ACTS = pa.schema([("user", pa.string()), ("item", pa.string()), ("time", pa.int64()), ("action", pa.string()),
                  ("reward", pa.float64())])
Codes = npt.NDArray[np.int64]
log = logging.getLogger(__name__)


def acts_of(events: pa.Table, reward: RewardConfig, lengths: Lengths) -> pa.Table:
    """The events that count, with what each is worth: columns of `ACTS`.

    Args:
        events: user, item, time, action, value and, if there is one, request_id.
        reward: what an act is worth.
        lengths: of items, by action.
    """
    action, names = _coded(events["action"])
    time = events["time"].to_numpy()
    length = lengths_of(lengths, events["action"].to_pylist(), events["item"].to_pylist()) if lengths else None
    gain = gains(reward, actions=names, action=action, value=events["value"].to_numpy(), time=time, length=length)
    asked = [_coded(events[name])[0] for name in ("user", "item", "request_id") if name in events.column_names]
    once = np.array([way in ("nothing", "rating") for way in reads_of(reward, names)], np.bool_)[action]
    kept = (gain != 0) & ~_repeats_or_too_fast(asked[0], [*asked, action], time, once=once)
    told = [*(events[name] for name in ("user", "item", "time", "action")), pa.array(gain)]
    return pa.table(told, names=ACTS.names).filter(pa.array(kept)).cast(ACTS)


def no_later_than_now(time: npt.NDArray[np.int64], now: int | None, *, where: str) -> npt.NDArray[np.int64]:
    """Times as they can be: what claims to be later than `now` (default: the clock) counts as of the newest that does not.

    One wrong clock would else make everything before it seem long past: all that fades would be gone.
    """
    now = int(clock.time()) if now is None else now
    ahead = time > now
    if not ahead.any():
        return time
    newest = int(time[~ahead].max()) if not ahead.all() else now
    log.warning("%s: %d events claim to be later than now, up to %d (seconds since 1970): they count as of %d", where,
                int(ahead.sum()), int(time.max()), newest)
    return np.where(ahead, newest, time)


def _repeats_or_too_fast(user: Codes, same_act: Sequence[Codes], time: npt.NDArray[np.int64], *,
                         once: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """`[n]`: acts that say nothing new, or come faster than a person can act, as `join.sql` says it; of one second the first
    stays. `same_act` are the columns in which a repeat agrees, `once` says for which acts there are repeats."""
    n = len(time)
    noise = np.zeros(n, np.bool_)
    if not n:
        return noise
    order = np.lexsort((np.arange(n), time, *same_act))
    same = np.zeros(n, np.bool_)
    same[1:] = np.logical_and.reduce([np.diff(column[order]) == 0 for column in same_act])
    near = np.diff(time[order], prepend=time[order[0]]) < REPEAT_SECONDS
    noise[order] = same & near & once[order]
    minutes, minute = np.unique(time // 60, return_inverse=True)
    _, of_user, count = np.unique(user * len(minutes) + minute, return_inverse=True, return_counts=True)
    return np.asarray(noise | (count[of_user] > MINUTE_LIMIT))


def merged(acts: pa.Table, *, cap: float, is_positive: pa.Array | None = None) -> pa.Table:
    """One row for each user and item with what all its acts are worth, by the first time of each pair.

    Args:
        acts: columns of `ACTS`.
        cap: `reward.cap`.
        is_positive: `[n]`, whether each row can stand for its pair; by default, those with a reward above zero.

    Returns:
        Columns of `ACTS`, pairs worth nothing and less included, with the time and action of their earliest act.
    """
    acts = acts.select(ACTS.names).cast(ACTS).combine_chunks()
    if not acts.num_rows:
        return acts
    (user, _), (item, _), (action, names) = (_coded(acts[name]) for name in ("user", "item", "action"))
    time, reward = acts["time"].to_numpy(), np.clip(acts["reward"].to_numpy(), -cap, cap)
    positive = reward > NOTHING if is_positive is None else is_positive.to_numpy(zero_copy_only=False)
    rank = np.append(np.argsort(np.argsort(np.array(names, object))), len(names))[action]  # of one second the first by name
    pair = user * (item.max() + 1) + item
    order = np.lexsort((rank, time, ~positive, pair))  # those that can stand first, the earliest of them first
    first = np.flatnonzero(np.diff(pair[order], prepend=-1))
    worth = np.add.reduceat(reward[order], first)
    found = acts.take(order[first])
    found = found.set_column(4, "reward", pa.array(np.clip(worth, -cap, cap)))
    return found.sort_by("time")


def behaviour(pairs: pa.Table) -> pa.Table:
    """The rows of `merged` that are behaviour."""
    return pairs.filter(pa.array(pairs["reward"].to_numpy() > NOTHING))


def with_users(pairs: pa.Table, name: Callable[[str], str]) -> pa.Table:
    """The same rows under other names of their users."""
    code, users = _coded(pairs["user"])
    renamed = pa.array([name(user) for user in users], pa.string()).take(pa.array(code))
    return pairs.set_column(pairs.column_names.index("user"), "user", renamed)


def _coded(values: pa.ChunkedArray) -> tuple[Codes, list[str]]:
    """Numbers of strings and what they mean; null is one more number."""
    encoded = values.combine_chunks().dictionary_encode()
    codes = pc.fill_null(encoded.indices, len(encoded.dictionary)).to_numpy(zero_copy_only=False)
    return np.asarray(codes, np.int64), encoded.dictionary.to_pylist()
