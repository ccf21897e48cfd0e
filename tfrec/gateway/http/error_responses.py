"""The answers to calls that fail: `{"errors": [{"message": ..., "field": ...}]}`, with a field where one is wrong.

No answer repeats what a person typed, an address, or another program's words. Those are for the gateway's log.
"""
import logging
from collections.abc import Callable, Mapping

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from tfrec.client.deadline import CallEnded
from tfrec.client.request_errors import InputNotServed, LabelNotServed, RequestFailed
from tfrec.errors import DataError
from tfrec.gateway.http.refusal import RequestRefused

log = logging.getLogger(__name__)
NO_ANSWER = "The model server does not answer. Start it with `tfrec serve`, or wait until it has started."
_MAX_ERRORS = 100  # that an answer lists


def without_source(error: Exception) -> str:
    """The message of an error without the file or address that it names in front."""
    return str(error).partition(": ")[2]


def _answer(status: int, *errors: dict[str, str], headers: Mapping[str, str] | None = None) -> JSONResponse:
    retry = {"retry-after": "1"} if status in (429, 503) else {}
    return JSONResponse({"errors": list(errors)}, status, retry | dict(headers or {}))


def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ValidationError)
    found = error.errors(include_url=False, include_context=False, include_input=False)[:_MAX_ERRORS]
    return _answer(422, *[{"field": _field(one["loc"]), "message": one["msg"]} for one in found])


def _field(location: tuple[int | str, ...]) -> str:
    """`(3, "k")` as `3.k`: the field as the client wrote it, cut if it is long."""
    return ".".join(map(str, location))[:200] or "body"


def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestRefused)
    return _answer(error.status, *error.errors, headers=dict(error.headers))


def _ended(request: Request, error: Exception) -> JSONResponse:
    return _answer(504, {"message": str(error)})


def _model_failed(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestFailed)
    if isinstance(error, LabelNotServed):  # the caller named it; where the gateway chose, another version answered
        return _answer(422, {"field": "label", "message": "No version that is served has this label."})
    log.warning("%s", error)
    if isinstance(error, InputNotServed):
        return _answer(422, {"message": "The version that answers was exported before it could do all that this asks for: "
                                        "numeric bounds, diversity or caps. Export the model again, or leave them out."})
    if error.code == "RESOURCE_EXHAUSTED":
        return _answer(429, {"message": "The model server is busy. Try again in a second."})
    if error.down or error.code == "NOT_FOUND":
        return _answer(503, {"message": f"{NO_ANSWER} Try again in a second."})
    return _answer(502, {"message": f"The model server failed: {error.code}. The gateway's log says how."})


def _not_logged(request: Request, error: Exception) -> JSONResponse:
    log.error("%s", error)
    return _answer(503, {"message": f"The log {without_source(error)} Nothing was kept: send it again."})


_HANDLERS: dict[type[Exception], Callable[[Request, Exception], JSONResponse]] = {
    ValidationError: _invalid, RequestRefused: _refused, CallEnded: _ended, RequestFailed: _model_failed, DataError: _not_logged,
}


def handle_errors(app: FastAPI) -> None:
    """Let `app` answer the errors that its calls raise."""
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
