"""The whole loop on recorded behaviour: train, export, publish, serve, replay the rest as live traffic, retrain after each round.

Then the closed loop (`closed_loop/`): simulated people over the same catalogue, who act on what they are shown.

Weights and sockets are real: the gateway and the model server are processes of their own. Each round is scored on the same asked
events for the version that was live, for the model as first trained (*static*: its weights stay, its popularity rolls) and for
rolling 7-day popularity. Slate items that were not chosen are no negatives, because the person never saw them.
"""
import logging
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from tfrec.config import Config, load_config
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.items.catalogue import Catalogue
from tfrec.demo.closed_loop.loop import Plan, play
from tfrec.demo.figures import example_answers, report_figures, round_figures, server_agreement
from tfrec.demo.report import write_report
from tfrec.demo.retraining import retrain_when_logged
from tfrec.demo.servers import HOST, SETTINGS, Servers
from tfrec.demo.traffic import Traffic, Visitor
from tfrec.errors import UsageError
from tfrec.evaluation.prequential import STATIC, Prequential, prequential
from tfrec.evaluation.protocol import hash_sample, with_history
from tfrec.models.recommender import TEXT_VECTORS
from tfrec.release.export import export
from tfrec.release.lineage import Lineage
from tfrec.release.publish import publish
from tfrec.release.verify import Verifier
from tfrec.retrain import Session
from tfrec.retrain.result import timed
from tfrec.training.progress import bar

log = logging.getLogger(__name__)

ASKED = 1000  # events of a round that are asked, at most


def demo(run: Path, catalogue: Catalogue, inter: Interactions, *, name: str, rounds: int = 4,
         closed_loop: bool = False) -> tuple[dict[str, Any], Path]:
    """Walk the loop and write `run/report.html` and `run/report.json`.

    Args:
        run: the run directory; an earlier demo's is cleared, its text vectors kept.
        catalogue: the items.
        inter: behaviour, of which the first 80% train and the rest is replayed.
        name: of the data, for the report.
        rounds: how many times the model is retrained.
        closed_loop: whether simulated people follow.

    Returns:
        The report, and the path of its page.
    """
    config = _prepare(run, catalogue, inter)
    steps: dict[str, float] = {}
    with timed(steps, "train and evaluate"):
        found = prequential(config, catalogue, inter)
    end = found.evaluated.train_end
    rows, answers, failed = [], [], 0
    with ExitStack() as stack:
        servers, session = _go_live(stack, config, found, inter, steps), stack.enter_context(Session())
        agreement = server_agreement(servers.client, found.trained.recommender, inter, found.evaluated.events)
        traffic = Traffic(servers.gateway, inter, config.model.history, servers.clock.tell)
        edges = np.linspace(end, len(inter), rounds + 1).astype(int).tolist()
        for number, (start, stop) in enumerate(zip(edges[:-1], edges[1:], strict=True), 1):
            asked = hash_sample(inter, with_history(inter, np.arange(start, stop)), limit=ASKED)
            label = f"round {number} of {rounds}: live traffic"
            with timed(steps, "live traffic"), bar(label, total=stop - start) as advance:
                given = traffic.play(start, stop, asked.tolist(), advance=advance)
            with timed(steps, "retrain"), Visitor(HOST, servers.gateway_port) as visitor:
                result = retrain_when_logged(config, servers.client, session, outcomes=stop - end,
                                             now=int(inter.time[stop - 1]) + 1, seed=number)
            failed += visitor.failed
            log.info("round %d: %s. %s", number, result.outcome, result.reason)
            rows.append(round_figures(number, stop - start, given, result))
            answers += given
        examples = example_answers(servers.client, catalogue, inter)
    with timed(steps, "score static and popularity"):
        more = {"failed_requests": failed + traffic.failed, "server_agreement": agreement, "steps": steps, **examples}
        report = report_figures(found, name, inter, rows, answers, more)
    if closed_loop:
        with timed(steps, "closed loop"):
            report["closed_loop"] = _closed_loop(config.run, catalogue, inter)
    return report, write_report(report, config.run)


def _closed_loop(run: Path, catalogue: Catalogue, inter: Interactions) -> dict[str, Any]:
    """The figures of a closed loop over the catalogue, in a directory of its own."""
    plan, directory = Plan(), run / "closed_loop"
    directory.mkdir()
    shutil.copy(run / TEXT_VECTORS, directory)  # a part of the same texts
    with bar("closed loop", total=plan.steps) as advance:
        return play(directory, catalogue, inter, plan=plan, advance=advance).figures()


def _prepare(run: Path, catalogue: Catalogue, inter: Interactions) -> Config:
    """The settings of the demo, in an empty run directory that has its catalogue."""
    vectors = run / TEXT_VECTORS
    if run.exists():
        if not (run / SETTINGS).is_file() and any(run.iterdir()):
            raise UsageError(f"{run} exists and is no demo's. Name another with --run, or remove it.")
        for path in run.iterdir():
            if path != vectors:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    run.mkdir(parents=True, exist_ok=True)
    items = run / "catalogue.jsonl"
    weights = ", ".join(f'"{action}" = 1.0' for action in inter.actions)
    config = load_config(None, [f"run={run}", f"data.items={items}", f"data.interactions={run / 'base.parquet'}",
                                # nobody saw the slates of a replay, so what was not chosen was not skipped
                                f"reward.weights={{{weights}}}", "retrain.objective=softmax",
                                "monitors.replay_hours=0"])  # a replay passes months within minutes
    catalogue.write(items)
    (run / SETTINGS).write_text(config.to_toml())
    return config


def _go_live(stack: ExitStack, config: Config, found: Prequential, inter: Interactions, steps: dict[str, float]) -> Servers:
    """Export the trained model and publish it; the servers start meanwhile, and answer on return."""
    end = found.evaluated.train_end
    second = int(inter.time[end - 1])
    with Verifier() as verifier:
        with timed(steps, "export"):
            first = export(found.trained.recommender, config.run / "export", created_at=second,
                           lineage=Lineage(scorecard=found.to_dict()[STATIC]), optimizer=found.trained.optimizer)
            pq.write_table(inter.slice(0, end).to_table(), config.data.interactions)
        with timed(steps, "verify and publish"):
            servers = stack.enter_context(Servers.begun(config, second=second))
            publish(first, config.models_dir, verifier=verifier)
    with timed(steps, "start servers"):
        servers.wait()
    return servers
