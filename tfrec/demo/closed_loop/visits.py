"""One arm of the closed loop: its people ask its gateway, and send it what they did.

A request brings the person's history, and excludes what the person clicked on that day. The people remember what they did. What
the gateway was told is kept apart from it: in a control that is another thing.
"""
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tfrec.demo.closed_loop.people import Ints, People
from tfrec.demo.traffic import GatewayClient

POSITIONS = 10  # of a slate
AT_ONCE = 64  # requests in one call, each of another person
CLICKED = "click"
CLICK_SECONDS = 30  # from a request to its clicks

Click = tuple[int, int]  # film, second


@dataclass
class Seen:
    """What came of the requests of a round, in their order."""

    person: Ints  # [n]
    film: Ints  # [n, POSITIONS], -1 where a slate is shorter
    clicked: npt.NDArray[np.bool_]  # [n, POSITIONS]
    value: npt.NDArray[np.float64]  # [n], expected clicks by the truth
    best: npt.NDArray[np.float64]  # [n], of the best slate that the person could have been shown
    version: Ints  # [n], of the model that answered


@dataclass
class Visits:
    """The people of one arm, who remember what they did in it.

    Args:
        gateway: asks the arm's gateway.
        people: the truth, which the arms share.
        films: ids, by their numbers.
        past: of each person, what they had done before the loop, oldest first.
        explore: whether slates are drawn.
        permuted: whether the gateway is told of clicks at other positions than they were at: as many in each call.
        seed: of who comes when, and of what is permuted.
        length: events of a history that the model reads.
    """

    gateway: GatewayClient
    people: People
    films: Sequence[str]
    past: Sequence[Sequence[Click]]
    explore: bool
    permuted: bool
    seed: int
    length: int
    _events: list[list[Click]] = field(init=False)
    _today: npt.NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self._events = [list(events) for events in self.past]
        self._today = np.zeros((len(self.people), len(self.films)), bool)  # what each person clicked on
        self._number = {film: number for number, film in enumerate(self.films)}

    def next_day(self) -> None:
        """Everything may be shown to everybody again."""
        self._today[:] = False

    def turn(self, visit: int, second: int) -> Seen:
        """Everybody comes once, in the arms' common order, `AT_ONCE` in a call.

        Args:
            visit: the number of this turn.
            second: since 1970, at which they come. Their clicks follow half a minute later.
        """
        order = np.random.default_rng([self.seed, 2, visit]).permutation(len(self.people))
        parts = [self._call(order[start : start + AT_ONCE], visit, second) for start in range(0, len(order), AT_ONCE)]
        return together(parts)

    def _call(self, person: Ints, visit: int, second: int) -> Seen:
        found = self.gateway.post("/v1/recommend", [self._asked(int(one), second) for one in person])
        film = np.full((len(person), POSITIONS), -1)
        for row, answer in zip(film, found, strict=True):
            row[: len(answer["items"])] = [self._number[shown["item"]] for shown in answer["items"]]
        best = self.people.best(person, POSITIONS, without=self._today[person])
        clicked = self.people.clicks(person, film, visit=visit)
        told = clicked
        if self.permuted:
            rng = np.random.default_rng([self.seed, 3, visit, int(person[0])])
            told = np.zeros_like(clicked)
            told[film >= 0] = rng.permutation(clicked[film >= 0])
        self._tell(person, film, told, [answer["request_id"] for answer in found], second + CLICK_SECONDS)
        for row, at in zip(*np.nonzero(clicked), strict=True):
            self._events[person[row]].append((int(film[row, at]), second + CLICK_SECONDS))
            self._today[person[row], film[row, at]] = True
        return Seen(person, film, clicked, self.people.value(person, film), self.people.value(person, best),
                     np.array([answer["model_version"] for answer in found]))

    def _asked(self, person: int, second: int) -> dict[str, Any]:
        newest = self._events[person][-self.length :]
        history = [{"item": self.films[film], "action": CLICKED, "time": time} for film, time in newest]
        clicked = [self.films[film] for film in np.flatnonzero(self._today[person]).tolist()]
        return {
            "user": str(person), "k": POSITIONS, "time": second, "explore": self.explore,
            "history": history, "exclude_history": False, "exclude": clicked,
        }

    def _tell(self, person: Ints, film: Ints, told: npt.NDArray[np.bool_], request: Sequence[str], second: int) -> None:
        outcomes = [
            {"event_id": f"{request[row]}-{at}", "user": str(person[row]), "item": self.films[film[row, at]], "action": CLICKED,
             "time": second, "request_id": request[row]}
            for row, at in zip(*np.nonzero(told), strict=True)
        ]
        if outcomes:
            self.gateway.post("/v1/outcomes", outcomes)


def together(parts: Sequence[Seen]) -> Seen:
    """Several parts as one, in their order."""
    names = ("person", "film", "clicked", "value", "best", "version")
    return Seen(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
