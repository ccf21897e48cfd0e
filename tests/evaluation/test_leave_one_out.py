"""Which event of a user is for what, and what the model and the baselines know of it."""
import numpy as np
import pytest

from tests.models import world
from tfrec.data.behaviour.interactions import Interactions
from tfrec.errors import DataError
from tfrec.evaluation import leave_one_out as module
from tfrec.evaluation.leave_one_out import MODEL, leave_one_out, left_out
from tfrec.models.prior_weights import fit_weights
from tfrec.training.train import Trained
from tfrec.training.validation import Validator


def events(*rows: tuple[str, str, int]) -> Interactions:
    user, item, time = zip(*rows, strict=True)
    return Interactions.from_columns(user, item, time, items=["a", "b", "c", "d"])


def test_the_last_event_is_evaluated_and_the_one_before_it_chooses():
    inter = events(("u", "a", 1), ("v", "b", 2), ("u", "b", 3), ("u", "c", 4), ("w", "a", 5), ("v", "c", 6), ("u", "d", 7))
    parts = left_out(inter)
    assert np.flatnonzero(parts.evaluated).tolist() == [5, 6]  # w has one event only
    assert np.flatnonzero(parts.validates).tolist() == [3]  # v has two: one trains and one is evaluated


def test_a_basket_is_no_history_of_itself(tiny):
    parts = left_out(tiny)  # u: a, {b, c}, d; v: a, b; w: {a, d}
    assert np.flatnonzero(parts.evaluated).tolist() == [6, 7]
    assert np.flatnonzero(parts.validates).tolist() == [3]


@pytest.mark.parametrize("rows", [
    [("u", "a", 1)], [("u", "a", 1), ("u", "b", 2)], [("u", "a", 1), ("u", "b", 1), ("u", "c", 1)],
    [("u", "a", 1), ("v", "b", 2), ("w", "c", 3)],
])
def test_too_few_events_are_an_error_that_says_what_is_needed(rows):
    with pytest.raises(DataError, match="Expected: users with at least 3 events in different seconds"):
        left_out(events(*rows))


def test_nothing_of_an_evaluated_event_is_known(tmp_path, monkeypatch):
    items = world.catalogue()
    inter = world.interactions(items)
    parts, made = left_out(inter), world.recommender(world.config(tmp_path))
    given = []

    def train(config, catalogue, known, *, validates):
        given.append((known, validates))
        return Trained(made, None, 1, 0.0, 0.0)

    monkeypatch.setattr(module, "train", train)
    found = leave_one_out(made.config, items, inter)
    ((known, validates),) = given
    assert len(known) == (~parts.evaluated).sum()
    assert known.item[validates].tolist() == inter.item[parts.validates].tolist()
    assert {MODEL, "popularity", "item-kNN", "EASE"} == found.ranks.keys()
    asked = np.flatnonzero(parts.evaluated)
    popularity = np.bincount(known.item, minlength=len(items))
    for name, ranks in found.ranks.items():
        assert ranks.users.tolist() == inter.user[asked].tolist(), name
        assert (ranks.untouched == (popularity[inter.item[asked]] == 0)).all(), name
    for row, event in enumerate(asked):
        left = np.ones(len(items), bool)
        left[inter.item[(inter.user == inter.user[event]) & (inter.time < inter.time[event])]] = False
        own = popularity[inter.item[event]]
        rank = 1 + (popularity[left] > own).sum() + 0.5 * ((popularity[left] == own).sum() - 1)
        assert found.ranks["popularity"].rank[row] == rank
    as_dict = found.to_dict()
    assert as_dict["train_events"] == (~parts.evaluated & ~parts.validates).sum()
    assert as_dict["asked"] == len(asked)


def test_popularity_of_a_validation_in_the_middle_stands_still_without_it(tmp_path):
    items = world.catalogue()
    inter = world.interactions(items)
    parts, made = left_out(inter), world.recommender(world.config(tmp_path))
    weights = fit_weights(inter, start=0, stop=len(inter))
    score = Validator(made, inter, parts.validates, weights).evaluate().log_likelihood
    assert np.isfinite(score)
    learnt = inter.where(~parts.validates)
    assert made.prior.untouched.tolist() == (np.bincount(learnt.item, minlength=len(items)) == 0).tolist()
