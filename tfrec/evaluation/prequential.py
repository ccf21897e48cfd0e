"""Train on the first part of a log and evaluate on the rest, beside the baselines.

The model has two rows. *static* keeps the weights of the split while popularity rolls on, since counting is not training;
*frozen* keeps popularity as well. `protocol.py` has the rules and `baselines.py` the other rows.
"""
from dataclasses import dataclass
from typing import Any

from tfrec.config import Config
from tfrec.data.behaviour.histories import Histories
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.items.catalogue import Catalogue
from tfrec.evaluation.baselines import EASE, fit_baselines
from tfrec.evaluation.protocol import EvaluatedEvents, Ranks, evaluated_events, no_evaluated_event, rank_events
from tfrec.evaluation.scorecard import Scorecard, scorecard
from tfrec.models.scorer import Scorer
from tfrec.training.progress import bar
from tfrec.training.train import Trained, train

STATIC, FROZEN = "static", "frozen"
SLATE = 10  # items of a slate for coverage and diversity


@dataclass(frozen=True)
class Prequential:
    """The figures, and the model that they are of."""

    evaluated: EvaluatedEvents
    trained: Trained
    ranks: dict[str, Ranks]
    scorecard: Scorecard
    skipped: dict[str, str]  # baselines that were not fitted, with the reason

    def to_dict(self) -> dict[str, Any]:
        """The figures, ready for JSON."""
        rows = self.scorecard.to_dict()
        return {
            STATIC: rows[STATIC],
            FROZEN: rows[FROZEN],
            "baselines": {name: row for name, row in rows.items() if name not in (STATIC, FROZEN)},
            "skipped": self.skipped,
            "train_seconds": round(self.trained.seconds, 1),
            "encode_seconds": round(self.trained.encode_seconds, 1),
            "epochs": self.trained.epochs,
            "asked": len(self.evaluated),
            "train_events": self.evaluated.train_end,
        }

    def __rich__(self) -> Any:
        return self.scorecard.to_table(title=f"{len(self.evaluated):,} events evaluated, trained in {self.trained.seconds:.0f} s")


def prequential(config: Config, catalogue: Catalogue, inter: Interactions) -> Prequential:
    """Train on the first 80% of `inter`; rank the evaluated events of the rest by the model and the baselines.

    Args:
        config: of the model; its run directory keeps the text vectors.
        catalogue: candidates, by which `inter` is coded.
        inter: in protocol order.

    Raises:
        DataError: no event can be evaluated. This is checked before anything is trained.
    """
    evaluated, histories = evaluated_events(inter), Histories(inter)
    if (error := no_evaluated_event(inter, evaluated)) is not None:
        raise error
    trained = train(config, catalogue, inter.slice(0, evaluated.train_end))
    baselines = fit_baselines(inter, train_end=evaluated.train_end, histories=histories)
    scorers = {
        name: Scorer(trained.recommender, inter, counted=evaluated.train_end, rolls=name == STATIC, histories=histories)
        for name in (STATIC, FROZEN)
    } | dict(baselines.scorers)
    ranks = {}
    with bar("evaluating", total=len(scorers)) as advance:
        for name, scorer in scorers.items():
            ranks[name] = rank_events(inter, evaluated.events, scorer, train_end=evaluated.train_end, top=SLATE,
                                      histories=histories)
            advance(1)
    table = scorecard(ranks, against=EASE if EASE in ranks else None, vectors=trained.recommender.text)
    return Prequential(evaluated, trained, ranks, table, dict(baselines.skipped))
