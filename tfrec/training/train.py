"""Training from nothing: catalogue and behaviour in, a recommender out, in two passes.

The first pass learns the older events and is judged on the newest ones (`validation_share`): they say how many epochs to train
and how much the prior weighs. The second learns all events for that many epochs, since the newest behaviour is the most telling
and must not be left out. An interrupted training goes on from the last finished epoch.
"""
import hashlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfrec.config import Config
from tfrec.data.behaviour.histories import Histories
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.items.catalogue import Catalogue
from tfrec.errors import DataError
from tfrec.models.popularity_prior import PopularityPrior
from tfrec.models.prior_weights import fit_weights
from tfrec.models.recommender import Recommender, encode_catalogue
from tfrec.models.scorer import Scorer
from tfrec.training import checkpoint
from tfrec.training.devices import choose_strategy, describe
from tfrec.training.loop import Trainer, log_likelihood, optimiser
from tfrec.training.progress import bar

log = logging.getLogger(__name__)

JUDGED = 3000  # validation events that are scored after each epoch, at most
BETAS = (0.6, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6)  # weights of log p that are tried
CALIBRATED = 3  # the place of 1.0, with which the towers are trained
PRIOR_SHARE = 0.4  # of the events, the newest: the popularity mixture is fitted on these


@dataclass(frozen=True)
class Trained:
    """A trained recommender and what training it took."""

    recommender: Recommender
    optimizer: Any  # a retrain goes on with its moments
    epochs: int
    seconds: float
    encode_seconds: float


def train(config: Config, catalogue: Catalogue, inter: Interactions, *, resume: bool = True) -> Trained:
    """Train on all of `inter`.

    Args:
        config: sizes, rates, and the run directory, in which text vectors, epochs and TensorBoard logs are kept.
        catalogue: the items, by which `inter` is coded.
        inter: behaviour in protocol order.
        resume: whether an interrupted training of the same data and configuration is taken up.

    Raises:
        DataError: too few events to hold some back for validation.
    """
    began = time.monotonic()
    validation = len(inter) - int(config.training.validation_share * len(inter))
    if validation < 2 or validation == len(inter):
        raise DataError(f"training needs at least {int(2 / config.training.validation_share)} events, got {len(inter)}.")
    with bar("reading texts", total=len(catalogue)) as advance:
        text = encode_catalogue(config, catalogue.texts, advance=advance)
    encoded = time.monotonic()
    prior_weights = fit_weights(inter, start=int((1 - PRIOR_SHARE) * len(inter)), stop=len(inter))
    strategy = choose_strategy(config.training.device)
    log.info("training on %s: %d events, %d items", describe(strategy), len(inter), len(catalogue))
    with strategy.scope():
        store = checkpoint.TrainingState(config.run / "train", identity=_identity(config, catalogue, inter), resume=resume)
        epochs, beta = _choose(config, catalogue, inter, text, validation, prior_weights, store)
        recommender, optimizer = _fit(config, catalogue, inter, text, prior_weights, epochs, store)
    recommender.model.beta.assign(beta)
    recommender.prior = PopularityPrior.counted(inter, weights=prior_weights)
    store.clear()
    log.info("trained %d epochs; popularity weighs %.2f", epochs, beta)
    return Trained(recommender, optimizer, epochs, time.monotonic() - began, encoded - began)


def _choose(config: Config, catalogue: Catalogue, inter: Interactions, text: np.ndarray, validation: int,
            prior_weights: np.ndarray, store: checkpoint.TrainingState) -> tuple[int, float]:
    """Epochs and beta that suit the validation events best, learnt without them."""
    if (known := store.result("choose")) is not None:
        return int(known["epochs"]), float(known["beta"])
    recommender = Recommender.build(config, catalogue, text, actions=inter.actions)
    course = Trainer(recommender, inter, np.arange(len(inter)) < validation, prior_weights=prior_weights)
    optimizer = optimiser(config, learning_rate=config.training.learning_rate)
    judge = _Validator(recommender, inter, validation, prior_weights)
    first, curve = store.restore("choose", recommender, optimizer)

    def after(epoch: int, loss: float) -> bool:
        recommender.model.average.swap()
        curve.append(judge.judge())
        recommender.model.average.swap()
        best = _best(curve)
        mark = " *" if best == epoch else ""
        log.info("epoch %d: loss %.4f, validation log-likelihood %.4f%s", epoch + 1, loss, curve[-1][0], mark)
        store.save("choose", recommender, optimizer, epoch + 1, curve)
        return epoch - best < config.training.patience

    if first == 0 or first - 1 - _best(curve) < config.training.patience:
        with bar("finding the number of epochs", total=course.steps * (config.training.epochs - first)) as advance:
            course.run(optimizer, epochs=range(first, config.training.epochs), advance=advance, after=after,
                       log_dir=config.run / "tensorboard" / "choose")
    best = _best(curve)
    # the likelihood is smooth enough to stop by; beta only matters for the ranking, so the ranking chooses it. NDCG on some
    # thousand events is not smooth: the epochs around the best are averaged, and the towers were trained with beta 1, so
    # another must be better by more than chance: what counts is the gain less its standard error
    gain, error = np.mean([row[1] for row in curve[max(best - 1, 0) : best + 2]], axis=0)
    beta = BETAS[int(np.argmax(gain - error))]
    said = ", ".join(f"{b:g}: {g:+.4f} ± {e:.4f}" for b, g, e in zip(BETAS, gain, error, strict=True))
    log.info("NDCG@10 by weight of popularity, against 1: %s", said)
    store.finish("choose", {"epochs": best + 1, "beta": beta})
    return best + 1, beta


