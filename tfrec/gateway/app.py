"""The gateway: what an application calls. It asks the model server and keeps the log that tfrec learns from.

    POST /v1/recommend   items for a user                       GET /healthz   this process is alive
    POST /v1/search      items for a text                       GET /readyz    the model server answers, records can be kept
    POST /v1/similar     items near an item                     GET /metrics   for Prometheus
    POST /v1/explain     why an item has its score              GET /docs      these calls, with examples
    POST /v1/outcomes    what users did

Verbs take one object or a list, and answer in the same form. `admission.py` lets calls in, `verbs.py` does the work,
in threads: this file only joins them.
"""
import asyncio
import contextlib
import logging
import math
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from pydantic import BaseModel

from tfrec import __version__
from tfrec.client.client import Client
from tfrec.config import Config, GatewayConfig
from tfrec.data.behaviour.known_outcomes import first_seen_in, newest_outcomes
from tfrec.data.feedback_log.log import FeedbackLog, LogWriter
from tfrec.data.feedback_log.write_ahead_log import WriteAheadFile
from tfrec.data.items.catalogue import read_catalogue
from tfrec.data.labels.label_rule import LabelRule
from tfrec.errors import TfrecError
from tfrec.gateway.history import UserHistories
from tfrec.gateway.http.admission import CALLER, CODING, DEADLINE, LARGE_BYTES, Door, room
from tfrec.gateway.http.connections import IDLE_SECONDS, Connections, open_files
from tfrec.gateway.http.encoding import unpacked
from tfrec.gateway.http.error_responses import TooMany, tell_errors
from tfrec.gateway.http.keys import EXPLAIN, LOG, ROLES, SERVE, Caller, Keys
from tfrec.gateway.http.openapi import describe, page, request_body, responses
from tfrec.gateway.http.schemas import (
    MAX_BATCH,
    MAX_EXPLAINED,
    MAX_OUTCOMES,
    ExplainAnswer,
    ExplainRequest,
    OutcomeAnswer,
    OutcomeRequest,
    Reader,
    RecommendAnswer,
    RecommendRequest,
    SearchRequest,
    SimilarAnswer,
    SimilarRequest,
    check_sizes,
    to_json,
)
from tfrec.gateway.metrics import Metrics
from tfrec.gateway.pseudonym import Pseudonyms, load_pseudonyms
from tfrec.gateway.router import Models
from tfrec.gateway.run_metrics import RunWatch
from tfrec.gateway.verbs import Gateway
from tfrec.release.publish import newest_dir
from tfrec.release.retention import warn_of_labels

log = logging.getLogger(__name__)
_NO_SCRIPTS = "default-src 'none'; style-src 'unsafe-inline'"
_CLOSE_SECONDS = 10  # for calls in work to end when the gateway does
_HERE = ("127.0.0.1", "::1", "localhost")
_ABOUT = "Ask for items, and tell what came of it. Every body may be one object or a list; the answer has the same form."

T = TypeVar("T", bound=BaseModel)
A = TypeVar("A", bound=BaseModel)


def create_app(
    gateway: Gateway, *, max_k: int, metrics: Metrics, keys: Keys | None = None, config: GatewayConfig | None = None
) -> FastAPI:
    """The HTTP application over the gateway's verbs; at most `max_k` items are answered."""
    config = config or GatewayConfig()
    roles: dict[str, str] = {}
    readers: dict[str, Reader[Any]] = {}

    threads = ThreadPoolExecutor(sum(room(config, role) for role in ROLES), "verb")  # one for each call that the door lets in

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with threads:
            yield

    app = FastAPI(title="tfrec gateway", version=__version__, description=_ABOUT, lifespan=lifespan, docs_url=None,
                  redoc_url=None)
    reading = threading.Lock()  # a large body is read without a pause for others: one at a time

    def verb(role: str, reader: Reader[T], work: Callable[[Sequence[T]], Sequence[A]], kind: type[A]) -> None:
        """A call whose body is read, worked on and answered in one thread, and nothing is checked twice."""

        def run(request: Request, raw: bytes) -> Response:
            with request.scope[DEADLINE].current():
                raw = unpacked(raw, request.scope[CODING], most=config.max_body_bytes)
                with reading if len(raw) > LARGE_BYTES else contextlib.nullcontext():
                    request.scope[DEADLINE].check()
                    bodies, many = reader.read(raw)
                charge(request.scope[CALLER], len(bodies))
                check_sizes(bodies, many=many, max_k=max_k, max_context_bytes=config.max_context_bytes)
                return Response(to_json(work(bodies), many=many), media_type="application/json")

        async def endpoint(request: Request) -> Response:
            return await asyncio.get_running_loop().run_in_executor(threads, run, request, await request.body())

        path = f"/v1/{work.__name__}"
        roles[path], readers[path] = role, reader
        app.add_api_route(path, endpoint, methods=["POST"], name=work.__name__, description=work.__doc__, responses=responses(),
                          response_model=kind | list[kind], openapi_extra=request_body(reader))  # type: ignore[valid-type]

    def charge(caller: Caller, n: int) -> None:
        """Take from its rate what a list of `n` costs beyond the one call that was taken at the door."""
        if n > 1 and (wait := caller.bucket.take(n - 1)):
            metrics.shed.labels("rate").inc()
            allowed = f"{caller.bucket.most} at once, {caller.bucket.rate:g} a second"
            raise TooMany(f"A list counts as many calls as it has entries, here {n}; this key may make {allowed}. "
                          "Send shorter lists, or later.", seconds=math.ceil(wait))

    verb(SERVE, Reader(RecommendRequest, most=MAX_BATCH), gateway.recommend, RecommendAnswer)
    verb(SERVE, Reader(SearchRequest, most=MAX_BATCH), gateway.search, RecommendAnswer)
    verb(SERVE, Reader(SimilarRequest, most=MAX_BATCH), gateway.similar, SimilarAnswer)
    verb(EXPLAIN, Reader(ExplainRequest, most=MAX_EXPLAINED), gateway.explain, ExplainAnswer)
    verb(LOG, Reader(OutcomeRequest, most=MAX_OUTCOMES), gateway.outcomes, OutcomeAnswer)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Alive."""
        return {"status": "ok"}

    @app.get("/readyz", responses={503: {"model": dict[str, str], "description": "Not ready; says why."}})
    def readyz() -> Response:
        """The model server answers and records can be kept."""
        wrong = gateway.ready()
        return JSONResponse(wrong or {"status": "ok"}, 503 if wrong else 200)

    @app.get("/metrics", response_class=PlainTextResponse)
    def numbers() -> Response:
        """For Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    async def docs() -> Response:
        """These calls, to be read. No script and nothing of another host: whoever reads it may hold keys."""
        return HTMLResponse(page(app.openapi()), headers={"content-security-policy": _NO_SCRIPTS})

    tell_errors(app)
    app.add_middleware(Door, config=config, keys=keys or Keys(None, rate=config.rate), metrics=metrics, roles=roles)
    describe(app, readers, max_k=max_k, secured=config.keys is not None)
    return app


