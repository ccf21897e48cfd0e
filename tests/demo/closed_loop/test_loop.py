"""The closed loop through real servers: people's tastes drift at once, and the arm that is retrained finds out.

The versions have the three signatures that its gateways ask for. What a fresh server answers is the business of
tests/release/test_verify.py and tests/test_shop.py; here verification passes.
"""
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from tests.eagerly import eagerly
from tests.graph.tiny_recommender import exporting
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item
from tfrec.demo.closed_loop.loop import Plan, Played, play

PEOPLE, FILMS, ROUNDS, TURNS = 90, 40, 3, 6


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("loop")


@pytest.fixture(scope="module")
def played(run: Path, forked: None, tiny_checkpoint: Path) -> Played:
    """Everybody has rated most films, and those of their own half more often."""
    rng = np.random.default_rng(0)
    half = np.arange(PEOPLE)[:, None] % 2 == np.arange(FILMS) % 2
    user, item = np.nonzero(rng.random((PEOPLE, FILMS)) < np.where(half, 0.95, 0.5))
    order = rng.permutation(len(user))
    names = [f"f{film}" for film in range(FILMS)]
    inter = Interactions.from_columns([f"p{one}" for one in user[order]], [names[film] for film in item[order]],
                                      1_000_000 + np.arange(len(order)), items=names, action=["rating"] * len(order))
    # 500 slates, seven events and 40 films without a meaning tell a gate little: by its default margins it rejects by chance
    settings = ("retrain.gate_margin=1", "retrain.gate_floor=0", "retrain.search_margin=1", "retrain.pair_margin=1",
                "retrain.keep_share=0", "retrain.value_margin=1000", f'text.encoder="{tiny_checkpoint}"', "text.max_tokens=12",
                "model.dim=16", "training.epochs=2", "retrain.slate_batch=128", "retrain.epochs=3", "retrain.learning_rate=0.02")
    plan = Plan(people=PEOPLE, least_ratings=20, rounds=ROUNDS, turns=TURNS, drift=0, arms=("static", "exploring"),
                settings=settings)
    with eagerly(), exporting("recommend", "explore", "similar"), mock.patch("tfrec.demo.closed_loop.loop.Verifier"), \
         mock.patch("tfrec.retrain.session.Verifier"):
        return play(run, Catalogue([Item(id=name, text=f"film {name}") for name in names]), inter, plan=plan)


def test_who_is_retrained_on_what_was_clicked_earns_more_than_who_is_not(played: Played) -> None:
    found = played.figures()
    mean, low, _ = found["gain"]["exploring"]
    assert low > 0.05, found
    assert (found["retrains"], found["promoted"]) == ({"exploring": 2}, {"exploring": 2})


def test_each_retrain_answers_from_the_next_round_on(played: Played) -> None:
    assert [set(shown.version.tolist()) for shown in played.rounds["exploring"]] == [{1}, {2}, {3}]
    assert [set(shown.version.tolist()) for shown in played.rounds["static"]] == [{1}] * ROUNDS


def test_the_log_holds_what_was_shown_and_clicked(played: Played, run: Path) -> None:
    for arm, rounds in played.rounds.items():
        log = FeedbackLog(run / arm / "log")
        assert len(set(log.read("impressions")["request_id"].to_pylist())) == PEOPLE * TURNS * ROUNDS
        assert log.read("outcomes").num_rows == sum(int(shown.clicked.sum()) for shown in rounds)


def test_what_a_person_clicked_on_is_not_shown_again_that_day(played: Played) -> None:
    for rounds in played.rounds.values():
        for shown in rounds:
            seen: set[tuple[int, int]] = set()
            for person, film, clicked in zip(shown.person.tolist(), shown.film, shown.clicked, strict=True):
                assert not seen & {(person, one) for one in film[film >= 0].tolist()}
                seen |= {(person, one) for one in film[clicked].tolist()}
