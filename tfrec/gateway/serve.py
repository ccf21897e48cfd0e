"""Starts the gateway of a run: connects the model server and the log, restores what users did before, and serves."""
import gc
import logging
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pyarrow as pa
import uvicorn
from fastapi import FastAPI

from tfrec.client.client import Client
from tfrec.config import Config, GatewayConfig
from tfrec.data.behaviour.first_seen import first_seen_in_file
from tfrec.data.behaviour.user_table import read_users
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.write_ahead_log import WriteAheadFile
from tfrec.data.feedback_log.writer import LogWriter
from tfrec.data.items.catalogue import read_catalogue
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.people.erasures import Erasures, load_people
from tfrec.data.people.pseudonym import Pseudonyms
from tfrec.data.people.queries import query_keeper
from tfrec.erasure.forget import forget
from tfrec.errors import TfrecError
from tfrec.experiments.state import StateFile
from tfrec.gateway.app import create_app
from tfrec.gateway.arms.assigned import Experiments
from tfrec.gateway.arms.watch import ExperimentWatch
from tfrec.gateway.console.console import Console
from tfrec.gateway.erasures import ErasureWatch
from tfrec.gateway.fleet.peers import NoPeers, Peers
from tfrec.gateway.fleet.redis_peers import RedisPeers, name_in_redis
from tfrec.gateway.history import UserHistories
from tfrec.gateway.http.connections import Connections, open_files
from tfrec.gateway.http.declared_features import DeclaredFeatures
from tfrec.gateway.http.keys import EXPLAIN, FORGET, REVIEW, ROLES, Keys
from tfrec.gateway.http.time_limits import TimeLimits
from tfrec.gateway.metrics import Metrics
from tfrec.gateway.popularity_by_label import PopularityByLabel
from tfrec.gateway.readiness import Readiness
from tfrec.gateway.routing.known_columns import KnownColumns
from tfrec.gateway.routing.router import Router
from tfrec.gateway.rules.floors import FLOORS
from tfrec.gateway.rules.held_items import HeldItems
from tfrec.gateway.rules.rules_file import RulesFile
from tfrec.gateway.run_metrics import RunWatch
from tfrec.gateway.verbs import Gateway
from tfrec.release.follow import follow_in_background
from tfrec.release.publish import newest_dir
from tfrec.release.retention import warn_of_labels

log = logging.getLogger(__name__)
_LOCAL = ("127.0.0.1", "::1", "localhost")


def serve_gateway(
    config: Config, *, model_server: str = "127.0.0.1:8500", host: str = "127.0.0.1", port: int = 8080, writer: str = "gateway",
    wall: Callable[[], float] = time.time,
) -> None:
    """Serve the run of `config` until SIGTERM or SIGINT; then every acknowledged record is moved to the log.

    Args:
        config: names the run, and has the gateway's settings.
        model_server: host:port of its gRPC.
        host: the address to listen on.
        port: the port to listen on.
        writer: the name of this process among the log's writers; two gateways of one run need two names.
        wall: seconds since 1970; tells the time for everything except timeouts.
    """
    settings, metrics = config.gateway, Metrics()
    keys = _keys(settings, host, port)
    warn_of_labels(config)
    erasures, pseudonyms, experiments = Erasures(config.log_uri), load_people(config), Experiments(settings)
    metrics.registry.register(RunWatch(config.run))
    follow_in_background(config)
    feedback = FeedbackLog(config.log_uri)
    with (
        LogWriter(feedback, WriteAheadFile(config.run / "wal", writer), erased_among=pseudonyms.erased_among) as log_writer,
        Client(model_server, model=config.serving.model_name, timeout=settings.model_timeout_seconds, tls=settings.tls) as client,
        closing(_peers(settings, config.run, pseudonyms, writer)) as peers,
    ):
        popularity = PopularityByLabel(settings, metrics=metrics, version_dir=lambda version: _version_dir(config, version))
        rules = RulesFile(settings.rules, version_dir=lambda: newest_dir(config.models_dir), metrics=metrics,
                          held=HeldItems(config, metrics=metrics).ids, factors=config.run / FLOORS)
        gateway = Gateway(
            log_writer,
            Router(client, settings, popularity=popularity, metrics=metrics, wall=wall),
            popularity=popularity,
            histories=UserHistories(_label_rule(config), events=config.model.history),
            pseudonyms=pseudonyms,
            metrics=metrics,
            peers=peers,
            features=DeclaredFeatures(config.features, read_users(config.features, key=pseudonyms.of, people=pseudonyms)),
            columns=KnownColumns(lambda version: config.models_dir / str(version)),
            heads=config.ranker.names,
            rules=rules,
            explore=settings.explore,
            experiments=experiments,
            kept_query=query_keeper(config.data.queries, pseudonyms),
            clock=wall,
        )
        with _frugal():
            restore(gateway, config, feedback, pseudonyms, metrics=metrics, now=int(wall()))
            gateway.follow_peers()
            popularity.load(wall())
        readiness = Readiness(client, log_writer, peers=peers, rules=rules)
        app = create_app(gateway, readiness, max_k=config.serving.max_k, metrics=metrics, keys=keys, config=settings,
                         forget=lambda user: forget(config, user, now=int(wall()), wait=False), console=Console(config))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)  # uvicorn stops at them, and then raises them again
        with (
            ExperimentWatch(StateFile(config.run), experiments),
            ErasureWatch(pseudonyms, erasures, gateway.erase, wal=config.run / "wal" / f"{writer}.wal"),
        ):
            make_server(app, host=host, port=port, config=settings, metrics=metrics).run()


