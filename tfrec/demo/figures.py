"""The figures of the demo's report: what the live versions answered, beside the model as first trained and beside popularity."""
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tfrec.client.client import Client
from tfrec.data.behaviour.histories import Histories
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.items.catalogue import Catalogue
from tfrec.demo.report.titles import title
from tfrec.demo.traffic import AskedEvent
from tfrec.evaluation.baselines import POPULARITY_7D, WEEK, popularity_scorer
from tfrec.evaluation.intervals import UserBootstrap
from tfrec.evaluation.metrics import hits, ndcg
from tfrec.evaluation.prequential import Prequential
from tfrec.evaluation.protocol import rank_events
from tfrec.models.recommender import Recommender
from tfrec.models.scorer import Scorer
from tfrec.retrain import PROMOTED, REJECTED, Retrained

ANSWERS = 5  # that the page shows of a search
COMPARED = 50  # events whose served scores are compared
SEARCHES = ("space battle with robots", "a heist that goes wrong", "animated film for small children")


def round_figures(number: int, events: int, answers: list[AskedEvent], result: Retrained) -> dict[str, Any]:
    """What a round says in the report, before the other models are ranked on its events."""
    seconds = {name: result.seconds.get(name, 0.0) for name in ("read", "train", "evaluate", "export", "verify")}
    return {
        "round": number, "events": events, "asked": len(answers),
        "retrained": _metrics(np.array([a.rank for a in answers])),
        "served_version": answers[0].version if answers else None,
        "retrain_seconds": seconds | {"total": round(sum(seconds.values()), 1)},
        "verdict": result.reason, "promoted": result.outcome == PROMOTED, "outcome": result.outcome, "version": result.version,
    }


def report_figures(found: Prequential, name: str, inter: Interactions, rounds: list[dict[str, Any]], answers: list[AskedEvent],
                   more: Mapping[str, Any]) -> dict[str, Any]:
    """The whole report; `more` is put into it. The rounds get the figures of the model as first trained, and of popularity."""
    end, events, live = found.evaluated.train_end, np.array([a.event for a in answers]), np.array([a.rank for a in answers])
    static = rank_events(inter, events, Scorer(found.trained.recommender, inter, counted=end), train_end=end).rank
    week = rank_events(inter, events, popularity_scorer(inter, window=WEEK), train_end=end).rank
    number = np.repeat([one["round"] for one in rounds], [one["asked"] for one in rounds])
    for one in rounds:
        mine = number == one["round"]
        one["static"], one[POPULARITY_7D] = _metrics(static[mine]), _metrics(week[mine])
    later = number > 1
    gap = UserBootstrap(inter.user[events[later]]).difference(hits(live[later], k=10), hits(static[later], k=10))
    milliseconds = np.array([a.milliseconds for a in answers])
    return found.to_dict() | {
        "data": {"name": name, "users": len(inter.users), "items": len(inter.items), "events": len(inter)},
        "rounds": rounds,
        "paired_difference": {"hr@10": gap.mean, "low": gap.low, "high": gap.high} if gap else None,
        "rejected": sum(one["outcome"] == REJECTED for one in rounds),
        "request_ms": {"p50": float(np.median(milliseconds)), "p99": float(np.quantile(milliseconds, 0.99))},
        **more,
    }


def server_agreement(client: Client, recommender: Recommender, inter: Interactions, events: npt.NDArray[np.int64]) -> float:
    """The largest difference between the scores that a server gives the best ten items and the recommender's own.

    The server has loaded an export of the recommender, so they are one model and differ by rounding alone. It is asked directly:
    a gateway would send along how popular the items are at the moment. So popularity is that of the export on both sides.

    Args:
        client: asks the newest version.
        recommender: whose export that is.
        inter: behaviour, by the recommender's catalogue.
        events: `[n]`, who asks, and when.
    """
    events = events[:COMPARED]
    past = [histories.of(event)[-recommender.config.model.history :] for histories in (Histories(inter),) for event in events]
    found = client.recommend(
        history=[[inter.items[item] for item in inter.item[seen]] for seen in past],
        history_action=[[inter.actions[action] for action in inter.action[seen]] for seen in past],
        history_age_s=[(inter.time[event] - inter.time[seen]).tolist() for event, seen in zip(events, past, strict=True)])
    code = {item: number for number, item in enumerate(inter.items)}
    scores = Scorer(recommender, inter, counted=len(inter), rolls=False)(events)
    return max(abs(float(row[code[item]]) - score) for row, answer in zip(scores, found, strict=True)
               for item, score in zip(answer.items, answer.scores, strict=True))


def example_answers(client: Client, catalogue: Catalogue, inter: Interactions) -> dict[str, Any]:
    """Neighbours of the most popular items, and answers to a few searches, from the newest version."""
    def titles(ids: list[str]) -> list[str]:
        return [title(catalogue.items[catalogue.index[i]]) for i in ids if i]

    def with_text(ids: list[str]) -> list[str]:
        return [i for i in ids if i and catalogue.texts[catalogue.index[i]].strip()][:ANSWERS]

    popular = [inter.items[i] for i in np.argsort(-np.bincount(inter.item, minlength=len(inter.items)), kind="stable")[:4]]
    near = [client.similar([item], k=ANSWERS)[0].items for item in popular]
    # an item without text is found by its popularity alone, which answers nobody's question: the page leaves it out
    found = [client.recommend(history=[[]], query=[text], k=[4 * ANSWERS])[0].items for text in SEARCHES]
    return {
        "neighbours": [{"item": titles([i])[0], "similar": titles(list(s))} for i, s in zip(popular, near, strict=True)],
        "examples": [{"query": text, "answers": titles(with_text(list(a)))} for text, a in zip(SEARCHES, found, strict=True)],
    }


def _metrics(rank: npt.NDArray[np.float64]) -> dict[str, float]:
    return {"hr@10": float(hits(rank, k=10).mean()), "ndcg@10": float(ndcg(rank, k=10).mean()),
            "hr@50": float(hits(rank, k=50).mean())}
