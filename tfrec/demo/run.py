"""The whole loop on recorded behaviour: train, export, publish, serve, replay the rest as live traffic, retrain after each round.

Real weights, real sockets: the gateway and the model server are processes of their own. Each round is scored on the same asked
events for the version that was live, the model as first trained (*static*: its weights stay, its popularity rolls) and rolling
7-day popularity. Slate items that were not chosen are no negatives: the person never saw them.
"""
import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from tfrec.client.client import Client
from tfrec.config import Config, load_config
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.behaviour.merge import to_table
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.items.catalogue import Catalogue
from tfrec.demo.clock import ReplayClock
from tfrec.demo.report import write_report
from tfrec.demo.report.titles import title
from tfrec.demo.traffic import AskedEvent, GatewayClient, Traffic, Visitor
from tfrec.errors import ServingError, UsageError
from tfrec.evaluation.baselines import POPULARITY_7D, WEEK, popularity_scorer
from tfrec.evaluation.intervals import UserBootstrap
from tfrec.evaluation.metrics import hits, ndcg
from tfrec.evaluation.prequential import STATIC, Prequential, prequential
from tfrec.evaluation.protocol import hash_sample, rank_events, with_history
from tfrec.model_server.options import ServeOptions
from tfrec.model_server.process import ServerProcess, free_port
from tfrec.models.scorer import Scorer
from tfrec.release.export import export
from tfrec.release.lineage import Lineage
from tfrec.release.publish import publish
from tfrec.release.verify import Verifier
from tfrec.retrain import PROMOTED, REJECTED, Retrained, retrain
from tfrec.training.progress import bar

log = logging.getLogger(__name__)

ANSWERS = 5  # that the page shows of a search
ASKED = 1000  # events of a round that are asked, at most
MARK = "demo.toml"  # in a run directory: it is a demo's, and the next demo may clear it
CLOCK = "clock"  # in a run directory: the second in which the replay is
GATEWAY_LOG = "gateway.log"
HOST = "127.0.0.1"
WAIT_SECONDS = 180.0  # a busy machine takes its time
SEARCHES = ("space battle with robots", "a heist that goes wrong", "animated film for small children")


def demo(run: Path, catalogue: Catalogue, inter: Interactions, *, name: str, rounds: int = 4) -> tuple[dict[str, Any], Path]:
    """Walk the loop and write `run/report.html` and `run/report.json`.

    Args:
        run: the run directory; an earlier demo's is cleared, its text vectors kept.
        catalogue: the items.
        inter: behaviour, of which the first 80% train and the rest is replayed.
        name: of the data, for the report.
        rounds: how often the model is retrained.

    Returns:
        The report, and the path of its page.
    """
    config = _prepare(run, catalogue, inter)
    steps: dict[str, float] = {}
    with _timed(steps, "train and evaluate"):
        found = prequential(config, catalogue, inter)
    static = found.trained.recommender
    end = found.evaluated.train_end
    options = ServeOptions(
        port=free_port(), model_name=config.serving.model_name, model_base_path=str(config.models_dir.absolute()))
    with ExitStack() as stack:
        with Verifier() as verifier:
            with _timed(steps, "export"):
                first = export(static, config.run / "export", created_at=int(inter.time[end - 1]),
                               lineage=Lineage(scorecard=found.to_dict()[STATIC]), optimizer=found.trained.optimizer)
                pq.write_table(to_table(inter.slice(0, end)), config.data.interactions)
            with _timed(steps, "verify and publish"):
                clock = ReplayClock(config.run / CLOCK)
                stack.callback(clock.close)
                clock.tell(int(inter.time[end - 1]))
                # both get ready meanwhile
                port = stack.enter_context(_gateway(config, f"{HOST}:{options.port}"))
                server = ServerProcess(options).begin()
                stack.callback(server.stop)
                publish(first, config.models_dir, verifier=verifier)
        with _timed(steps, "start servers"):
            server.wait()
            client = stack.enter_context(Client(server.address, model=config.serving.model_name, timeout=10.0))
            gateway = GatewayClient(HOST, port)
            stack.callback(gateway.close)
            _wait(lambda: _answers(gateway), f"an answer of the gateway (see {config.run / GATEWAY_LOG})")
        traffic = Traffic(gateway, inter, config.model.history, clock.tell)
        rows, answers, failed = [], [], 0
        edges = np.linspace(end, len(inter), rounds + 1).astype(int)
        for number, (start, stop) in enumerate(zip(edges[:-1], edges[1:], strict=True), 1):
            asked = hash_sample(inter, with_history(inter, np.arange(start, stop)), limit=ASKED)
            with _timed(steps, "live traffic"), bar(f"round {number} of {rounds}: live traffic", total=stop - start) as advance:
                given = traffic.play(start, stop, asked.tolist(), advance=advance)
            with _timed(steps, "retrain"), Visitor(HOST, port) as visitor:
                _wait(partial(_logged, FeedbackLog(config.log_dir), expected=stop - end), f"{stop - end} outcomes in the log")
                result = retrain(config, now=int(inter.time[stop - 1]) + 1, seed=number)
                _wait(partial(_loaded, client, result.version), f"version {result.version} in the model server")
            failed += visitor.failed
            log.info("round %d: %s. %s", number, result.outcome, result.reason)
            rows.append(_round(number, start, stop, given, result))
            answers += given
        examples = _examples(client, catalogue, inter)
    with _timed(steps, "score static and popularity"):
        report = _report(found, name, inter, rows, answers, failed + traffic.failed, steps, examples)
    page = write_report(report, config.run)
    return report, page


