"""A pinned item teaches nothing: where it stands everyone looks, and no policy put it there."""
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.testing import assert_array_equal

from tests.eagerly import eagerly
from tests.models import world
from tests.training.slates.test_trainer import each_item, settings
from tfrec.data.examples.sequences import PAD
from tfrec.data.examples.slate_arrays import SlateArrays
from tfrec.data.examples.slate_encoder import SlateEncoder
from tfrec.data.examples.slates import SLATES
from tfrec.data.items.boosted_items import BoostedItems
from tfrec.data.items.tag_filters import positions_by_tag
from tfrec.models.recommender import Recommender
from tfrec.training.loop import optimiser
from tfrec.training.slates.policy_scorer import PolicyScorer
from tfrec.training.slates.trainer import SlateTrainer

BAD, SHOWN, REQUESTS = 21, 5, 64  # the pinned item; those under it are drawn among items 0 to 20, and 0 to 9 are liked
CONFIG = settings(Path("unused"), "reinforce")
LOOKED_AT = np.array([1.0, 0.35, 0.3, 0.25, 0.2, 0.15])


@cache
def logged(*, marked: bool) -> SlateArrays:
    """Slates under a pinned item that nobody likes much: it is clicked as often as what is liked, as all look at the top."""
    rng, rows = np.random.default_rng(4), []
    for number in range(REQUESTS):
        items = [BAD, *rng.permutation(21)[: 0 if number % 16 == 3 else SHOWN].tolist()]
        appeal = np.array([0.9 if item == BAD else 0.9 if item < 10 else 0.0 for item in items])
        rules = {"version": "v", "names": ["top"], "pinned": [f"i{BAD}"]}
        reward = (rng.random(len(items)) < appeal * LOOKED_AT[: len(items)]).astype(float)
        rows.append({
            "request_id": f"r{number}", "time": 60 * number, "user": f"u{number % 20}", "query": "",
            "history": [f"i{one}" for one in rng.integers(22, world.ITEMS, 3)],
            "exclude": [f"i{one}" for one in range(BAD if marked else BAD + 1, world.ITEMS)],
            "context": json.dumps({"rules": rules} if marked else {}),
            "item": [f"i{item}" for item in items], "reward": reward.tolist(),
            "log_propensity": [0.0, *np.log(1 / (21 - np.arange(len(items) - 1))).tolist()],
            "converted": [False] * len(items), "delay": [0] * len(items)})
    encoder = SlateEncoder(
        items=[f"i{n}" for n in range(world.ITEMS)], items_by_tag={}, numbers={}, action_codes={"": 0}, other_action=0,
        history_length=6, query_vectors={}, query_width=world.WIDTH, snapshot_times=np.array([0]), now=60 * REQUESTS + 3600,
        attribution_seconds=3600)
    return encoder.encode(pa.Table.from_pylist(rows, SLATES), context=np.zeros((REQUESTS, 0), np.float32),
                          acted=np.zeros((REQUESTS, SHOWN + 1, 0), bool))


def untaught() -> Recommender:
    """Each item has a residual, which can be learnt without the items that read like it."""
    made = world.recommender(CONFIG, stir=False)
    made.give_slots(np.arange(world.ITEMS), np.arange(world.ITEMS))
    return made


def learnt(*, marked: bool) -> Recommender:
    made, slates = untaught(), logged(marked=marked)
    trainer = SlateTrainer(made, slates, PolicyScorer(made, world.LOG_P))
    trainer.run(optimiser(made.config, learning_rate=0.03), epochs=range(6))
    return made


def lead(made: Recommender) -> float:
    """How far the pinned item is scored above items like it that nobody saw."""
    scorer, slates = PolicyScorer(made, world.LOG_P), logged(marked=False)
    found = np.mean([scorer(each_item(slates, row, world.ITEMS)).scores[:, 0] for row in range(8)], axis=0)
    return float(found[BAD] - found[BAD + world.CLUSTERS :: world.CLUSTERS].mean())


@eagerly()
def test_a_pinned_item_is_not_preferred_for_its_place() -> None:
    before = lead(untaught())
    assert lead(learnt(marked=True)) < before + 0.2
    assert lead(learnt(marked=False)) > before + 1.0  # so it is the mark that keeps it where it was


@eagerly()
def test_a_boost_moves_what_comes_and_not_what_a_model_says_of_it() -> None:
    slates, boost = world.slates(8), ("tag", "t1", 1.5, None, None)
    boosted = replace(slates, boosts=BoostedItems.of([(boost,)] * 8, (), positions_by_tag([("t0", "t1", "t2")[k % 3 :][:1]
                                                     for k in range(world.ITEMS)]), {}))
    scorer = PolicyScorer(untaught(), world.LOG_P)
    plain, found = scorer(slates), scorer(boosted)
    assert_array_equal(found.scores, plain.scores)
    assert_array_equal(found.served, plain.served)
    raised = slates.shown & (slates.item % 3 == 1)
    assert_array_equal(found.candidates.boost, np.where(raised, np.float32(1.5), 0))
    first = raised[:, 0] & ~(np.abs(plain.log_pi[:, 0]) < 1e-6)
    assert first.any()
    assert (found.log_pi[first, 0] > plain.log_pi[first, 0]).all()


def test_a_mark_takes_one_item_out_of_its_slate_and_leaves_the_others_where_they_are() -> None:
    marked, unmarked = logged(marked=True), logged(marked=False)
    assert (marked.item == BAD).sum() == 0
    assert_array_equal(marked.item[:, 1:], unmarked.item[:, 1:])
    assert_array_equal(marked.item[:, 0], np.full(len(marked), PAD))
    assert_array_equal(marked.shown.any(1), np.arange(len(marked)) % 16 != 3)
    assert_array_equal(marked.drawn, marked.shown.any(1))  # the rest of a slate is weighed by its own propensities
