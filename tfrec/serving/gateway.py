"""The gateway: what an application calls. It asks the model server and keeps the log that tfrec learns from.

    POST /v1/recommend   items for a user                       GET /healthz   this process is alive
    POST /v1/search      items for a text                       GET /readyz    the model server answers, records can be kept
    POST /v1/similar     items near an item                     GET /metrics   for Prometheus
    POST /v1/explain     why an item has its score              GET /docs      these calls, with examples
    POST /v1/outcomes    what users did

Verbs take one object or a list, and answer in the same form. `gateway_door.py` lets calls in, `gateway_verbs.py` does the work,
in threads: this file only joins them.
"""
import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from pydantic import BaseModel, ValidationError

from tfrec import __version__
from tfrec.config import Config, GatewayConfig
from tfrec.data.log import FeedbackLog, LogWriter
from tfrec.data.wal import WriteAheadFile
from tfrec.errors import DataError
from tfrec.serving.behaviour import Behaviour, newest_outcomes
from tfrec.serving.client import Client, RequestFailed
from tfrec.serving.gateway_bodies import (
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
    field_of,
    to_json,
)
from tfrec.serving.gateway_docs import describe, request_body, responses
from tfrec.serving.gateway_door import CALLER, Door
from tfrec.serving.gateway_keys import LOG, SERVE, Keys
from tfrec.serving.gateway_metrics import Metrics
from tfrec.serving.gateway_models import UNKNOWN_LABEL, Models
from tfrec.serving.gateway_verbs import Gateway
from tfrec.serving.pseudonym import load_pseudonyms
from tfrec.serving.release import newest_dir

log = logging.getLogger(__name__)
_BUSY = "RESOURCE_EXHAUSTED"
_MOST_ERRORS = 100  # of one body that are told
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

    threads = ThreadPoolExecutor(2 * config.in_work, "verb")  # one for each call that the door lets in

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with threads:
            yield

    app = FastAPI(title="tfrec gateway", version=__version__, description=_ABOUT, redoc_url=None, lifespan=lifespan)

    def verb(role: str, reader: Reader[T], work: Callable[[Sequence[T]], Sequence[A]], kind: type[A]) -> None:
        """A call whose body is read, worked on and answered in one thread, and nothing is checked twice."""

        def run(request: Request, raw: bytes) -> Response:
            bodies, many = reader.read(raw)
            if len(bodies) > 1:
                request.scope[CALLER].bucket.take(len(bodies) - 1)
            for place, body in enumerate(bodies):
                if getattr(body, "k", 0) > max_k:
                    raise _Unprocessable(f"{place}.k" if many else "k", f"Input should be less than or equal to {max_k}")
            return Response(to_json(work(bodies), many=many), media_type="application/json")

        async def endpoint(request: Request) -> Response:
            return await asyncio.get_running_loop().run_in_executor(threads, run, request, await request.body())

        path = f"/v1/{work.__name__}"
        roles[path], readers[path] = role, reader
        app.add_api_route(path, endpoint, methods=["POST"], name=work.__name__, description=work.__doc__, responses=responses(),
                          response_model=kind | list[kind], openapi_extra=request_body(reader))  # type: ignore[valid-type]

    verb(SERVE, Reader(RecommendRequest, most=MAX_BATCH), gateway.recommend, RecommendAnswer)
    verb(SERVE, Reader(SearchRequest, most=MAX_BATCH), gateway.search, RecommendAnswer)
    verb(SERVE, Reader(SimilarRequest, most=MAX_BATCH), gateway.similar, SimilarAnswer)
    verb(SERVE, Reader(ExplainRequest, most=MAX_EXPLAINED), gateway.explain, ExplainAnswer)
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

    for kind, handler in ((ValidationError, _invalid), (_Unprocessable, _unprocessable), (RequestFailed, _not_answered),
                          (DataError, _not_kept)):
        app.add_exception_handler(kind, handler)
    app.add_middleware(Door, config=config, keys=keys or Keys(None, rate=config.rate), metrics=metrics, roles=roles)
    describe(app, readers, max_k=max_k, secured=config.keys is not None)
    return app


class _Unprocessable(Exception):
    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def _errors(status: int, *errors: dict[str, str]) -> JSONResponse:
    headers = {"retry-after": "1"} if status in (429, 503) else None
    return JSONResponse({"errors": list(errors)}, status, headers)


def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ValidationError)
    # not the input itself: it may be what a person typed
    told = error.errors(include_url=False, include_context=False, include_input=False)[:_MOST_ERRORS]
    return _errors(422, *[{"field": field_of(one["loc"]), "message": one["msg"]} for one in told])


def _unprocessable(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, _Unprocessable)
    return _errors(422, {"field": error.field, "message": str(error)})


def _not_answered(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestFailed)
    if UNKNOWN_LABEL in str(error):
        return _errors(422, {"field": "label", "message": str(error)})
    log.warning("%s", error)
    status = 429 if error.code == _BUSY else 503 if error.down or error.code == "NOT_FOUND" else 502
    return _errors(status, {"message": str(error)})


def _not_kept(request: Request, error: Exception) -> JSONResponse:
    log.error("%s", error)
    return _errors(503, {"message": str(error)})


def serve_gateway(
    config: Config, *, model_server: str = "127.0.0.1:8500", host: str = "127.0.0.1", port: int = 8080, writer: str = "gateway"
) -> None:
    """Serve the run of `config` until SIGTERM or SIGINT; then every accepted record is moved to the log.

    Args:
        model_server: host:port of its gRPC.
        writer: the name of this process among the log's writers; two gateways of one run need two names.
    """
    settings, metrics = config.gateway, Metrics()
    keys = Keys(settings.keys, rate=settings.rate)
    if settings.keys is None and host not in _HERE:
        log.warning("anyone who reaches %s:%d may call the gateway: set gateway.keys, or listen on 127.0.0.1", host, port)
    pseudonyms = load_pseudonyms(config.run)
    feedback = FeedbackLog(config.log_dir)

    def version_dir(version: int | None) -> Path | None:
        named = config.models_dir / str(version)
        return named if version and named.is_dir() else newest_dir(config.models_dir)

    with (
        LogWriter(feedback, WriteAheadFile(config.run / "wal", writer)) as log_writer,
        Client(model_server, model=config.serving.model_name, timeout=settings.model_seconds) as client,
    ):
        gateway = Gateway(
            client,
            log_writer,
            Models(client, settings, metrics=metrics, version_dir=version_dir),
            pseudonyms=pseudonyms,
            behaviour=Behaviour(events=config.model.history),
            metrics=metrics,
            history=config.model.history,
            explore=settings.explore,
            counted=config.reward,
        )
        gateway.remember(newest_outcomes(feedback), writer=writer)
        app = create_app(gateway, max_k=config.serving.max_k, metrics=metrics, keys=keys, config=settings)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)  # uvicorn ends by them, and then raises them again
        uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False, proxy_headers=False,
                    timeout_graceful_shutdown=_CLOSE_SECONDS)
