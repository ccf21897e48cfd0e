"""The model as a scorer of the quality protocol: the scores of all items at an event, as the served graph gives them.

The prior *rolls*, which means that it counts every event strictly before the second of the question, or stays *frozen* as the
recommender holds it. The weights stay as they are.
"""
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrec.data.behaviour.histories import Histories
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.behaviour.newcomers import by_newcomers
from tfrec.models.popularity_prior import PopularityPrior
from tfrec.models.prior_timeline import PriorTimeline
from tfrec.models.recommender import Recommender
from tfrec.models.two_tower import SEARCH_BETA

Ints = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]


class SearchScorer:
    """Scores `[batch, n_items]` of searches by their row in `vectors`, as a served version scores a query without a history.

    Args:
        recommender: The model, with the weights that it has at each call.
        vectors: `[n, text_width]`, of the queries' texts.
        log_p: `[n_items]`, how popular the items are.
        words: what the words of the searches in some rows add to each item, in cosines; None to score by meaning alone.
    """

    def __init__(self, recommender: Recommender, vectors: FloatArray, *, log_p: FloatArray,
                 words: Callable[[Ints], FloatArray] | None = None) -> None:
        self._recommender, self._vectors, self._log_p, self._words = recommender, vectors, log_p, words

    def __call__(self, rows: Ints) -> FloatArray:
        """Scores `[batch, n_items]` of the searches in `rows` `[batch]` of the vectors."""
        u = self._recommender.model.scale_query(tf.constant(self._vectors[rows])).numpy()
        scores: FloatArray = u @ self._recommender.item_vectors().T + np.float32(SEARCH_BETA) * self._log_p
        return scores if self._words is None else scores + self._recommender.model.query_scale().numpy() * self._words(rows)


class Scorer:
    """Scores `[batch, n_items]` of event indices `[batch]` into `inter`, whose items are the recommender's catalogue.

    The item vectors are those of the moment it was made, or of its last `refresh`.

    Args:
        recommender: The model. It is not changed: its prior is copied.
        inter: All events that may be asked about or be history.
        counted: Events at the front of `inter` that the prior holds already.
        rolls: Whether the prior goes on counting.
        histories: Of `inter`, where the caller has them already.
        prior: By default the recommender's.
        timeline: Popularity over time. With it, each event reads the newest moment before it, and nothing is counted.
    """

    def __init__(self, recommender: Recommender, inter: Interactions, *, counted: int, rolls: bool = True,
                 histories: Histories | None = None, prior: PopularityPrior | None = None,
                 timeline: PriorTimeline | None = None) -> None:
        self._inter, self._recommender = inter, recommender
        self._histories = histories or Histories(inter)
        self._codes, self._newcomer = recommender.action_codes(inter.actions), by_newcomers(inter)
        self._context = recommender.event_context(inter)
        self._first = (prior or recommender.prior).copy()
        self._start, self._rolls, self._timeline = counted, rolls, timeline
        self._restart()
        self.refresh()

    def refresh(self) -> None:
        """Take the weights that the recommender has now; nothing is traced again."""
        self._items = tf.constant(self._recommender.item_vectors())

    def _restart(self) -> None:
        self._prior, self._counted = self._first.copy(), self._start

    def __call__(self, events: Ints) -> FloatArray:
        """Scores `[batch, n_items]` just before the events `[batch]`."""
        beta: np.float32 = self._recommender.model.beta.numpy()  # float(...) refuses a variable that is mirrored on several GPUs
        return self.similarity(events) + beta * self.log_p(events)

    def similarity(self, events: Ints) -> FloatArray:
        """The part of the score that history, person and moment give, `[batch, n_items]`."""
        length = self._recommender.config.model.history
        found = self._histories.padded(events, length=length)
        count = (found >= 0).sum(1)
        # the tower counts positions from the oldest event: move the pads from the front to the back
        found = np.take_along_axis(found, (np.arange(length) + (length - count)[:, None]) % length, axis=1)
        known = found >= 0
        time = np.where(known, self._inter.time[found], 0)
        newest = np.arange(length)[None] == count[:, None] - 1
        following = np.where(newest, self._inter.time[events][:, None], np.roll(time, -1, axis=1))
        behaviour = (np.where(known, self._inter.item[found], 0), self._codes[self._inter.action[found]],
                     np.where(known, following - time, 0), count)
        of_histories = self._recommender.model.history_scores
        item, action, gap, number = (array.astype(np.int64) for array in behaviour)
        scores: FloatArray = of_histories(self._items, item, action, gap, number, self._context[events]).numpy()
        return scores

    def log_p(self, events: Ints) -> FloatArray:
        """The prior just before each event, `[batch, n_items]`."""
        if self._timeline is not None:
            return self._timeline.log_p[self._timeline.at(self._inter.time[events])]
        if not self._rolls:
            now = self._prior.log_p()
            return np.broadcast_to(now, (len(events), len(now)))
        out = np.empty((len(events), len(self._inter.items)), np.float32)
        for row, event in enumerate(events):
            second = int(self._inter.time[event])
            before = int(np.searchsorted(self._inter.time, second))
            if before < self._counted:
                self._restart()
            fresh = slice(self._counted, max(before, self._counted))
            self._prior.update(self._inter.item[fresh], self._inter.time[fresh], newcomer=self._newcomer[fresh])
            self._counted = fresh.stop
            out[row] = self._prior.log_p()
        return out
