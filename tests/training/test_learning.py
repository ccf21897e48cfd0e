"""A world whose right answer is known: users go round their cluster, so the last item names the next one."""
from pathlib import Path

import numpy as np
import pytest

from tests.models import world
from tfrec.data.behaviour.histories import Histories
from tfrec.data.behaviour.interactions import Interactions
from tfrec.models.recommender import Recommender
from tfrec.models.scorer import Scorer
from tfrec.training.train import Trained, train

N, TEXT_ONLY = 36, 4  # items 36 .. 39 exist, but nobody has touched them
HITS = 5
CATALOGUE, TEXT = world.catalogue(N + TEXT_ONLY), world.text_vectors(N + TEXT_ONLY)
SIZE = N // world.CLUSTERS  # items of a cluster that are touched


def rounds(users: int = 240, each: int = 7) -> Interactions:
    """Each user starts anywhere in a cluster and takes its items in turn."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(users):
        begin = rng.integers(SIZE)
        for step in range(each):
            item = user % world.CLUSTERS + world.CLUSTERS * ((begin + step) % SIZE)
            rows.append((f"u{user}", f"i{item}", step * 86_400 + user))
    user_ids, items, times = zip(*rows, strict=True)
    return Interactions.from_columns(user_ids, items, times, items=CATALOGUE.ids.tolist())


INTER = rounds()
CUT = INTER.split(0.8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    run: Path = tmp_path_factory.mktemp("run")
    settings = world.config(run, training={"epochs": 4, "patience": 4, "learning_rate": 0.02}, dim=16, dropout=0.0)
    world.keep_vectors(settings, CATALOGUE, TEXT)
    return train(settings, CATALOGUE, INTER.slice(0, CUT))


@pytest.fixture
def made(trained: Trained) -> Recommender:
    return trained.recommender


def test_near_perfect_where_popularity_is_lost(made):
    events = np.arange(CUT, len(INTER))
    histories = Histories(INTER)
    hits = {}
    scorer = Scorer(made, INTER, counted=CUT)
    for name, scores in (("model", scorer(events)), ("popularity", scorer.log_p(events).copy())):
        for row, event in enumerate(events):
            scores[row, INTER.item[histories.of(event)]] = -np.inf
        own = scores[np.arange(len(events)), INTER.item[events]]
        hits[name] = ((scores > own[:, None]).sum(1) < HITS).mean()
    assert hits["model"] > 0.95
    assert hits["popularity"] < 0.5


def test_a_new_item_is_found_by_a_query_that_fits_its_text(made):
    for item in range(N, N + TEXT_ONLY):
        query = TEXT[item] + np.random.default_rng(item).normal(0, 0.02, world.WIDTH).astype(np.float32)
        scores = made.item_vectors() @ made.model.scale_query(query[None]).numpy()[0]
        assert (scores > scores[item]).sum() < 3, f"rank of item {item}"


def test_the_run_keeps_no_epochs_once_it_is_done(trained):
    run = trained.recommender.config.run
    assert not (run / "train").exists()
    assert trained.epochs <= 4
    assert (trained.recommender.slot > 0).sum() == N
    assert int(trained.recommender.model.steps) > 0
    assert (~trained.recommender.prior.untouched).sum() == len(set(INTER.item[:CUT].tolist()))
