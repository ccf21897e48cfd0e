"""What the log of the simulated world knows of each user: a fixed window of the newest events."""
import numpy as np

from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.examples.sequences import PAD

HISTORY = 12  # events of a user that the towers read


class People:
    """What the log knows of each user."""

    def __init__(self, users: int) -> None:
        self.item = np.full((users, HISTORY), PAD, np.int32)
        self.time = np.zeros((users, HISTORY), np.int64)
        self.events: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, user: np.ndarray, item: np.ndarray, time: np.ndarray) -> None:
        """Events in the order of time."""
        self.events.append((user, item, time))
        for u, i, t in zip(user.tolist(), item.tolist(), time.tolist(), strict=True):
            self.item[u] = np.append(self.item[u, 1:], i)
            self.time[u] = np.append(self.time[u, 1:], t)

    def state(self, user: np.ndarray, now: np.ndarray, width: int) -> dict[str, np.ndarray]:
        """Of requests `[n]`, as the towers read it: the oldest event first, pads behind."""
        item, then = self.item[user], self.time[user]
        count = (item >= 0).sum(1)
        turn = (np.arange(HISTORY) + (HISTORY - count)[:, None]) % HISTORY
        item, then = np.take_along_axis(item, turn, 1), np.take_along_axis(then, turn, 1)
        newest = np.arange(HISTORY) == count[:, None] - 1
        following = np.where(newest, now[:, None], np.roll(then, -1, axis=1))
        return {
            "history": item, "action": np.zeros_like(item), "gap": np.where(item >= 0, following - then, 0),
            "query": np.zeros((len(user), width), np.float32),
        }

    def interactions(self, names: list[str]) -> Interactions:
        user, item, time = (np.concatenate(part) for part in zip(*self.events, strict=True))
        return Interactions.from_columns([f"u{u}" for u in user], [names[i] for i in item], time, items=names)