def _best(curve: list[Any]) -> int:
    return int(np.argmax([likelihood for likelihood, _ in curve]))


def _fit(config: Config, catalogue: Catalogue, inter: Interactions, text: np.ndarray, prior_weights: np.ndarray, epochs: int,
         store: checkpoint.TrainingState) -> tuple[Recommender, Any]:
    recommender = Recommender.build(config, catalogue, text, actions=inter.actions)
    course = Trainer(recommender, inter, np.ones(len(inter), bool), prior_weights=prior_weights)
    optimizer = optimiser(config, learning_rate=config.training.learning_rate)
    first, curve = store.restore("fit", recommender, optimizer)

    def after(epoch: int, loss: float) -> bool:
        store.save("fit", recommender, optimizer, epoch + 1, curve)
        return True

    with bar("training", total=course.steps * (epochs - first)) as advance:
        logs = config.run / "tensorboard" / "fit"
        course.run(optimizer, epochs=range(first, epochs), advance=advance, after=after, log_dir=logs)
    recommender.model.average.swap()
    return recommender, optimizer


class _Validator:
    """What the validation events say of the recommender's present weights."""

    def __init__(self, recommender: Recommender, inter: Interactions, validation: int, prior_weights: np.ndarray) -> None:
        self._inter = inter
        histories = Histories(inter)
        events = np.arange(validation, len(inter))
        events = events[histories.count(events) > 0]
        if not len(events):
            raise DataError("no user has events both before and in the validation part. Raise training.validation_share.")
        self._events = events[np.linspace(0, len(events), min(JUDGED, len(events)), endpoint=False).astype(np.int64)]
        self._seen = [inter.item[histories.of(event)] for event in self._events]
        recommender.prior = PopularityPrior.counted(inter, validation, weights=prior_weights)
        self._scorer = Scorer(recommender, inter, counted=validation, histories=histories)
        self._log_p = self._scorer.log_p(self._events)

    def judge(self) -> tuple[float, list[list[float]]]:
        """Mean log-likelihood at beta 1; for each of `BETAS` the gain in NDCG@10 over that of 1, and its standard error."""
        self._scorer.refresh()
        likelihood, ndcg = 0.0, np.zeros([len(self._events), len(BETAS)])
        for start in range(0, len(self._events), 256):
            part = slice(start, start + 256)
            items, rows = self._inter.item[self._events[part]], np.arange(len(self._events[part]))
            similarity, log_p = self._scorer.similarity(self._events[part]), self._log_p[part]
            for row, seen in zip(rows, self._seen[part], strict=True):
                similarity[row, seen[seen != items[row]]] = -np.inf
            likelihood += log_likelihood(similarity + BETAS[CALIBRATED] * log_p, items)
            for column, beta in enumerate(BETAS):
                scores = similarity + beta * log_p
                rank = 1 + np.count_nonzero(scores > scores[rows, items][:, None], axis=1)
                ndcg[part, column] = np.where(rank <= 10, 1 / np.log2(rank + 1), 0)
        gain = ndcg - ndcg[:, [CALIBRATED]]
        return likelihood / len(ndcg), [list(gain.mean(0)), list(gain.std(0) / np.sqrt(len(ndcg)))]


def _identity(config: Config, catalogue: Catalogue, inter: Interactions) -> str:
    """Digest of all that training is a function of."""
    sha = hashlib.sha256(f"{config.digest()}{catalogue.digest()}".encode())
    for column in (inter.user, inter.item, inter.time, inter.weight):
        sha.update(np.ascontiguousarray(column).tobytes())
    return sha.hexdigest()


def checkpoint_dir(config: Config) -> Path:
    """Where `tfrec train` leaves its result."""
    return config.run / "checkpoint"
