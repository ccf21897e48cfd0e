"""KuaiRand-Pure as a catalogue, a feedback log and behaviour from before it.

The files are `impressions.parquet`, `videos.parquet` and `before.parquet`: columns of KuaiRand-Pure (https://kuairand.com, CC
BY-SA 4.0), in order of time. Impressions of one user in one millisecond are one slate; nearly all have one position. There is no
text, so an item's text is made of its tags, kinds and length. What people watched long before has an order and a last time; its
times are made up, `SPACING` apart. There are no propensities, as the app's own policy showed everything.
"""
import csv
import gzip
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Context, Impression, Item, Outcome, Shown

FIRST_DAY = 1_650_816_000  # midnight in China of 25 April 2022
CHINA_SECONDS = 8 * 3600  # that the clock of China is ahead of UTC
SPACING = 3600  # seconds between the events from before the log, whose times are not known
LENGTHS = (7, 15, 30, 60, 120, 240)  # seconds: classes of a video's length
ACTIONS = {"click": "is_click", "long_view": "long_view", "like": "is_like", "follow": "is_follow", "comment": "is_comment",
           "forward": "is_forward", "hate": "is_hate"}  # by column
WEIGHTS = {"click": 1.0, "long_view": 1.0, "like": 1.0, "follow": 1.0, "comment": 1.0, "forward": 1.0, "hate": -2.0}
USER = {"user_active_degree": "category", "is_video_author": "category", "register_days": "number", "follow_user_num": "number",
        "fans_user_num": "number", "friend_user_num": "number", **{f"onehot_feat{n}": "category" for n in (1, 2, 3, 7, 8)}}
PAD = -1


def catalogue_of(directory: Path) -> Catalogue:
    """The videos; their ids are those of the files."""
    items = []
    for row in pq.read_table(directory / "videos.parquet").to_pylist():
        seconds = None if row["video_duration"] is None else row["video_duration"] / 1000
        length = "unknown" if seconds is None else f"class {int(np.searchsorted(LENGTHS, seconds))}"
        tags = [f"tag {tag}" for tag in str(row["tag"]).split(",")]
        kinds = [f"upload {row['upload_type']}", f"type {row['video_type']}", f"music {row['music_type']}", f"length {length}"]
        uploaded = (np.datetime64(row["upload_dt"]) - np.datetime64("2022-04-01")).astype(int)
        numeric = {"uploaded": float(uploaded)} | ({} if seconds is None else {"log_seconds": float(np.log1p(seconds))})
        items.append(Item(id=str(row["video_id"]), text=". ".join([*tags, *kinds]), tags=(*tags, *kinds), numeric=numeric))
    return Catalogue(items)