def _prepare(run: Path, catalogue: Catalogue, inter: Interactions) -> Config:
    vectors = run / "text_vectors.npz"
    if run.exists():
        if not (run / MARK).is_file() and any(run.iterdir()):
            raise UsageError(f"{run} exists and is no demo's. Name another with --run, or remove it.")
        for path in run.iterdir():
            if path != vectors:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    run.mkdir(parents=True, exist_ok=True)
    items = run / "catalogue.jsonl"
    weights = ", ".join(f'"{action}" = 1.0' for action in inter.actions)
    config = load_config(None, [f"run={run}", f"data.items={items}", f"data.interactions={run / 'base.parquet'}",
                                f"reward.weights={{{weights}}}"])
    catalogue.write(items)
    (run / MARK).write_text(config.to_toml())
    return config


@contextmanager
def _timed(steps: dict[str, float], name: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    steps[name] = round(steps.get(name, 0.0) + time.monotonic() - began, 1)


@contextmanager
def _gateway(config: Config, server: str) -> Iterator[int]:
    """The gateway in a process of its own; yields its port, on which it will soon listen."""
    port = free_port()
    words = [sys.executable, "-m", "tfrec.demo.gateway", str(config.run / MARK), server, str(port), str(config.run / CLOCK)]
    with (config.run / GATEWAY_LOG).open("wb") as out:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(30)


def _answers(gateway: GatewayClient) -> bool:
    try:
        gateway.recommend({"user": "demo", "k": 1})
    except ServingError:
        return False
    return True


def _logged(feedback: FeedbackLog, *, expected: int) -> bool:
    """Whether the gateway's committer has moved every acknowledged outcome into the log."""
    return bool(feedback.read("outcomes").num_rows >= expected)


def _loaded(client: Client, version: int) -> bool:
    return any(status.version == version and status.state == "AVAILABLE" for status in client.status())


def _wait(until: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not until():
        if time.monotonic() > deadline:
            raise ServingError(f"demo: waited {WAIT_SECONDS:g} s in vain for {what}.")
        time.sleep(0.1)


def _round(number: int, start: int, stop: int, given: list[AskedEvent], result: Retrained) -> dict[str, Any]:
    seconds = {name: result.seconds.get(name, 0.0) for name in ("read", "train", "evaluate", "export", "verify")}
    return {
        "round": number, "events": int(stop - start), "asked": len(given),
        "retrained": _metrics(np.array([a.rank for a in given])),
        "served_version": given[0].version if given else None,
        "retrain_seconds": seconds | {"total": round(sum(seconds.values()), 1)},
        "verdict": result.reason, "promoted": result.outcome == PROMOTED, "outcome": result.outcome, "version": result.version,
    }


def _metrics(rank: np.ndarray) -> dict[str, float]:
    return {"hr@10": float(hits(rank, k=10).mean()), "ndcg@10": float(ndcg(rank, k=10).mean()),
            "hr@50": float(hits(rank, k=50).mean())}


def _report(found: Prequential, name: str, inter: Interactions, rows: list[dict[str, Any]], answers: list[AskedEvent],
            failed: int, steps: dict[str, float], examples: Mapping[str, Any]) -> dict[str, Any]:
    end = found.evaluated.train_end
    events = np.array([a.event for a in answers])
    live = np.array([a.rank for a in answers])
    scorer = Scorer(found.trained.recommender, inter, counted=end)
    static = rank_events(inter, events, scorer, train_end=end).rank
    week = rank_events(inter, events, popularity_scorer(inter, window=WEEK), train_end=end).rank
    number = np.repeat([row["round"] for row in rows], [row["asked"] for row in rows])
    for row in rows:
        mine = number == row["round"]
        row["static"], row[POPULARITY_7D] = _metrics(static[mine]), _metrics(week[mine])
    later = number > 1
    gap = UserBootstrap(inter.user[events[later]]).difference(hits(live[later], k=10), hits(static[later], k=10))
    milliseconds = np.array([a.milliseconds for a in answers])
    return found.to_dict() | {
        "data": {"name": name, "users": len(inter.users), "items": len(inter.items), "events": len(inter)},
        "rounds": rows,
        "paired_difference": {"hr@10": gap.mean, "low": gap.low, "high": gap.high} if gap else None,
        "rejected": sum(row["outcome"] == REJECTED for row in rows),
        "failed_requests": failed,
        "request_ms": {"p50": float(np.median(milliseconds)), "p99": float(np.quantile(milliseconds, 0.99))},
        "server_agreement": _agreement(scorer, inter, [a for a in answers if a.version == answers[0].version][:50]),
        "steps": steps,
        **examples,
    }


def _agreement(scorer: Scorer, inter: Interactions, answers: list[AskedEvent]) -> float:
    """Largest difference between the server's scores of the first ten and the offline scorer's: they are one model."""
    code = {item: i for i, item in enumerate(inter.items)}
    scores = scorer(np.array([a.event for a in answers]))
    return max(abs(float(row[code[item]]) - score) for row, a in zip(scores, answers, strict=True)
               for item, score in list(zip(a.items, a.scores, strict=True))[:10])


def _examples(client: Client, catalogue: Catalogue, inter: Interactions) -> dict[str, Any]:
    """Neighbours of the most popular items, and answers to a few searches, from the live version."""
    def titles(ids: list[str]) -> list[str]:
        return [title(catalogue.items[catalogue.index[i]]) for i in ids if i]

    def with_text(ids: list[str]) -> list[str]:
        return [i for i in ids if i and catalogue.texts[catalogue.index[i]].strip()][:ANSWERS]

    popular = [inter.items[i] for i in np.argsort(-np.bincount(inter.item, minlength=len(inter.items)), kind="stable")[:4]]
    near = [client.similar([item], k=ANSWERS)[0].items for item in popular]
    # an item without text has only its popularity to come by, which answers nobody's question: the page leaves it out
    found = [client.recommend(history=[[]], query=[text], k=[4 * ANSWERS])[0].items for text in SEARCHES]
    return {
        "neighbours": [{"item": titles([i])[0], "similar": titles(list(s))} for i, s in zip(popular, near, strict=True)],
        "examples": [{"query": text, "answers": titles(with_text(list(a)))} for text, a in zip(SEARCHES, found, strict=True)],
    }
