"""The challenger beside the champion: both are measured on the same events, searches and slates, and the gate compares them.

One object holds the weights of both, one after the other. It is the champion until something trains on the window.
"""
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.config import Config
from tfrec.data.behaviour.histories import Histories
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.examples.slates import earned
from tfrec.data.items.catalogue import Catalogue
from tfrec.evaluation import protocol
from tfrec.evaluation.baselines import POPULARITY_7D
from tfrec.evaluation.gate import Decision, Margins, decide
from tfrec.evaluation.gate_figures import Floor, SearchRanks, measure
from tfrec.evaluation.pair_accuracy import PairAccuracy, compare_accuracy
from tfrec.evaluation.policy_value import PolicyValue, compare_policies
from tfrec.evaluation.protocol import Ranks, hash_sample, rank_events, with_history
from tfrec.evaluation.search_ranks import OWN_TEXTS, Searches, chosen_searches, own_texts, rank_searches
from tfrec.models.lexical.lexicon import Lexicon
from tfrec.models.prior_timeline import PriorTimeline
from tfrec.models.recommender import Recommender
from tfrec.models.scorer import FloatArray, Ints, Scorer, SearchScorer
from tfrec.models.text_encoder import load_encoder
from tfrec.release.manifest import Manifest
from tfrec.retrain.split import Split
from tfrec.retrain.window import WindowContents
from tfrec.training.slates.policy_scorer import PolicyScores
from tfrec.training.slates.window import SlateWindow

MIN_SEARCHES = 30  # of the log; with fewer, items' own texts are searched for instead
MAX_OWN_TEXTS = 500  # items
EARLIER = 200_000  # newest events before the window, of which some are asked again: hashing one takes a microsecond


@dataclass(frozen=True, eq=False)
class Measured:
    """How good a model is."""

    judges: Ranks  # of the events that judge
    earlier: Ranks  # of events that both models may have learnt
    slates: PolicyScores  # of the slates that judge
    searches: npt.NDArray[np.float64]  # [searches], ranks of what was wanted


class Contest:
    """Measures a model when it is made, as the champion, and again for the decision, as the challenger.

    Both have the same rolling popularity, so their difference is what the weights say.

    Args:
        config: its `retrain` section, mainly.
        model: holds the champion's weights, and the challenger's by the time of the decision.
        window: what the run read.
        split: of the window.
        shown: the slates of the window.
        timeline: popularity over the time of all that is asked.
        weekly: the baseline.
    """

    def __init__(self, config: Config, model: Recommender, window: WindowContents, split: Split, shown: SlateWindow,
                 timeline: PriorTimeline, weekly: protocol.Scorer) -> None:
        self._config, self._split, self._shown, self._items = config, split, shown, len(window.catalogue)
        inter, histories = split.inter, Histories(split.inter)
        self._earlier = _earlier(config, inter, (~split.new & window.pool)[: split.start], histories)
        self._weekly, self._of_slates = weekly, window.shown
        self._rank = partial(rank_events, inter, train_end=split.start, histories=histories)
        self._scorer = Scorer(model, inter, counted=0, histories=histories, timeline=timeline)
        self._searches = _searches(config, window.catalogue, window.slates, since=split.until)
        self._search = SearchScorer(model, _vectors(model, self._searches), log_p=self._scorer.log_p(split.judges.events[:1])[0],
                                    words=_words(model, self._searches))
        self._champion = self._measured()

    def _measured(self) -> Measured:
        searches = rank_searches(self._searches, self._search, n_items=self._items)
        return Measured(self._rank(self._split.judges.events, self._scorer), self._rank(self._earlier, self._scorer),
                        self._shown.scorer(self._shown.judged, as_served=True), searches)

    def decision(self, parent: Manifest) -> Decision:
        """Whether the challenger may replace the champion.

        Args:
            parent: the champion's manifest, which knows what it reached at its own gate.
        """
        self._scorer.refresh()
        champion, challenger, settings = self._champion, self._measured(), self._config.retrain
        figures = measure(
            champion.judges, challenger.judges, {POPULARITY_7D: self._rank(self._split.judges.events, self._weekly)},
            of_slates=self._of_slates,
            pairs=self._pairs(champion.slates, challenger.slates),
            value=self._value(champion.slates, challenger.slates),
            earlier=(champion.earlier, challenger.earlier),
            search=SearchRanks(champion.searches, challenger.searches, self._searches.users, self._items, self._searches.source),
            floor=_floor(settings.gate_floor, parent, self._rank(self._earlier, self._scorer.log_p)))
        return decide(figures, Margins(
            hit_rate=settings.gate_margin, pairs=settings.pair_margin, keep=settings.keep_share, value=settings.value_margin,
            earlier=settings.forget_margin, search=max(settings.search_margin, settings.gate_margin)))

    def _pairs(self, champion: PolicyScores, challenger: PolicyScores) -> PairAccuracy:
        judged = self._shown.judged
        return compare_accuracy(judged.reward, judged.shown, champion=champion.served, challenger=challenger.served,
                                users=judged.user)

    def _value(self, champion: PolicyScores, challenger: PolicyScores) -> PolicyValue:
        """Of the exploring policy, on those of the slates that were drawn."""
        drawn = self._shown.judged.drawn
        judged = self._shown.judged.take(drawn)
        logged, theirs, ours = (np.exp(log_p.astype(np.float64)) for log_p in (
            judged.log_propensity, champion.log_pi[drawn], challenger.log_pi[drawn]))
        return compare_policies(judged.reward, logged, champion=theirs, challenger=ours, shown=judged.shown, users=judged.user)


