"""A simulated world: users with tastes, items with text, and the outcomes of slates that some policy shows.

The true value of a policy is known only where every counterfactual is. Here the probability of any click is at hand.

    P(click on i at position k) = e_k sigma(-3 + 4 taste_u . (topics_i, styles_i) + quality_i),   e_k = (k + 1)^-bias
    P(purchase | click)      = sigma(value_i), after a delay that is exponential

None of it is a feature of the model: an item's text names its topics, with other words mixed in, and style, quality, value and
tastes show only in behaviour. At a drift a share of users get other tastes, and as many items another style and quality. Bots
click on everything that they see. The world is a function of its seed.
"""
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tfrec.data.records import Item

Ints = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

TOPICS = {
    "space": "rocket planet orbit star alien", "crime": "murder detective police gang heist",
    "love": "romance kiss wedding heart affair", "war": "soldier battle army enemy front",
    "music": "band singer concert song guitar", "sport": "team match coach goal champion",
    "horror": "ghost curse demon scream haunted", "western": "cowboy sheriff saloon duel frontier",
    "family": "puppy holiday grandma picnic school", "magic": "wizard spell dragon castle quest",
    "spy": "agent secret mission code embassy", "nature": "forest river wolf ocean mountain",
}
STYLES = 6  # known to users, not in the text


class Feedback(NamedTuple):
    """Outcomes of slates, `[n, K]` each."""

    clicked: Mask
    converted: Mask
    delay: Floats  # seconds from the request to the purchase, 0 without one


class World:
    """Users, items and the truth about them.

    Args:
        seed: of all of it.
        items, users: how many.
        bias: exponent of the position bias; 0 for none.
        bots: share of users that click on everything.
        drifting: share of users, and of items, that change at a drift.
        mean_delay: of purchases, seconds.
    """

    def __init__(self, seed: int, *, items: int = 500, users: int = 1000, bias: float = 0.7, bots: float = 0.01,
                 drifting: float = 0.5, mean_delay: float = 6 * 3600.0) -> None:
        # one stream for each purpose, whose draws do not depend on how often another one is used
        self._rng, self._drifts, self._answers = (np.random.default_rng([seed, stream]) for stream in range(3))
        rng, topics = self._rng, len(TOPICS)
        self.users, self.bias, self.drifting, self.mean_delay = users, bias, drifting, mean_delay
        self._topics = rng.dirichlet(np.full(topics, 0.15), items)
        self._style = rng.dirichlet(np.full(STYLES, 0.15), items)
        self._taste = self._tastes(rng, users)
        self._quality = rng.normal(0, 0.7, items)
        self._value = rng.normal(-1.0, 0.7, items)
        self._chance = self._all_chances()
        self.bots = rng.random(users) < bots
        words = [text.split() for text in TOPICS.values()]
        self.items = [Item(id=f"i{i}", text=" ".join(self._words(words, self._topics[i])), tags=(list(TOPICS)[top],))
                      for i, top in enumerate(self._topics.argmax(1))]

    def _words(self, words: list[list[str]], mixture: Floats) -> list[str]:
        """Eight words: six of the item's topics, two of any."""
        found = [*self._rng.choice(len(words), 6, p=mixture), *self._rng.integers(0, len(words), 2)]
        return [words[topic][self._rng.integers(0, len(words[topic]))] for topic in found]

    @staticmethod
    def _tastes(rng: np.random.Generator, n: int) -> Floats:
        """`[n, topics + styles]`: the tastes of `n` users; topics and styles weigh the same."""
        return np.concatenate([rng.dirichlet(np.full(width, 0.25), n) for width in (len(TOPICS), STYLES)], axis=1)

    def drift(self) -> None:
        """Give a share of the users other tastes, and of the items another style and quality."""
        rng = self._drifts
        people, things = rng.random(self.users) < self.drifting, rng.random(len(self.items)) < self.drifting
        self._taste[people] = self._tastes(rng, int(people.sum()))
        self._style[things] = rng.dirichlet(np.full(STYLES, 0.15), int(things.sum()))
        self._quality[things] = rng.normal(0, 0.7, int(things.sum()))
        self._chance = self._all_chances()

    def chance(self, user: Ints) -> Floats:
        """`[n, items]`: the probability that each user clicks on each item at the first position."""
        return self._chance[user]

    def _all_chances(self) -> Floats:
        liked = self._taste @ np.concatenate([self._topics, self._style], axis=1).T
        return np.asarray(1 / (1 + np.exp(3.0 - 4.0 * liked - self._quality)))

    def looked_at(self, positions: int) -> Floats:
        """`[positions]`: the position bias e_k."""
        return np.asarray((np.arange(positions) + 1.0) ** -self.bias)

    def value(self, user: Ints, slate: Ints) -> Floats:
        """`[n]`: expected clicks on slates `[n, K]`."""
        return np.asarray((self._chance[user[:, None], slate] * self.looked_at(slate.shape[1])).sum(1))

    def best(self, user: Ints, positions: int, *, hidden: Ints) -> Ints:
        """`[n, positions]`: the best possible slates without `hidden` `[n, E]`, in which -1 hides nothing."""
        return best_first(hide(self.chance(user), hidden), positions)

    def answer(self, user: Ints, slate: Ints) -> Feedback:
        """Draw the outcomes of slates `[n, K]`."""
        rng, bot = self._answers, self.bots[user][:, None]
        chance = self._chance[user[:, None], slate] * self.looked_at(slate.shape[1])
        clicked = (rng.random(slate.shape) < chance) | bot
        bought = clicked & ~bot & (rng.random(slate.shape) < 1 / (1 + np.exp(-self._value[slate])))
        return Feedback(clicked, bought, np.where(bought, rng.exponential(self.mean_delay, slate.shape), 0.0))

    def organic(self, each: int) -> list[tuple[int, int]]:
        """(user, item) of what users find by themselves before anything is recommended, `each` a user, in time order."""
        user = self._rng.permutation(np.repeat(np.arange(self.users), each))
        chance = self.chance(np.arange(self.users))
        item = np.concatenate([self._rng.choice(len(self.items), (1, each), replace=False, p=p / p.sum()) for p in chance])
        turn = np.zeros(self.users, np.int64)
        found = []
        for u in user:
            found.append((int(u), int(item[u, turn[u]])))
            turn[u] += 1
        return found