@contextmanager
def _frugal() -> Iterator[None]:
    """Memory for a block in which most of what is made stays, and the log is unpacked in large pieces that are freed at once."""
    pa.set_memory_pool(pa.system_memory_pool())  # malloc gives them back, Arrow's own pool keeps them
    gc.disable()
    yield
    pa.default_memory_pool().release_unused()
    gc.freeze()
    gc.enable()


def make_server(
    app: FastAPI, *, host: str, port: int, config: GatewayConfig, metrics: Metrics, limits: TimeLimits | None = None
) -> uvicorn.Server:
    """The HTTP server of `app`, with the bounds on connections of `http/connections.py`."""
    limits = limits or TimeLimits()
    connections = Connections(open_files(config.connections), metrics, limits)
    return uvicorn.Server(uvicorn.Config(
        app, host=host, port=port, log_level="warning", access_log=False, proxy_headers=False, server_header=False, ws="none",
        http=connections.protocol, timeout_keep_alive=limits.idle, timeout_graceful_shutdown=limits.close,  # type: ignore[arg-type]
    ))


def restore(
    gateway: Gateway, config: Config, feedback: FeedbackLog, pseudonyms: Pseudonyms, *, metrics: Metrics, now: int
) -> None:
    """Let the gateway know what users did before it starts. What cannot be read is logged, and the gateway starts without it."""
    if config.data.interactions is not None:
        try:
            cache = config.run / "known_users.parquet"
            gateway.meet(first_seen_in_file(config.data.interactions, now=now, name=pseudonyms.of, cache=cache,
                                              people=pseudonyms))
        except TfrecError as error:
            log.warning("users of data.interactions count as newcomers for a day: %s", error)
    try:
        gateway.remember(feedback)
    except TfrecError as error:
        metrics.unknown_past.set(1)
        log.warning("The gateway starts without what users did before: %s Until it starts again with a readable log, histories "
                    "and live popularity begin now, and outcomes that were sent before are not recognised.", error)


def _peers(settings: GatewayConfig, run: Path, pseudonyms: Pseudonyms, writer: str) -> Peers:
    return NoPeers() if settings.redis is None else RedisPeers(
        settings.redis, run=name_in_redis(run, pseudonyms), sender=f"{writer}:{uuid.uuid4().hex[:8]}")


def _keys(settings: GatewayConfig, host: str, port: int) -> Keys:
    """Who may call. Without a file of keys everyone may, but from other hosts nobody may see what users did."""
    if settings.keys is not None or host in _LOCAL:
        return Keys(settings.keys, rate=settings.rate)
    log.warning("Whoever reaches %s:%d may call the gateway, except /v1/explain. Set gateway.keys, or listen on 127.0.0.1.",
                host, port)
    return Keys(None, rate=settings.rate, anyone=set(ROLES) - {EXPLAIN, FORGET, REVIEW})


def _version_dir(config: Config, version: int | None) -> Path | None:
    named = config.models_dir / str(version)
    return named if version and named.is_dir() else newest_dir(config.models_dir)


def _label_rule(config: Config) -> LabelRule:
    """Which outcomes count for a history. The catalogue is read if it states lengths that matter."""
    if not config.reward.lengths:
        return LabelRule.of_rewards(config.reward, None)
    try:
        return LabelRule.of_rewards(config.reward, read_catalogue(config.data.items) if config.data.items else None)
    except TfrecError as error:
        log.warning("reward.lengths: the lengths of items are not known, so acts count by reward.completed, or as whole ones: %s",
                    error)
        return LabelRule.of_rewards(config.reward.model_copy(update={"lengths": {}}), None)