def make_server(app: FastAPI, *, host: str, port: int, config: GatewayConfig, metrics: Metrics) -> uvicorn.Server:
    """What serves `app` at `host`:`port`, with the bounds on connections of `connections.py`."""
    connections = Connections(open_files(config.connections), metrics)
    return uvicorn.Server(uvicorn.Config(
        app, host=host, port=port, log_level="warning", access_log=False, proxy_headers=False, server_header=False, ws="none",
        http=connections.protocol, timeout_keep_alive=IDLE_SECONDS, timeout_graceful_shutdown=_CLOSE_SECONDS,  # type: ignore[arg-type]
    ))


def serve_gateway(
    config: Config, *, model_server: str = "127.0.0.1:8500", host: str = "127.0.0.1", port: int = 8080, writer: str = "gateway",
    wall: Callable[[], float] = time.time,
) -> None:
    """Serve the run of `config` until SIGTERM or SIGINT; then every accepted record is moved to the log.

    Args:
        model_server: host:port of its gRPC.
        writer: the name of this process among the log's writers; two gateways of one run need two names.
        wall: seconds since 1970: what now is, for all but waiting.
    """
    settings, metrics = config.gateway, Metrics()
    is_open = settings.keys is None and host not in _HERE
    keys = Keys(settings.keys, rate=settings.rate, anyone=set(ROLES) - {EXPLAIN} if is_open else ROLES)
    if is_open:
        log.warning("whoever reaches %s:%d may call the gateway, but for /v1/explain: set gateway.keys, or listen on 127.0.0.1",
                    host, port)
    warn_of_labels(config)
    pseudonyms = load_pseudonyms(config.run)
    metrics.registry.register(RunWatch(config.run))
    feedback = FeedbackLog(config.log_dir)

    def version_dir(version: int | None) -> Path | None:
        named = config.models_dir / str(version)
        return named if version and named.is_dir() else newest_dir(config.models_dir)

    with (
        LogWriter(feedback, WriteAheadFile(config.run / "wal", writer)) as log_writer,
        Client(model_server, model=config.serving.model_name, timeout=settings.model_timeout_seconds) as client,
    ):
        gateway = Gateway(
            client,
            log_writer,
            Models(client, settings, metrics=metrics, version_dir=version_dir, wall=wall),
            pseudonyms=pseudonyms,
            behaviour=UserHistories(_label_rule(config), events=config.model.history),
            metrics=metrics,
            history=config.model.history,
            explore=settings.explore,
            clock=wall,
        )
        take_up_the_past(gateway, config, feedback, pseudonyms, metrics=metrics, writer=writer, now=int(wall()))
        app = create_app(gateway, max_k=config.serving.max_k, metrics=metrics, keys=keys, config=settings)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)  # uvicorn ends by them, and then raises them again
        make_server(app, host=host, port=port, config=settings, metrics=metrics).run()


def take_up_the_past(gateway: Gateway, config: Config, feedback: FeedbackLog, pseudonyms: Pseudonyms, *, metrics: Metrics,
                     writer: str, now: int) -> None:
    """Let the gateway know what people did before it starts. What cannot be read is told, and people are answered without it."""
    if config.data.interactions is not None:
        try:
            gateway.meet(first_seen_in(config.data.interactions, now=now, name=pseudonyms.of))
        except TfrecError as error:
            log.warning("people of data.interactions count as newcomers for a day: %s", error)
    try:
        gateway.remember(newest_outcomes(feedback), writer=writer)
    except TfrecError as error:
        metrics.unknown_past.set(1)
        log.warning("the gateway starts without what people did before: %s Until it starts again with a sound log, histories and "
                    "live popularity begin now, and outcomes that were sent before are not recognised.", error)


def _label_rule(config: Config) -> LabelRule:
    """By which outcomes are behaviour. The catalogue is read where it states lengths that count."""
    if not config.reward.lengths:
        return LabelRule.of_rewards(config.reward, None)
    try:
        return LabelRule.of_rewards(config.reward, read_catalogue(config.data.items) if config.data.items else None)
    except TfrecError as error:
        log.warning("reward.lengths: no length is known here, acts count by reward.completed or as whole ones: %s", error)
        return LabelRule.of_rewards(config.reward.model_copy(update={"lengths": {}}), None)
