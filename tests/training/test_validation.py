"""The score that says how long to train."""
import numpy as np
import pytest

from tests.models import world
from tfrec.data.behaviour.histories import Histories
from tfrec.models.popularity_prior import PopularityPrior
from tfrec.models.prior_weights import fit_weights
from tfrec.models.scorer import Scorer
from tfrec.training.validation import SHARPNESS, Validator, sum_log_likelihood


@pytest.mark.parametrize("too_sure", [1.0, 1 / 0.8, 2.0, 2.5])
def test_a_model_that_is_too_sure_of_itself_scores_as_well_as_one_that_is_not(tmp_path, too_sure):
    items = world.catalogue()
    inter, made = world.interactions(items), world.recommender(world.config(tmp_path))
    weights = fit_weights(inter, start=0, stop=len(inter))
    start, histories = int(0.8 * len(inter)), Histories(inter)
    events = np.arange(start, len(inter))
    events = events[histories.count(events) > 0]
    scorer = Scorer(made, inter, counted=start, prior=PopularityPrior.counted(inter.slice(0, start), weights=weights))
    similarity, log_p = scorer.similarity(events).astype(np.float64), scorer.log_p(events)
    for row, event in enumerate(events):
        seen = inter.item[histories.of(event)]
        similarity[row, seen[seen != inter.item[event]]] = -np.inf

    def mean(sharpness: float) -> float:
        return sum_log_likelihood(sharpness * similarity + log_p, inter.item[events]) / len(events)

    made.model.log_scale.assign_add(np.log(too_sure))
    found, _, sharpness = Validator(made, inter, np.arange(len(inter)) >= start, weights).evaluate()
    assert found == pytest.approx(mean(sharpness * too_sure), abs=1e-4)
    assert found == pytest.approx(max(mean(sharpness * too_sure) for sharpness in SHARPNESS), abs=1e-4)
    assert found >= mean(1.0) - 1e-4