def hide(scores: Floats, hidden: Ints) -> Floats:
    """A copy of `scores` `[n, items]` with -inf at positions `hidden` `[n, E]`; -1 hides nothing."""
    out = np.array(scores, np.float64)
    rows = np.repeat(np.arange(len(out)), hidden.shape[1])[hidden.ravel() >= 0]
    out[rows, hidden.ravel()[hidden.ravel() >= 0]] = -np.inf
    return out


def best_first(scores: Floats, positions: int) -> Ints:
    """`[n, positions]`: the best of `scores` `[n, items]`, the best first."""
    found = np.argpartition(-scores, positions - 1, axis=1)[:, :positions]
    return np.take_along_axis(found, np.argsort(-np.take_along_axis(scores, found, 1), axis=1, kind="stable"), 1)


def draw(logits: Floats, positions: int, *, epsilon: float, gumbel: Floats, uniform: Floats) -> tuple[Ints, Floats]:
    """Plackett-Luce slates, each position mixed with a uniform choice, and their log propensities; `[n, positions]` each.

    Args:
        logits: `[n, items]`, -inf for what cannot come.
        epsilon: probability of the uniform choice.
        gumbel: `[n, items]`, standard Gumbel noise: the same noise makes two policies' draws comparable.
        uniform: `[n, 2, positions]` in [0, 1): whether a position is uniform, and which item it is then.
    """
    n = len(logits)
    rows = np.arange(n)
    noisy, left = logits + gumbel, np.array(logits, np.float64)
    slate, log_pi = np.empty((n, positions), np.int64), np.empty((n, positions))
    count = np.isfinite(logits).sum(1)
    for k in range(positions):
        at = np.where(np.isfinite(left), noisy, -np.inf).argmax(1)
        rank = np.cumsum(np.isfinite(left), axis=1)
        any_item = (rank <= (uniform[:, 1, k] * (count - k)).astype(np.int64)[:, None]).sum(1)
        chosen = np.where(uniform[:, 0, k] < epsilon, any_item, at)
        top = left.max(1)
        own = np.exp(left[rows, chosen] - top) / np.exp(left - top[:, None]).sum(1)
        slate[:, k], log_pi[:, k] = chosen, np.log((1 - epsilon) * own + epsilon / (count - k))
        left[rows, chosen] = -np.inf
    return slate, log_pi
