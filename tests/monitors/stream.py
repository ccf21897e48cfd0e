"""A simulated shop: people who come back, unlike each other, on weekdays and weekends, and what their programs log of it."""
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item
from tfrec.release.manifest import CATALOGUE, Manifest, write_manifest
from tfrec.release.popularity_files import write_columns

DAY = 86_400
FIRST = 20_000 * DAY  # a Thursday, seconds since 1970
USERS, ITEMS, CATEGORIES = 400, 120, 6
QUERIES = ("", "", "red shoes", "tent", "garden chair")


def catalogue(*, prices: float = 1.0, without: int | None = None) -> list[Item]:
    """Items of six categories with a price."""
    rng = np.random.default_rng(5)
    price = np.round(np.exp(rng.normal(3, 1, ITEMS)), 2)
    return [Item(id=f"i{n}", text=f"item {n}", tags=(f"category:{n % CATEGORIES}",), numeric={"price": float(price[n] * prices)})
            for n in range(ITEMS) if n % CATEGORIES != without]


def publish(models: Path, version: int, items: list[Item], *, learnt: int | None = None) -> None:
    """What monitors read of a version: its catalogue, the names of its numbers, and until when it has learnt."""
    file = models / str(version) / CATALOGUE
    file.parent.mkdir(parents=True)
    Catalogue(items).write(file)
    write_columns(models / str(version), ["price"])
    window = None if learnt is None else {"upto": 1, "now": learnt}
    write_manifest(models / str(version), Manifest(version=version, created_at=learnt or 0, window=window))


@dataclass
class Shop:
    """Writes a day after the other to a log.

    Args:
        root: Of the log.
        seed: Of people and days.
        requests: Of a weekday; a fifth more on weekends, when people also click more.
    """

    root: Path
    seed: int = 0
    requests: int = 700
    silent: str | None = None  # an app version whose outcomes are lost
    clock: dict[str, int] = field(default_factory=dict)  # seconds that the clock of an app version is ahead
    click: float = 1.0  # times as often as usual
    without: int | None = None  # a category that is not sold
    slower: float = 1.0  # times as long until people act
    devices: tuple[float, ...] = (0.6, 0.3, 0.1)
    seq: int = 0

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.log = FeedbackLog(self.root)
        self._activity = rng.gamma(0.7, 1.0, USERS) + 0.02
        self._taste = rng.gamma(2.0, 0.05, USERS)  # how often a person clicks
        self._app = rng.choice(["1.0", "2.0", "2.1"], USERS, p=[0.3, 0.5, 0.2])

    def day(self, number: int) -> None:
        """Write a day, counted from `FIRST`."""
        rng = np.random.default_rng([self.seed, number])
        weekend = (number + 3) % 7 >= 5
        asked, acted = [], []
        sold = np.array([n for n in range(ITEMS) if n % CATEGORIES != self.without])
        popular = 1 / (1 + np.arange(ITEMS)[sold] % 40)
        people = rng.choice(USERS, int(self.requests * (1.2 if weekend else 1)), p=self._activity / self._activity.sum())
        for user in people:
            time, app = FIRST + number * DAY + int(rng.integers(DAY)), str(self._app[user])
            shown = rng.choice(sold, 4, replace=False, p=popular / popular.sum())
            request = f"r{number}-{len(asked)}"
            device = ("phone", "tablet", "desk")[rng.choice(3, p=self.devices)]
            asked.append({"request_id": request, "time": time, "user": f"u{user}", "query": QUERIES[rng.integers(len(QUERIES))],
                          "policy": "greedy", "model_version": 1 + number // 3, "context": json.dumps(
                              {"device": device, "profile": {"app_version": app}}),
                          "slate": [{"item": f"i{item}", "position": k, "score": 1.0} for k, item in enumerate(shown)]})
            for k, item in enumerate(shown):
                likely = self._taste[user] * self.click * (1.15 if weekend else 1) / (1 + 0.3 * k)
                if rng.random() < likely and app != self.silent:
                    delay = int(rng.lognormal(3.5, 1) * self.slower) + 1
                    acted.append({"event_id": f"e{request}-{k}", "request_id": request, "user": f"u{user}", "item": f"i{item}",
                                  "action": "purchase" if rng.random() < 0.1 else "click", "value": 1.0,
                                  "time": time + delay + self.clock.get(app, 0)})
        for kind, records in (("impressions", asked), ("outcomes", acted)):
            lines = [(self.seq + n + 1, json.dumps(record)) for n, record in enumerate(records)]
            self.seq += len(lines)
            self.log.append(kind, lines, writer="gateway")  # type: ignore[arg-type]
