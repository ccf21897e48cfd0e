"""Simulated people over a catalogue of real films: their tastes, what they do with a slate, and the best slate for them.

In a replay what was shown cannot matter. Here it does, and the truth is known: every probability of a click is at hand.

    taste of u for film i   z_ui = p_u . q_i, standardised by person
    p_u                     own_u + fashion, which share the variance by `COMMON`
    P(u clicks on i at position k) = (k + 1)^-BIAS sigma(INTERCEPT + SLOPE z_ui)

The vectors q_i and own_u are factors of who rated what, of all ratings, divided by the root of each film's count, as the films'
texts would not give them and as no model sees them: the model begins with the first few films of each person. Fashion is what all
tastes have in common; at first it is the mean of the real tastes, by which well-known films are liked. At the drift half of the
people take up another person's own taste, and fashion moves to another direction of the same factors. People roll the same dice
in every arm, and are a function of their seed.
"""
from typing import Any

import numpy as np
import numpy.typing as npt

from tfrec.data.behaviour.interactions import Interactions

Ints = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.float64]

FACTORS = 20
COMMON = 0.5  # of a taste's variance: fashion
DRIFTING = 0.5  # of the people
INTERCEPT, SLOPE, BIAS = -4.0, 1.5, 0.5  # the best ten films earn about 3.5 clicks a request, ten films by chance .3


class People:
    """The people who rated the films of `inter`, with their tastes.

    Args:
        inter: every rating, by which tastes are made.
        seed: of the drift and of the dice.
    """

    def __init__(self, inter: Interactions, *, seed: int) -> None:
        self._seed = seed
        chosen = np.zeros((len(inter.users), len(inter.items)))
        chosen[inter.user, inter.item] = 1
        u, s, v = np.linalg.svd(chosen / np.sqrt(np.maximum(chosen.sum(0), 1)), full_matrices=False)
        kept = min(FACTORS, len(s))
        taste = _standardised(u[:, :kept] * s[:kept], v[:kept])
        self._films = v[:kept] - v[:kept].mean(1, keepdims=True)
        self._own = _standardised(taste - taste.mean(0), self._films)
        self._fashion = _standardised(taste.mean(0)[None], self._films)[0]
        self._chance = self._all_chances()

    def __len__(self) -> int:
        return len(self._own)

    def drift(self) -> None:
        """Half of the people take up another's own taste, and fashion moves."""
        rng = np.random.default_rng([self._seed, 0])
        moved = np.flatnonzero(rng.random(len(self)) < DRIFTING)
        self._own[moved] = self._own[rng.permutation(len(self))[: len(moved)]]
        self._fashion = _standardised(rng.normal(size=(1, len(self._films))), self._films)[0]
        self._chance = self._all_chances()

    def chance(self, person: Ints, films: Ints) -> Floats:
        """`[n, K]`: the probability of a click on each film of slates `[n, K]`, in which -1 is no film and has none."""
        found: Floats = np.where(films >= 0, self._chance[person[:, None], films], 0.0) * looked_at(films.shape[1])
        return found

    def value(self, person: Ints, films: Ints) -> Floats:
        """`[n]`: expected clicks on slates `[n, K]`."""
        found: Floats = self.chance(person, films).sum(1)
        return found

    def best(self, person: Ints, positions: int, *, without: npt.NDArray[np.bool_]) -> Ints:
        """`[n, positions]`: the slates of the highest value without films of `without` `[n, films]`; -1 where none is left."""
        left = np.where(without, -1.0, self._chance[person])
        found = np.argpartition(-left, positions - 1, axis=1)[:, :positions]
        order = np.take_along_axis(found, np.argsort(-np.take_along_axis(left, found, 1), axis=1, kind="stable"), 1)
        return np.where(np.take_along_axis(left, order, 1) < 0, -1, order)

    def clicks(self, person: Ints, films: Ints, *, visit: int) -> npt.NDArray[np.bool_]:
        """`[n, K]`: what people click on. The dice are those of person, film and visit, whatever else is shown."""
        rng = np.random.default_rng([self._seed, 1, visit])
        dice = rng.random(self._chance.shape)[person[:, None], films]
        found: npt.NDArray[np.bool_] = dice < self.chance(person, films)
        return found

    def _all_chances(self) -> Floats:
        taste = np.sqrt(1 - COMMON) * self._own + np.sqrt(COMMON) * self._fashion
        return np.asarray(1 / (1 + np.exp(-INTERCEPT - SLOPE * (_standardised(taste, self._films) @ self._films))))


def looked_at(positions: int) -> Floats:
    """`[positions]`: the probability that each position is looked at."""
    return np.asarray((np.arange(positions) + 1.0) ** -BIAS)


def _standardised(taste: Floats, films: Floats) -> Floats:
    """The tastes `[n, factors]` at a length at which each has unit variance over the films `[factors, films]`."""
    spread = (taste @ films).std(1, keepdims=True)
    found: Floats = np.divide(taste, spread, out=np.zeros_like(taste), where=spread > 0)
    return found
