"""Histories of users at request time: what each did lately, kept in memory, so that a client need not send it.

This is the fastest of the three speeds of feedback: an outcome changes its user's next answer. Memory is bounded in users (the
one who came least recently is forgotten first) and in items of each.
"""
import threading
from collections import OrderedDict
from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tfrec.data.feedback_log.writer import ErasedAmong
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.labels.rewards import gains, lengths_of, reads_of, rules
from tfrec.data.records import Outcome
from tfrec.gateway.absent_users import AbsentUsers
from tfrec.gateway.logged_outcomes import LoggedOutcomes
from tfrec.gateway.past_events import PastEvent, UserHistory
from tfrec.gateway.user_acts import Act, UserActs


class UserHistories:
    """The newest events of the users who came last. Safe to share between threads.

    Args:
        rule: which acts are worth something; None: all are.
        users: the number of users to remember.
        events: the number of events of each that the model reads; as many other items are remembered as seen.
    """

    def __init__(self, rule: LabelRule | None = None, *, users: int = 100_000, events: int = 50) -> None:
        self.rule = rule
        self.max_events = events
        self._weighed = None if rule is None else {one.action for one in rules(rule.reward)}
        self._max_users = users
        self._users: OrderedDict[str, UserActs] = OrderedDict()
        self._logged: LoggedOutcomes | None = None
        self._absent: AbsentUsers | None = None  # of users of the log, who have not come since the start
        self._lock = threading.Lock()

    def add(self, outcomes: Collection[Outcome]) -> list[tuple[str, PastEvent]]:
        """Remember what users did, in any order. Returns (user, event) for each item that enters a history for the first time."""
        new: dict[tuple[str, str], PastEvent | None] = {}
        with self._lock:
            for user, act in zip((one.user for one in outcomes), self._acts(outcomes), strict=True):
                acts = self._known(user) or UserActs()
                self._users[user] = acts
                self._users.move_to_end(user)
                if acts.add(act, is_weighed=self._is_weighed(act.action)):
                    new[user, act.item] = acts.event(act.item)
                acts.trim(user, self.max_events)
                self._forget()
        return [(user, event) for (user, _), event in new.items() if event is not None]

    def of(self, user: str, *, before: int | None = None) -> UserHistory:
        """What is known about a user; with `before`, only from what happened in earlier seconds."""
        with self._lock:
            acts = self._known(user)
            return UserHistory((), ()) if acts is None else acts.history(user, self.max_events, before)

    def fill(self, outcomes: pa.Table) -> LoggedOutcomes:
        """Remember the outcomes of the log (`newest_outcomes`), before any other. Returns them as they are kept."""
        gain, counts_once = self._gains(outcomes["action"], outcomes["item"], outcomes["value"].to_numpy(),
                                        outcomes["time"].to_numpy())
        logged = LoggedOutcomes.of(outcomes, gain, counts_once)
        with self._lock:
            self._logged = logged
            self._absent = AbsentUsers(logged, max_users=self._max_users, max_events=self.max_events)
        return logged

    def erase(self, erased_among: ErasedAmong) -> LoggedOutcomes | None:
        """Forget users who were erased. Returns what is kept of the log then, or None if nothing of it has changed."""
        with self._lock:
            names, logged = list(self._users), self._logged
        erased = erased_among(names)
        lost = set() if logged is None else erased_among(logged.users)
        with self._lock:
            for user in erased:
                self._users.pop(user, None)
            if logged is None or not lost:
                return None
            self._logged, kept = logged.without(lost)
            if self._absent is not None:
                self._absent.renumber(self._logged, kept)
            return self._logged

    def _known(self, user: str) -> UserActs | None:
        if user in self._users:
            self._users.move_to_end(user)
        elif self._absent is not None and (logged := self._absent.pop(user)):
            acts = self._users[user] = UserActs()
            for act in logged:
                acts.keep(act, is_weighed=self._is_weighed(act.action))
            acts.mark_known()
            acts.trim(user, self.max_events)
        return self._users.get(user)

    def _forget(self) -> None:
        while len(self._users) + (len(self._absent) if self._absent else 0) > self._max_users:
            if self._absent:
                self._absent.forget_oldest()
            else:
                self._users.popitem(last=False)
        if not self._absent:
            self._absent = None

    def _is_weighed(self, action: str) -> bool:
        return self._weighed is None or action in self._weighed

    def _acts(self, outcomes: Collection[Outcome]) -> list[Act]:
        if not outcomes:
            return []
        action, item, value, time = zip(*((one.action, one.item, one.value, one.time) for one in outcomes), strict=True)
        actions, items = pa.array(action, pa.string()), pa.array(item, pa.string())
        gain, counts_once = self._gains(actions, items, np.array(value), np.array(time))
        return [Act(one.time, one.event_id, one.item, one.action, worth, one.request_id, once)
                for one, worth, once in zip(outcomes, gain.tolist(), counts_once.tolist(), strict=True)]

    def _gains(self, action: pa.Array | pa.ChunkedArray, item: pa.Array | pa.ChunkedArray, value: npt.NDArray[np.float64],
               time: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """What each act is worth, and whether a repeat of it counts nothing."""
        if self.rule is None:
            return np.ones(len(time)), np.ones(len(time), np.bool_)
        (code, actions), (item_code, items) = _coded(action), _coded(item)
        names = actions.to_pylist()
        known = self.rule.lengths
        length = lengths_of(known, names, code, items.to_pylist(), item_code) if known else None
        counts_once = np.array([read in ("nothing", "rating") for read in reads_of(self.rule.reward, names)], np.bool_)
        return gains(self.rule.reward, actions=names, action=code, value=value, time=time, length=length), counts_once[code]


def _coded(values: pa.Array | pa.ChunkedArray) -> tuple[npt.NDArray[np.int32], pa.Array]:
    """Codes of strings, which may be coded already, and the strings."""
    one = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    encoded = one.dictionary_encode()
    return encoded.indices.to_numpy(), encoded.dictionary
