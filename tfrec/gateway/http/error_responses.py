"""What a caller is told when a call fails: one form for all, `{"errors": [{"message": ..., "field": ...}]}`.

Nothing of what a person typed, no address and no other program's words: those are for the gateway's log.
"""
import logging
from collections.abc import Callable, Mapping

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from tfrec.client.client import LabelNotServed, RequestFailed
from tfrec.client.deadline import CallEnded
from tfrec.errors import DataError
from tfrec.gateway.http.encoding import NotReadable
from tfrec.gateway.http.schemas import RepeatedKey, TooManyIds, WrongField, field_of

log = logging.getLogger(__name__)
NO_ANSWER = "The model server does not answer. Start it with `tfrec serve`, or wait until it has started."
_BUSY = "RESOURCE_EXHAUSTED"
_MOST_ERRORS = 100  # of one body that are told


class TooMany(Exception):
    """More calls than a key may make; `seconds` until it may."""

    def __init__(self, message: str, *, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds


def without_place(error: Exception) -> str:
    """What an error of tfrec says behind the file or address that it names in front."""
    return str(error).partition(": ")[2]


def _errors(status: int, *errors: dict[str, str], headers: Mapping[str, str] | None = None) -> JSONResponse:
    retry = {"retry-after": "1"} if status in (429, 503) else {}
    return JSONResponse({"errors": list(errors)}, status, retry | dict(headers or {}))


def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ValidationError)
    # not the input itself: it may be what a person typed
    told = error.errors(include_url=False, include_context=False, include_input=False)[:_MOST_ERRORS]
    return _errors(422, *[{"field": field_of(one["loc"]), "message": one["msg"]} for one in told])


def _wrong_field(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, WrongField)
    return _errors(422, {"field": error.field, "message": str(error)})


def _repeated(request: Request, error: Exception) -> JSONResponse:
    # not the key: it may be what a person typed
    return _errors(422, {"field": "body", "message": "An object of the body has a key twice. Send each once."})


def _not_readable(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, NotReadable)
    return _errors(error.status, {"message": str(error)}, headers=dict(error.headers))


def _too_many_ids(request: Request, error: Exception) -> JSONResponse:
    return _errors(413, {"message": str(error)})


def _too_many(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, TooMany)
    return _errors(429, {"message": str(error)}, headers={"retry-after": str(error.seconds)})


def _ended(request: Request, error: Exception) -> JSONResponse:
    return _errors(504, {"message": str(error)})


def _not_answered(request: Request, error: Exception) -> JSONResponse:
    """What the caller may know of it. Addresses and the model server's own words are for our log."""
    assert isinstance(error, RequestFailed)
    if isinstance(error, LabelNotServed):  # that the caller named: where the gateway chose, another version answered
        return _errors(422, {"field": "label", "message": "No version that is served has this label."})
    log.warning("%s", error)
    if error.code == _BUSY:
        return _errors(429, {"message": "The model server is busy. Try again in a second."})
    if error.down or error.code == "NOT_FOUND":
        return _errors(503, {"message": f"{NO_ANSWER} Try again in a second."})
    return _errors(502, {"message": f"The model server failed: {error.code}. The gateway's log says how."})


def _not_kept(request: Request, error: Exception) -> JSONResponse:
    log.error("%s", error)
    return _errors(503, {"message": f"The log {without_place(error)} Nothing was kept: send it again."})


_HANDLERS: dict[type[Exception], Callable[[Request, Exception], JSONResponse]] = {
    ValidationError: _invalid, WrongField: _wrong_field, RepeatedKey: _repeated, NotReadable: _not_readable,
    TooManyIds: _too_many_ids, TooMany: _too_many, CallEnded: _ended, RequestFailed: _not_answered, DataError: _not_kept,
}


def tell_errors(app: FastAPI) -> None:
    """Let `app` answer by this module what its calls raise."""
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
