"""The gateway: what an application calls. It asks the model server and keeps the log that tfrec learns from.

    POST /v1/recommend   one request or a list: items, and a request id for the outcomes that follow
    POST /v1/outcomes    one outcome or a list
    GET  /healthz        this process is alive
"""
import logging
import signal

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from tfrec.config import Config
from tfrec.data.log import FeedbackLog, LogWriter
from tfrec.data.wal import WriteAheadFile
from tfrec.errors import DataError
from tfrec.serving.behaviour import Behaviour, newest_outcomes
from tfrec.serving.client import Client, RequestFailed
from tfrec.serving.freshness import Freshness
from tfrec.serving.gateway_bodies import OutcomeAnswer, Outcomes, RecommendAnswer, Recommends, as_list, field_of
from tfrec.serving.gateway_verbs import Gateway
from tfrec.serving.pseudonym import load_pseudonyms
from tfrec.serving.release import newest_dir

log = logging.getLogger(__name__)
_FRESH_ITEMS = 200  # whose popularity goes along with every request: about 4 kB
_BUSY = "RESOURCE_EXHAUSTED"
_UNKNOWN_LABEL = "Unrecognized servable version label"


def create_app(gateway: Gateway, *, max_k: int) -> FastAPI:
    """The HTTP application over the gateway's verbs; at most `max_k` items are answered."""
    app = FastAPI(title="tfrec gateway", docs_url=None, redoc_url=None)

    @app.post("/v1/recommend")
    def recommend(body: Recommends) -> RecommendAnswer | list[RecommendAnswer]:
        """Items for a user, best first. They are logged as shown."""
        bodies = as_list(body)
        for i, one in enumerate(bodies):
            if one.k > max_k:
                field = f"{i}.k" if isinstance(body, list) else "k"
                raise _Unprocessable(field, f"Input should be less than or equal to {max_k}")
        answers = gateway.recommend(bodies)
        return answers if isinstance(body, list) else answers[0]

    @app.post("/v1/outcomes")
    def outcomes(body: Outcomes) -> OutcomeAnswer | list[OutcomeAnswer]:
        """What users did. Kept when this returns."""
        answers = gateway.outcomes(as_list(body))
        return answers if isinstance(body, list) else answers[0]

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        """Alive."""
        return {"status": "ok"}

    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(_Unprocessable, _unprocessable)
    app.add_exception_handler(RequestFailed, _not_answered)
    app.add_exception_handler(DataError, _not_kept)
    return app


class _Unprocessable(Exception):
    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def _errors(status: int, *errors: dict[str, str]) -> JSONResponse:
    return JSONResponse({"errors": list(errors)}, status)


def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    # not the input itself: it may be what a person typed
    return _errors(422, *[{"field": field_of(one["loc"]), "message": one["msg"]} for one in error.errors()])


def _unprocessable(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, _Unprocessable)
    return _errors(422, {"field": error.field, "message": str(error)})


def _not_answered(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestFailed)
    if _UNKNOWN_LABEL in str(error):
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
    pseudonyms = load_pseudonyms(config.run)
    feedback = FeedbackLog(config.log_dir)
    events = config.model.history
    with (
        LogWriter(feedback, WriteAheadFile(config.run / "wal", writer)) as log_writer,
        Client(model_server, model=config.serving.model_name) as client,
    ):
        behaviour = Behaviour(events=events)
        freshness = Freshness(lambda: newest_dir(config.models_dir), limit=_FRESH_ITEMS)
        known = newest_outcomes(feedback)
        behaviour.fill(known)
        freshness.observe(known["item"].to_pylist(), known["time"].to_pylist())
        log.info("%d outcomes of the log are remembered", known.num_rows)
        counted = {action for action, weight in config.reward.weights.items() if weight > 0}
        gateway = Gateway(client, log_writer, pseudonyms=pseudonyms, behaviour=behaviour, freshness=freshness, history=events,
                          counted=counted)
        app = create_app(gateway, max_k=config.serving.max_k)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)  # uvicorn ends by them, and then raises them again
        uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False)
