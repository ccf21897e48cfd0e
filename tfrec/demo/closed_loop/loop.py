"""The arms of the closed loop side by side: each has a gateway, a log and a model of its own, and all begin with the same model.

    static          the first model answers throughout; what is popular is counted on
    greedy          the best guesses are shown, and after each round a retrain learns from them
    exploring       slates are drawn, and after each round a retrain learns from them
    control         as exploring, but its gateway is told of clicks at other positions: there is nothing to learn
    control_static  as control, without retrains

The gateways and the model server are processes, asked over HTTP; the retrains are `tfrec.retrain.retrain`, whose versions the
model server swaps in. Every arm's people have the same tastes, come at the same times and roll the same dice.
"""
import logging
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from tfrec.client.client import Client
from tfrec.config import Config, load_config
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.items.catalogue import Catalogue
from tfrec.demo.clock import ReplayClock
from tfrec.demo.closed_loop.figures import ARMS, BESIDE, CONTROLS, EXPLORING, loop_figures
from tfrec.demo.closed_loop.people import People
from tfrec.demo.closed_loop.visits import CLICKED, Click, Seen, Visits, together
from tfrec.demo.retraining import retrain_when_logged
from tfrec.demo.servers import CLOCK, HOST, SETTINGS, gateway_process, wait_until
from tfrec.demo.traffic import GatewayClient
from tfrec.errors import ServingError
from tfrec.model_server.options import ServeOptions
from tfrec.model_server.process import ServerProcess, free_port
from tfrec.release.export import export
from tfrec.release.publish import publish
from tfrec.release.verify import Verifier
from tfrec.retrain import PROMOTED, Retrained, Session
from tfrec.training.train import train

log = logging.getLogger(__name__)

EXPLORERS = (EXPLORING, *CONTROLS)
FIRST = 12  # films that each person rated first, which the first model learns
DAY = 86_400  # seconds of a round
SETTINGS_OF_ALL = (
    "model.dim=32", "model.history=20", "model.id_slots=1024", "model.dropout=0.1", "training.epochs=12", "serving.max_k=50",
    f"reward.weights={{{CLICKED}=1.0}}", "data.attribution_hours=0.5",
    "retrain.epochs=4", "retrain.learning_rate=0.01", "retrain.slate_batch=64", "retrain.gate_share=0.1",
    # the gate is the default one but for this: what people liked before the loop may be forgotten, as tastes change
    "retrain.forget_margin=1",
    "gateway.temperature=0.5", "gateway.epsilon=0.1", "gateway.model_batch=64",
    "monitors.in_job=false",  # a round is a day, and each look would ask its requests again
)


@dataclass(frozen=True)
class Plan:
    """How long the loop runs."""

    people: int = 300
    least_ratings: int = 100  # of a film: 151 of MovieLens. What a few thousand requests cannot tell apart is left out
    rounds: int = 7
    turns: int = 5  # of a round: everybody comes once in each
    drift: int = 2  # rounds before the drift
    arms: tuple[str, ...] = ARMS
    settings: tuple[str, ...] = ()  # beside those of the demo

    @property
    def steps(self) -> int:
        """The first model, each round of requests, and each retrain."""
        return 1 + self.rounds + (self.rounds - 1) * sum(arm in BESIDE for arm in self.arms)


@dataclass
class Played:
    """What the loop saw."""

    people: int
    films: int
    drift: int  # rounds before the drift
    rounds: dict[str, list[Seen]]  # of each arm
    retrains: dict[str, list[Retrained]]  # of each arm that has any

    def figures(self) -> dict[str, Any]:
        """Those of `loop_figures`, how large the world was, and of each arm how many retrains there were and went live."""
        return loop_figures(self.rounds, drift=self.drift) | {
            "people": self.people, "items": self.films,
            "retrains": {arm: len(results) for arm, results in self.retrains.items()},
            "promoted": {arm: sum(one.outcome == PROMOTED for one in results) for arm, results in self.retrains.items()},
        }


@dataclass(frozen=True)
class World:
    """The films, the people, and what they did before the loop."""

    catalogue: Catalogue
    people: People
    before: Interactions  # each person's first films
    past: tuple[tuple[Click, ...], ...]

    @classmethod
    def of(cls, catalogue: Catalogue, inter: Interactions, *, people: int, least_ratings: int, seed: int) -> "World":
        """The films that enough people rated, and the people who rated most of them."""
        count = np.bincount(inter.item, minlength=len(inter.items))
        well_known = [inter.items[item] for item in np.flatnonzero(count >= least_ratings)]
        films = Catalogue([catalogue.items[catalogue.index[name]] for name in well_known])
        kept = (count >= least_ratings)[inter.item]
        most = np.argsort(-np.bincount(inter.user[kept], minlength=len(inter.users)), kind="stable")[:people]
        number = np.full(len(inter.users), -1)
        number[np.sort(most)] = np.arange(len(most))
        kept &= number[inter.user] >= 0
        item = np.array([films.index.get(name, -1) for name in inter.items])[inter.item]
        n = int(kept.sum())
        rated = Interactions(number[inter.user[kept]].astype(np.int32), item[kept].astype(np.int32), inter.time[kept],
                             np.zeros(n, np.int16), np.ones(n, np.float32), tuple(map(str, range(len(most)))),
                             tuple(films.ids.tolist()), (CLICKED,))
        past: list[list[Click]] = [[] for _ in most]
        first = np.zeros(len(rated), bool)
        for event, (person, film, second) in enumerate(zip(rated.user.tolist(), rated.item.tolist(), rated.time.tolist(),
                                                           strict=True)):
            if len(past[person]) < FIRST:
                past[person].append((film, second))
                first[event] = True
        return cls(films, People(rated, seed=seed), rated.where(first), tuple(map(tuple, past)))


