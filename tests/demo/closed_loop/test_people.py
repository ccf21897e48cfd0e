"""Simulated people: their chances, the best slate, the drift and the dice."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from tfrec.data.behaviour.interactions import Interactions
from tfrec.demo.closed_loop.people import BIAS, People, looked_at

PERSONS, FILMS = 40, 30


def ratings() -> Interactions:
    """Two halves of the people, each of which rates the films of its own half of the catalogue, with a few others."""
    rng = np.random.default_rng(0)
    rated = (rng.random((PERSONS, FILMS)) < 0.1) | (np.arange(PERSONS)[:, None] % 2 == np.arange(FILMS) % 2)
    rated[:, 0] = True
    user, item = np.nonzero(rated)
    names = [f"f{film}" for film in range(FILMS)]
    rows = [f"p{one}" for one in user], [names[film] for film in item]
    return Interactions.from_columns(*rows, np.arange(len(user)), items=names)


@pytest.fixture(scope="module")
def inter() -> Interactions:
    return ratings()


def everybody(slate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(PERSONS), np.tile(slate, (PERSONS, 1))


def test_people_like_what_they_and_people_like_them_rated(inter: Interactions) -> None:
    films = np.arange(1, FILMS)
    chance = People(inter, seed=0).chance(*everybody(films)) / looked_at(len(films))
    of = np.array([int(name[1:]) for name in inter.users])
    alike = of[:, None] % 2 == films % 2
    assert chance[alike].mean() > 3 * chance[~alike].mean()


def test_a_position_is_looked_at_less_the_lower_it_stands(inter: Interactions) -> None:
    people, films = People(inter, seed=0), np.arange(5)
    first = np.stack([people.chance(*everybody(np.array([film])))[:, 0] for film in films], axis=1)
    assert_allclose(people.chance(*everybody(films)), first * (1 + np.arange(5.0)) ** -BIAS)
    assert_allclose(people.value(*everybody(films)), people.chance(*everybody(films)).sum(1))


@given(st.integers(0, 2**31), st.integers(1, 8), st.booleans())
@settings(max_examples=25, deadline=None)
def test_no_slate_betters_the_best_and_nothing_of_it_is_left_out(seed: int, positions: int, drifted: bool) -> None:
    people, rng = People(ratings(), seed=seed % 3), np.random.default_rng(seed)
    if drifted:
        people.drift()
    without = rng.random((PERSONS, FILMS)) < 0.5
    without[:, :positions] = False
    one = np.arange(PERSONS)
    best = people.best(one, positions, without=without)
    assert not without[one[:, None], best].any()
    other = np.array([rng.choice(np.flatnonzero(~row), positions, replace=False) for row in without])
    assert (people.value(one, best) >= people.value(one, other) - 1e-12).all()


def test_the_dice_are_the_same_whatever_else_is_shown(inter: Interactions) -> None:
    person, alone = everybody(np.array([7]))
    one, other = People(inter, seed=3), People(inter, seed=3)
    first = one.clicks(person, alone, visit=4)
    for _ in range(3):
        other.clicks(*everybody(np.arange(9)), visit=1)
    assert_array_equal(other.clicks(*everybody(np.array([7, 2, 11])), visit=4)[:, 0], first[:, 0])
    half = person[::2]
    assert_array_equal(one.clicks(half, alone[::2], visit=4), first[::2])
    assert (one.clicks(person, alone, visit=5) != first).any()


def test_clicks_come_as_often_as_their_chance(inter: Interactions) -> None:
    people = People(inter, seed=1)
    person, films = everybody(np.arange(10))
    found = np.mean([people.clicks(person, films, visit=visit) for visit in range(300)])
    assert_allclose(found, people.chance(person, films).mean(), rtol=0.1)


def test_a_drift_moves_everybody_and_is_a_function_of_the_seed(inter: Interactions) -> None:
    slates = everybody(np.arange(FILMS))
    one, same, other = (People(inter, seed=seed) for seed in (5, 5, 6))
    before = one.chance(*slates)
    assert_array_equal(before, other.chance(*slates))  # tastes are of the ratings; what the seed decides comes later
    for people in (one, same, other):
        people.drift()
    assert_array_equal(one.chance(*slates), same.chance(*slates))
    assert (np.abs(one.chance(*slates) - before).max(1) > 1e-3).all()
    assert np.abs(one.chance(*slates) - other.chance(*slates)).max() > 0.01
