"""Validation of a training: how well the newest events are predicted by weights that have not learnt them.

The log-likelihood says how long to train, since it is smooth. A model that trains on becomes too sure of itself while its ranking
still improves, so what counts is the log-likelihood at the temperature that suits it best (Guo et al. 2017, arXiv:1706.04599).
How much popularity weighs (beta) matters for the ranking alone, so NDCG chooses it.
"""
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tfrec.data.behaviour.histories import Histories
from tfrec.data.behaviour.interactions import Interactions
from tfrec.errors import DataError
from tfrec.models.popularity_prior import PopularityPrior
from tfrec.models.recommender import Recommender
from tfrec.models.scorer import Scorer

VALIDATED = 3000  # events that are scored after each epoch, at most
BATCH = 256  # events that are scored at once
BETAS = (0.6, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6)  # weights of log p that are tried
TRAINED_BETA = BETAS.index(1.0)  # the one that the towers are trained with
SHARPNESS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1)  # factors of <u, v> that are tried: 1 / temperature


class Validation(NamedTuple):
    """The figures of one epoch; a list or tuple of them is what a training state keeps."""

    log_likelihood: float  # mean over events, with beta 1, at the best sharpness
    ndcg_gain: Sequence[Sequence[float]]  # [2, betas]: mean gain in NDCG@10 over beta 1, and its standard error
    sharpness: float = 1.0  # the best one


class Validator:
    """Scores the validation events with the recommender's present weights.

    Args:
        recommender: its prior is replaced by the counts of the events that do not validate.
        inter: all events, in protocol order.
        validates: `[len(inter)]`, the validation events. Popularity rolls over them where they are the newest; else it stands
            still.
        prior_weights: of the popularity mixture.

    Raises:
        DataError: no validation event has an earlier event of the same user.
    """

    def __init__(self, recommender: Recommender, inter: Interactions, validates: npt.NDArray[np.bool_],
                 prior_weights: npt.NDArray[np.float64]) -> None:
        histories = Histories(inter)
        events = np.flatnonzero(validates)
        are_newest = len(events) > 0 and len(events) == len(inter) - events[0]
        events = events[histories.count(events) > 0]
        if not len(events):
            raise DataError("no user has events both before and in the validation part. Raise training.validation_share.")
        self._events = events[np.linspace(0, len(events), min(VALIDATED, len(events)), endpoint=False).astype(np.int64)]
        self._item = inter.item[self._events]
        self._seen = [inter.item[histories.of(event)] for event in self._events]
        recommender.prior = PopularityPrior.counted(inter.where(~validates), weights=prior_weights)
        self._scorer = Scorer(recommender, inter, counted=int(np.argmax(validates)), rolls=are_newest, histories=histories)
        self._log_p = self._scorer.log_p(self._events)

    def evaluate(self) -> Validation:
        """Score the events. Items that a user has seen already are left out, but for the event's own."""
        self._scorer.refresh()
        log_likelihood, ndcg = np.zeros(len(SHARPNESS)), np.zeros([len(self._events), len(BETAS)])
        for start in range(0, len(self._events), BATCH):
            part = slice(start, start + BATCH)
            item, log_p = self._item[part], self._log_p[part]
            similarity = self._scorer.similarity(self._events[part])
            for row, seen in enumerate(self._seen[part]):
                similarity[row, seen[seen != item[row]]] = -np.inf
            log_likelihood += [sum_log_likelihood(s * similarity + BETAS[TRAINED_BETA] * log_p, item) for s in SHARPNESS]
            for column, beta in enumerate(BETAS):
                scores = similarity + beta * log_p
                rank = 1 + np.count_nonzero(scores > scores[np.arange(len(item)), item][:, None], axis=1)
                ndcg[part, column] = np.where(rank <= 10, 1 / np.log2(rank + 1), 0)
        gain = ndcg - ndcg[:, [TRAINED_BETA]]
        return Validation(float(log_likelihood.max()) / len(ndcg), [list(gain.mean(0)), list(gain.std(0) / np.sqrt(len(ndcg)))],
                          SHARPNESS[int(np.argmax(log_likelihood))])


def best_beta(around: Sequence[Validation]) -> tuple[float, str]:
    """Choose the weight of popularity by the validations of a few epochs; also describes the alternatives, for the log.

    NDCG on some thousand events is not smooth, so the epochs around the best are averaged. The towers were trained with beta 1:
    another one must be better by more than chance. What counts is the gain less its standard error.
    """
    gain, error = np.mean([validation.ndcg_gain for validation in around], axis=0)
    figures = ", ".join(f"{b:g}: {g:+.4f} ± {e:.4f}" for b, g, e in zip(BETAS, gain, error, strict=True))
    return BETAS[int(np.argmax(gain - error))], figures


def sum_log_likelihood(scores: npt.NDArray[np.floating], items: npt.NDArray[np.integer]) -> float:
    """Sum over rows of log softmax(scores)[item], for scores `[n, items]` and items `[n]`; a score of -inf leaves an item out."""
    own, top = scores[np.arange(len(items)), items], scores.max(1)
    return float(np.sum(own - top - np.log(np.exp(scores - top[:, None]).sum(1))))
