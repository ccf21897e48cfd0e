"""Train on the first part of a log and be asked about the rest: interactions in, the model and its peers in one table out.

*static*: weights as at the split, popularity rolls, since counting is not training. *frozen*: popularity stays as well. The peers
are rolling popularity, 7-day popularity, item-kNN and EASE, all by the protocol of `protocol.py`.
"""
from dataclasses import dataclass
from typing import Any

from tfrec.config import Config
from tfrec.data.behaviour.histories import Histories
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.items.catalogue import Catalogue
from tfrec.evaluation.baselines import EASE, fit_baselines
from tfrec.evaluation.protocol import AskedEvents, Ranks, asked_events, nothing_asked, rank_events
from tfrec.evaluation.scorecard import Scorecard, scorecard
from tfrec.models.scorer import Scorer
from tfrec.training.progress import bar
from tfrec.training.train import Trained, train

STATIC, FROZEN = "static", "frozen"
SLATE = 10  # items of a slate for coverage and diversity


@dataclass(frozen=True)
class Prequential:
    """The figures, and the model that gave them."""

    asked: AskedEvents
    trained: Trained
    ranks: dict[str, Ranks]
    scorecard: Scorecard
    skipped: dict[str, str]  # peers that were not fitted, with the reason

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON: static, frozen, baselines, train_seconds and what was measured on."""
        rows = self.scorecard.to_dict()
        return {
            STATIC: rows[STATIC],
            FROZEN: rows[FROZEN],
            "baselines": {name: row for name, row in rows.items() if name not in (STATIC, FROZEN)},
            "skipped": self.skipped,
            "train_seconds": round(self.trained.seconds, 1),
            "encode_seconds": round(self.trained.encode_seconds, 1),
            "epochs": self.trained.epochs,
            "asked": len(self.asked),
            "train_events": self.asked.train_end,
        }

    def __rich__(self) -> Any:
        return self.scorecard.to_table(title=f"{len(self.asked):,} events asked, trained in {self.trained.seconds:.0f} s")


def prequential(config: Config, catalogue: Catalogue, inter: Interactions) -> Prequential:
    """Train on the first 80% of `inter`, rank the asked events of the rest by the model and its peers.

    Args:
        config: of the model; its run directory keeps the text vectors.
        catalogue: candidates, by which `inter` is coded.
        inter: in protocol order.

    Raises:
        DataError: no event can be asked; said before anything is trained.
    """
    asked, histories = asked_events(inter), Histories(inter)
    if (error := nothing_asked(inter, asked)) is not None:
        raise error
    trained = train(config, catalogue, inter.slice(0, asked.train_end))
    against = fit_baselines(inter, train_end=asked.train_end, histories=histories)
    scorers = {
        name: Scorer(trained.recommender, inter, counted=asked.train_end, rolls=name == STATIC, histories=histories)
        for name in (STATIC, FROZEN)
    } | dict(against.scorers)
    ranks = {}
    with bar("asking", total=len(scorers)) as advance:
        for name, scorer in scorers.items():
            ranks[name] = rank_events(inter, asked.events, scorer, train_end=asked.train_end, top=SLATE, histories=histories)
            advance(1)
    table = scorecard(ranks, against=EASE if EASE in ranks else None, vectors=trained.recommender.text)
    return Prequential(asked, trained, ranks, table, dict(against.skipped))