def _earlier(config: Config, inter: Interactions, old: np.ndarray, histories: Histories) -> np.ndarray:
    """Events before the judging ones that are not new: a sample, which is the same for the same past."""
    old = np.flatnonzero(old)[-EARLIER:]
    return hash_sample(inter, with_history(inter, old, histories=histories), limit=config.retrain.gate_sample)


def _searches(config: Config, catalogue: Catalogue, slates: pa.Table, *, since: int) -> Searches:
    """What people searched for and chose in the time that judges; with too little of it, the items' own texts.

    What a rule pinned was there to be chosen whatever the model says, so it does not judge.
    """
    row, items = earned(slates, with_pinned=False)
    asked = slates.select(["query", "user", "time"]).take(pa.array(row)).append_column("item", items)
    asked = asked.filter(pc.and_(pc.greater_equal(asked["time"], since), pc.not_equal(asked["query"], "")))
    chosen = list(zip(*(asked[name].to_pylist() for name in ("query", "item", "user")), strict=True))
    searches = chosen_searches(chosen[-config.retrain.gate_sample :], catalogue)
    return searches if len(searches) >= MIN_SEARCHES else own_texts(catalogue, limit=MAX_OWN_TEXTS)


def _vectors(recommender: Recommender, searches: Searches) -> np.ndarray:
    """`[n, text width]` of the queries. What people typed is encoded here and kept nowhere."""
    if searches.source == OWN_TEXTS:
        return recommender.text[searches.items]
    text = recommender.config.text
    return load_encoder(text).encode(searches.texts, role="query", batch_size=text.batch_size)


def _words(recommender: Recommender, searches: Searches) -> Callable[[Ints], FloatArray] | None:
    """What words add to searches, as served. None for items' own texts, which words always find: they ask about meaning."""
    if searches.source == OWN_TEXTS:
        return None
    found = Lexicon.of(recommender.config, recommender.catalogue)
    return None if found is None else lambda rows: found.matches([searches.texts[row] for row in rows])


def _floor(share: float, parent: Manifest, popularity: Ranks) -> Floor | None:
    """A share of what the champion reached at its own gate; without one, of what popularity reached before the window."""
    reached = parent.scorecard.get("hr@10")
    if isinstance(reached, dict) and "challenger" in reached:
        return Floor(float(reached["challenger"]), share, "the champion, when it was made,")
    if len(popularity):
        return Floor(float((popularity.rank <= 10).mean()), share, "popularity, before this window,")
    return None