@dataclass(frozen=True, eq=False)
class VideoLog:
    """Impressions in order of time, a row for each shown video, and what each user had done by then.

    Attributes:
        user: `[n]`, numbers of the file.
        item: `[n]`, positions in the catalogue.
        time: `[n]`, seconds since 1970.
        day: `[n]`, days since `FIRST_DAY`.
        request: `[n]`, numbers; equal for what was shown together.
        outcomes: By action, `[n]`: whether it happened.
        watched: `[n]`, seconds for which the video was played.
        history: `[n, L]`, catalogue positions of the newest positives before the second, oldest first; `PAD` fills up at the end.
        history_time: `[n, L]`, seconds since 1970.
        is_base: `[n, L]`, which of them are from before the log.
        base: What people did before the log: user, item and time of each long view.
        tab: `[n]`, the part of the app that showed the video.
        users: Columns of the file of users, by number of the user.
        counted: What an app has counted of the user before each impression; empty where it counts nothing.
    """

    catalogue: Catalogue
    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    day: np.ndarray
    request: np.ndarray
    outcomes: dict[str, np.ndarray]
    watched: np.ndarray
    history: np.ndarray
    history_time: np.ndarray
    is_base: np.ndarray
    base: tuple[np.ndarray, np.ndarray, np.ndarray]
    tab: np.ndarray
    users: dict[int, dict[str, str]]
    counted: Sequence[dict[str, str]] = ()

    def known_of(self, row: int) -> dict[str, str]:
        """What was known of person and moment when a video was shown: the part of the app, and columns of the file of users."""
        counted = self.counted[row] if self.counted else {}
        return {"tab": str(self.tab[row])} | self.users.get(int(self.user[row]), {}) | counted

    def __len__(self) -> int:
        return len(self.time)

    @property
    def events(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """User, item and time of all positives, those from before the log first."""
        rows = np.flatnonzero(self.outcomes["click"] | self.outcomes["long_view"])
        return tuple(np.concatenate(pair) for pair in zip(  # type: ignore[return-value]
            self.base, (self.user[rows], self.item[rows], self.time[rows] + 1), strict=True))

    def write_base(self, path: Path, *, name: str = "u{}") -> None:
        """Write what people did before the log as a file of interactions."""
        user, item, time = self.base
        ids = self.catalogue.ids[item]
        pq.write_table(pa.table({"user": [name.format(u) for u in user], "item": ids.tolist(), "time": time,
                                 "action": ["long_view"] * len(user)}), path)

    def records(self, day: int, *, pseudonyms: dict[int, str]) -> tuple[list[Impression], list[Outcome]]:
        """What a day adds to the feedback log."""
        ids, shown, outcomes = self.catalogue.ids, [], []
        for rows in self._requests(np.flatnonzero(self.day == day)):
            first, request_id = rows[0], f"r{self.request[rows[0]]}"
            user, time, known = pseudonyms[int(self.user[first])], int(self.time[first]), self.history[first] != PAD
            shown.append(Impression(
                request_id=request_id, time=time, user=user, policy="app", model_version=0,
                context=Context(profile=self.known_of(int(first))),
                history=[ids[i] for i in self.history[first][known]], history_time=self.history_time[first][known].tolist(),
                history_action=["long_view" if base else "click" for base in self.is_base[first][known]],
                slate=[Shown(item=ids[self.item[row]], position=position, score=0.0) for position, row in enumerate(rows)]))
            for row in rows:
                for action, happened in self.outcomes.items():
                    if happened[row]:
                        delay = int(np.ceil(self.watched[row])) if action == "long_view" else 0
                        outcomes.append(Outcome(event_id=f"{row}{action}", request_id=request_id, user=user, action=action,
                                                item=ids[self.item[row]], time=time + 1 + min(delay, 1800)))
        return shown, outcomes

    def _requests(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        opens = np.flatnonzero(np.diff(self.request[rows], prepend=-1) != 0)
        yield from np.split(rows, opens[1:]) if len(rows) else ()


def read(directory: Path, *, length: int) -> VideoLog:
    """The log with histories of `length` events, also of the newest long views from before it."""
    catalogue = catalogue_of(directory)
    shown = pq.read_table(directory / "impressions.parquet")
    table = {name: shown[name].to_numpy() for name in shown.column_names}
    # a user's impressions of one millisecond stand together
    order = np.lexsort((table["user_id"], table["time_ms"]))
    table = {name: column[order] for name, column in table.items()}
    user, time = table["user_id"].astype(np.int64), table["time_ms"] // 1000
    item = np.array([catalogue.index[str(i)] for i in table["video_id"]])
    request = np.cumsum(np.diff(user, prepend=-1).astype(bool) | np.diff(table["time_ms"], prepend=-1).astype(bool)) - 1
    outcomes = {action: table[column] > 0 for action, column in ACTIONS.items()}
    base = _base(directory, catalogue, length)
    positive = outcomes["click"] | outcomes["long_view"]
    return VideoLog(catalogue, user, item, time, (time - FIRST_DAY) // 86_400, request, outcomes, table["play_time_ms"] / 1000,
                    *histories(user, item, time, positive, base, length=length), base, table["tab"], _users(directory))


def counted_of_users(log: VideoLog, *, until: int, prior: float) -> list[dict[str, str]]:
    """What an app may count of each user and send along with a request, `[n]`: how many impressions there were before its second
    and before the day `until`, and the rates of clicks and long views, smoothed by `prior` impressions.
    """
    counts: dict[int, list[float]] = defaultdict(lambda: [0.0, prior * 0.4, prior * 0.3])
    found, waiting = [], deque[int]()  # rows, until their second is over
    for row, (user, time) in enumerate(zip(log.user.tolist(), log.time.tolist(), strict=True)):
        while waiting and log.time[waiting[0]] < time:
            before = waiting.popleft()
            own = counts[int(log.user[before])]
            for number, more in enumerate((1, log.outcomes["click"][before], log.outcomes["long_view"][before])):
                own[number] += float(more)
        if log.day[row] < until:
            waiting.append(row)
        shows, clicks, views = counts[user]
        found.append({"shows": f"{shows:.0f}", "click_rate": f"{clicks / (shows + prior):.4f}",
                      "view_rate": f"{views / (shows + prior):.4f}"})
    return found


def _users(directory: Path) -> dict[int, dict[str, str]]:
    if not (file := directory / "users.csv.gz").exists():
        return {}
    with gzip.open(file, "rt", encoding="utf-8") as text:
        return {int(row["user_id"]): {name: row[name] for name in USER if row[name]} for row in csv.DictReader(text)}


def _base(directory: Path, catalogue: Catalogue, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """User, item and time of the newest long views of each user from before the log, in order of time."""
    rows = []
    for row in pq.read_table(directory / "before.parquet").to_pylist():
        newest = list(dict.fromkeys(reversed(row["long_watch_seq"])))[:length]
        rows += [(row["user_id"], catalogue.index[str(video)], min(row["last_time_ms"] // 1000, FIRST_DAY - 86_400) - n * SPACING)
                 for n, video in enumerate(newest) if str(video) in catalogue.index]
    user, item, time = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    order = np.argsort(time, kind="stable")
    return user[order], item[order], time[order]


def histories(user: np.ndarray, item: np.ndarray, time: np.ndarray, positive: np.ndarray,
              base: tuple[np.ndarray, np.ndarray, np.ndarray], *, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The history as served of each impression, its times, and which of it is from before the log; `[n, length]` each.

    One event for each user and item, the earliest, as a gateway keeps it; nothing of the same second.
    """
    known: dict[int, deque[tuple[int, int, bool]]] = defaultdict(lambda: deque(maxlen=length))
    seen: dict[int, set[int]] = defaultdict(set)
    shape = (len(user), length)
    found, times, is_base = np.full(shape, PAD), np.full(shape, -1), np.zeros(shape, np.bool_)

    def add(who: int, what: int, when: int, before: bool) -> None:
        if what not in seen[who]:
            seen[who].add(what)
            known[who].append((what, when, before))

    for who, what, when in zip(*(column.tolist() for column in base), strict=True):
        add(who, what, when, True)
    waiting: deque[tuple[int, int, int]] = deque()  # positives, until their second is over
    for row, (who, what, when) in enumerate(zip(user.tolist(), item.tolist(), time.tolist(), strict=True)):
        while waiting and waiting[0][2] < when:
            add(*waiting.popleft(), False)
        for column, (other, then, before) in enumerate(known[who]):
            found[row, column], times[row, column], is_base[row, column] = other, then, before
        if positive[row]:
            waiting.append((who, what, when + 1))
    return found, times, is_base