def play(run: Path, catalogue: Catalogue, inter: Interactions, *, seed: int = 0, plan: Plan | None = None,
         advance: Callable[[int], None] = lambda _: None) -> Played:
    """Train the first model, and play all rounds in all arms.

    Args:
        run: a directory for this loop; it may hold text vectors.
        catalogue: the films.
        inter: everybody's ratings.
        seed: of the world, of training, and of who comes when.
        plan: how long it runs.
        advance: is called after each of the `steps` of the plan.
    """
    plan = plan or Plan()
    world = World.of(catalogue, inter, people=plan.people, least_ratings=plan.least_ratings, seed=seed)
    first = _first_model(run, world, seed, plan)
    advance(1)
    start = int(world.before.time[-1]) + DAY
    played = Played(len(world.people), len(world.catalogue), plan.drift, {arm: [] for arm in plan.arms},
                    {arm: [] for arm in plan.arms if arm in BESIDE})
    configs = {arm: _arm(first, arm) for arm in plan.arms}
    with (_served(configs, start) as (gateways, client_of, clock_of), ThreadPoolExecutor(len(plan.arms)) as pool,
          Session() as session):
        visits = {arm: Visits(gateways[arm], world.people, world.catalogue.ids.tolist(), world.past, explore=arm in EXPLORERS,
                              permuted=arm in CONTROLS, seed=seed, length=first.model.history) for arm in plan.arms}
        for number in range(plan.rounds):
            if number == plan.drift:
                world.people.drift()
            begin = start + number * DAY

            def visit(arm: str, number: int = number, begin: int = begin) -> Seen:
                found = []
                visits[arm].next_day()
                for turn in range(plan.turns):
                    second = begin + turn * DAY // plan.turns
                    clock_of[arm].tell(second)
                    found.append(visits[arm].turn(number * plan.turns + turn, second))
                clock_of[arm].tell(begin + DAY - 1)
                return together(found)

            for arm, shown in zip(plan.arms, pool.map(visit, plan.arms), strict=True):
                played.rounds[arm].append(shown)
                log.info("round %d, %s: %.3f clicks a request, best %.3f", number + 1, arm, shown.value.mean(), shown.best.mean())
            advance(1)
            if number + 1 < plan.rounds:
                for arm, results in played.retrains.items():
                    clicked = sum(int(shown.clicked.sum()) for shown in played.rounds[arm])
                    results.append(retrain_when_logged(configs[arm], client_of[arm], session, outcomes=clicked,
                                                       now=begin + DAY - 1, seed=number))
                    log.info("round %d, %s: %s. %s", number + 1, arm, results[-1].outcome, results[-1].reason)
                    advance(1)
    return played


def _first_model(run: Path, world: World, seed: int, plan: Plan) -> Config:
    """Train and publish the model with which every arm begins."""
    run.mkdir(parents=True, exist_ok=True)
    items = run / "catalogue.jsonl"
    config = load_config(None, [f"run={run}", f"data.items={items}", f"data.interactions={run / 'base.parquet'}",
                                f"training.seed={seed}", *SETTINGS_OF_ALL, *plan.settings])
    world.catalogue.write(items)
    pq.write_table(world.before.to_table(), config.data.interactions)
    trained = train(config, world.catalogue, world.before, resume=False)
    with Verifier() as verifier:
        first = export(trained.recommender, run / "export", created_at=int(world.before.time[-1]), optimizer=trained.optimizer)
        publish(first, config.models_dir, verifier=verifier)
    return config


def _arm(first: Config, arm: str) -> Config:
    """A run directory that holds the first model, published under the arm's name."""
    run = first.run / arm
    config = first.model_copy(update={"run": run, "serving": first.serving.model_copy(update={"model_name": arm})})
    shutil.copytree(first.models_dir, config.models_dir)
    (run / SETTINGS).write_text(config.to_toml())
    return config


@contextmanager
def _served(configs: dict[str, Config], second: int) -> Iterator[
        tuple[dict[str, GatewayClient], dict[str, Client], dict[str, ReplayClock]]]:
    """One model server for all arms, and a gateway for each; stopped after the block."""
    file = next(iter(configs.values())).run.parent / "models.config"
    listed = " ".join(f'config {{ name: "{arm}" base_path: "{config.models_dir.absolute()}" model_platform: "tensorflow" }}'
                      for arm, config in configs.items())
    file.write_text(f"model_config_list {{ {listed} }}")
    with ExitStack() as stack:
        server = ServerProcess(ServeOptions(port=free_port(), model_config_file=str(file))).begin()
        stack.callback(server.stop)
        gateways, clients, clocks = {}, {}, {}
        for arm, config in configs.items():
            clocks[arm] = ReplayClock(config.run / CLOCK)
            stack.callback(clocks[arm].close)
            clocks[arm].tell(second)
            port = stack.enter_context(gateway_process(config.run, server.address))
            gateways[arm] = GatewayClient(HOST, port)
            stack.callback(gateways[arm].close)
            clients[arm] = stack.enter_context(Client(server.address, model=arm, timeout=10.0))
        server.wait()
        for arm, gateway in gateways.items():
            wait_until(lambda gateway=gateway: _answers(gateway), f"an answer of the gateway of {arm}")  # type: ignore[misc]
        yield gateways, clients, clocks


def _answers(gateway: GatewayClient) -> bool:
    try:
        gateway.post("/v1/similar", {"item": "1", "k": 1})  # of which nothing is logged
    except ServingError:
        return False
    return True
