"""A window of slates as arrays, with everything that a model reads of a request at serving time.

That is the history as served, the query's text by the same encoder, and popularity at the last moment before the request that the
timeline has.
"""
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.data.examples.slate_arrays import SlateArrays
from tfrec.data.examples.slate_encoder import SlateEncoder
from tfrec.data.feedback_log.contexts import context_values
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.items.numeric_columns import numeric_columns
from tfrec.data.items.tag_filters import positions_by_tag
from tfrec.data.labels.shown_actions import shown_actions
from tfrec.models.context.request_features import warn_of_features
from tfrec.models.prior_timeline import PriorTimeline
from tfrec.models.recommender import MAX_ACTIONS, Recommender
from tfrec.models.text_encoder import load_encoder
from tfrec.training.slates.bandit_update import update_head
from tfrec.training.slates.policy_scorer import PolicyScorer
from tfrec.training.slates.position_bias import fit_position_bias
from tfrec.training.slates.ranker_trainer import teach_ranker


def window_arrays(
    recommender: Recommender, slates: pa.Table, timeline: PriorTimeline, *, now: int
) -> tuple[SlateArrays, npt.NDArray[np.float32]]:
    """The slates by number, and log p `[S, n_items]` of which each knows its snapshot.

    Args:
        recommender: Whose catalogue, action codes and encoder are meant.
        slates: Of `slates.SLATES`, in the order of time.
        timeline: Popularity over the time of the slates.
        now: Seconds since 1970, until which labels have waited.
    """
    config, items = recommender.config, recommender.catalogue.items
    texts = sorted(set(pc.unique(slates["query"]).to_pylist()) - {"", None})
    vectors = np.zeros((0, recommender.text.shape[1]), np.float32)
    if texts:
        vectors = load_encoder(config.text).encode(texts, role="query", batch_size=config.text.batch_size)
    known = timeline.since(int(slates["time"][0].as_py()) if len(slates) else now)
    # an event without an action is read as when serving: as the first action that the model has met
    codes = {"": 0} | dict(zip(recommender.actions, recommender.action_codes(recommender.actions).tolist(), strict=True))
    encoder = SlateEncoder(
        items=recommender.catalogue.ids.tolist(),
        items_by_tag=positions_by_tag([item.tags for item in items]),
        numbers=numeric_columns(items),
        action_codes=codes,
        other_action=MAX_ACTIONS - 1,
        history_length=config.model.history,
        query_vectors=dict(zip(texts, vectors, strict=True)),
        query_width=recommender.text.shape[1],
        snapshot_times=known.times,
        now=now,
        attribution_seconds=config.data.attribution_seconds,
        heads=config.ranker.names,
    )
    acted = shown_actions(FeedbackLog(config.log_uri), slates, config.ranker.names,
                          attribution_seconds=config.data.attribution_seconds)
    return encoder.encode(slates, context=_contexts(recommender, slates), acted=acted), known.log_p


def _contexts(recommender: Recommender, slates: pa.Table) -> npt.NDArray[np.float32]:
    """What was known of person and moment at each request `[n, features]`, as it was served.

    Numbers that no training has met until now get their quantiles here.
    """
    if not recommender.requests.width:
        return np.zeros((len(slates), 0), np.float32)
    values = context_values(slates["context"])
    recommender.requests = recommender.requests.met(values)
    warn_of_features(recommender.config.features, values, where="slates of the window")
    return recommender.requests.of(values, slates["time"].to_numpy())


@dataclass(frozen=True)
class SlateWindow:
    """What a retrain reads of slates: those that it learns, and those that judge.

    A label may change until its attribution window closes, so a slate is learnt only when that was before the moment from which
    events judge. Of the others some judge, and all are left for the next run.

    Attributes:
        learnt: What is learnt from.
        judged: What judges.
        scorer: Scores both.
        learnt_until: Seconds since 1970, the time of the newest slate that is learnt; 0 without one.
    """

    learnt: SlateArrays
    judged: SlateArrays
    scorer: PolicyScorer
    learnt_until: int

    @classmethod
    def of(cls, recommender: Recommender, slates: pa.Table, timeline: PriorTimeline, *, until: int, now: int,
           judges: npt.NDArray[np.bool_]) -> "SlateWindow":
        """The slates whose labels cannot change from `until` on, seconds since 1970, and those of the others that judge."""
        arrays, log_p = window_arrays(recommender, slates, timeline, now=now)
        early = arrays.time + recommender.config.data.attribution_seconds < until
        scorer = PolicyScorer(recommender, log_p, epsilon=recommender.config.gateway.epsilon_at(now))
        newest = int(arrays.time[early].max()) if early.any() else 0
        return cls(arrays.take(early), arrays.take(judges), scorer, newest)

    def teach_ranker(self, recommender: Recommender, *, seed: int) -> int:
        """Teach the second stage what it has not learnt yet; returns how many slates that was."""
        if recommender.ranker is None or not len(self.learnt):
            return 0
        return teach_ranker(recommender, self.learnt, self.scorer, seed=seed)

    def teach_head(self, recommender: Recommender) -> None:
        """Update what the bandits know, under the weights that the recommender has now."""
        if len(self.learnt):
            scores = np.concatenate([found.scores for _, found in self.scorer.shown(self.learnt)])
            bias = fit_position_bias(scores, self.learnt.reward, self.learnt.shown)
            parts = ((found.features, part.reward, part.shown) for part, found in self.scorer.shown(self.learnt))
            update_head(recommender.head, parts, bias, bandit_decay=recommender.config.retrain.bandit_decay)
