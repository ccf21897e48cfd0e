"""Leave-one-out, the protocol of published tables of sequential recommendation.

Of each user's events in the order of time the last is evaluated, the one before it chooses the number of epochs, and the rest
trains. The history of an evaluated event is what its user did before its second; candidates are the whole catalogue without that
history. Popularity is counted over all events that are not evaluated, and stands still. Users are compared with what others did
later, so these figures say nothing about a service that goes on in time: `prequential.py` does.
"""
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfrec.config import Config
from tfrec.data.behaviour.histories import Histories, by_user
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.items.catalogue import Catalogue
from tfrec.errors import DataError
from tfrec.evaluation.baselines import EASE, ITEM_KNN, POPULARITY, fit_baselines
from tfrec.evaluation.protocol import Bools, Ints, Ranks, Scorer, rank_events
from tfrec.evaluation.scorecard import Scorecard, scorecard
from tfrec.models.scorer import Scorer as ModelScorer
from tfrec.training.progress import bar
from tfrec.training.train import Trained, train

MODEL = "model"
LEAST = 3  # events of a user who validates: one trains, one chooses, one is evaluated


@dataclass(frozen=True)
class LastEvents:
    """What each event is for, `[n]`."""

    evaluated: Bools
    validates: Bools


@dataclass(frozen=True)
class LeaveOneOut:
    """The figures, and the model that they are of."""

    trained: Trained
    ranks: dict[str, Ranks]
    scorecard: Scorecard
    skipped: dict[str, str]  # baselines that were not fitted, with the reason
    train_events: int

    def to_dict(self) -> dict[str, Any]:
        """The figures, ready for JSON."""
        rows = self.scorecard.to_dict()
        return {
            MODEL: rows[MODEL],
            "baselines": {name: row for name, row in rows.items() if name != MODEL},
            "skipped": self.skipped,
            "train_seconds": round(self.trained.seconds, 1),
            "encode_seconds": round(self.trained.encode_seconds, 1),
            "epochs": self.trained.epochs,
            "asked": len(self.ranks[MODEL]),
            "train_events": self.train_events,
        }

    def __rich__(self) -> Any:
        return self.scorecard.to_table(title=f"the last events of {len(self.ranks[MODEL]):,} users, leave-one-out; "
                                             f"trained in {self.trained.seconds:.0f} s")


def left_out(inter: Interactions) -> LastEvents:
    """The last event of each user who has one in an earlier second, and the event before it where there is a third.

    Raises:
        DataError: No user has enough events in different seconds.
    """
    order, histories = by_user(inter), Histories(inter)
    place = np.arange(len(inter))
    last = np.append(np.diff(order.user_begin) != 0, True)[: len(inter)]
    evaluated, validates = np.zeros(len(inter), bool), np.zeros(len(inter), bool)
    ends = place[last]
    ends = ends[histories.count(order.events[ends]) > 0]
    evaluated[order.events[ends]] = True
    before = ends[ends - order.user_begin[ends] >= LEAST - 1] - 1
    before = before[histories.count(order.events[before]) > 0]
    validates[order.events[before]] = True
    if not validates.any():
        raise DataError(f"no event can choose the number of epochs, of {len(inter)} in all. Expected: users with at least "
                        f"{LEAST} events in different seconds, of which the last is evaluated and the one before it chooses. "
                        "Take a longer log, or check that `user` says the same person by the same id, and that `time` is right.")
    return LastEvents(evaluated, validates)


def leave_one_out(config: Config, catalogue: Catalogue, inter: Interactions) -> LeaveOneOut:
    """Train without each user's last event, and rank it by the model, popularity, item-kNN and EASE.

    Args:
        config: of the model; its run directory keeps the text vectors.
        catalogue: candidates, by which `inter` is coded.
        inter: in protocol order.

    Raises:
        DataError: No user has enough events. This is checked before anything is trained.
    """
    parts = left_out(inter)
    known = inter.where(~parts.evaluated)
    trained = train(config, catalogue, known, validates=parts.validates[~parts.evaluated])
    # what is evaluated comes last; each user's events stay in their order, which is all that a history needs
    ordered = inter.where(np.concatenate([np.flatnonzero(~parts.evaluated), np.flatnonzero(parts.evaluated)]))
    histories, events = Histories(ordered), np.arange(len(known), len(ordered))
    baselines = fit_baselines(ordered, train_end=len(known), histories=histories)
    scorers: dict[str, Scorer] = {
        MODEL: ModelScorer(trained.recommender, ordered, counted=len(known), rolls=False, histories=histories),
        POPULARITY: _constant(np.bincount(known.item, minlength=len(inter.items)).astype(np.float64)),
    }
    scorers |= {name: baselines.scorers[name] for name in (ITEM_KNN, EASE) if name in baselines.scorers}
    untouched = np.bincount(known.item, minlength=len(inter.items))[ordered.item[events]] == 0
    ranks = {}
    with bar("evaluating", total=len(scorers)) as advance:
        for name, scorer in scorers.items():
            found = rank_events(ordered, events, scorer, train_end=len(known), histories=histories)
            ranks[name] = replace(found, cold=untouched, untouched=untouched)
            advance(1)
    return LeaveOneOut(trained, ranks, scorecard(ranks, against=POPULARITY), dict(baselines.skipped),
                       int((~parts.evaluated & ~parts.validates).sum()))


def _constant(scores: NDArray[np.float64]) -> Scorer:
    def same(events: Ints) -> NDArray[np.float64]:
        return np.broadcast_to(scores, (len(events), len(scores)))

    return same
