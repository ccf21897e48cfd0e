"""What a training from the start learns of the log: the second stage is taught all slates that have settled until then."""
import logging

from tfrec.data.examples.slates import matured_slates
from tfrec.data.settled.examples import SettledExamples
from tfrec.models.recommender import Recommender
from tfrec.training.slates.policy_scorer import PolicyScorer
from tfrec.training.slates.ranker_trainer import teach_ranker
from tfrec.training.slates.window import window_arrays

log = logging.getLogger(__name__)


def teach_logged_slates(recommender: Recommender) -> int:
    """Teach the second stage what a retrain has settled before, up to `retrain.max_slates`; returns how many slates that was."""
    config = recommender.config
    if recommender.ranker is None:
        return 0
    settled = SettledExamples(config.examples_uri)
    last, found = settled.last(), 0
    if last is not None:
        slates, _ = matured_slates(settled, upto=last.number, items=recommender.catalogue.ids.tolist(), after=0,
                                   until=last.window.now - config.data.attribution_seconds, most=config.retrain.max_slates)
        arrays, log_p = window_arrays(recommender, slates, recommender.timeline, now=last.window.now)
        found = teach_ranker(recommender, arrays, PolicyScorer(recommender, log_p), seed=config.training.seed)
    log.info("the second stage has learnt %d slates of the log; from %d on it ranks", found, config.ranker.min_slates)
    return found
