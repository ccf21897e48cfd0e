"""The gateway's OpenAPI: bodies with examples, every status that may be answered, and how to send a key.

FastAPI describes what it parses itself. The bodies of verbs are parsed by `BodyReader`, so they are described here.
"""
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from tfrec.gateway.http.body_reader import BodyReader
from tfrec.gateway.http.schemas import ErrorResponse

_REF = "#/components/schemas/{model}"
_ERRORS = {
    400: "A header is wrong, or the body is not compressed as its header says.",
    401: "The key is missing or unknown.",
    403: "The key does not have the role that this call needs.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The body is not JSON in UTF-8, or it is compressed by something other than gzip.",
    422: "A field of the body is wrong. The answer says which.",
    429: "Too many calls are in progress, or this key exceeds its rate. Try again after the seconds in Retry-After.",
    502: "The model server failed.",
    503: "The model server is down and nothing can answer instead, or the log cannot be written. Nothing was recorded.",
    504: "The call took too long: more than X-Timeout-Seconds, or 30 seconds if that header is not sent.",
}
_SCHEMES = {"bearer": {"type": "http", "scheme": "bearer"}, "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}}


def responses() -> dict[int | str, dict[str, Any]]:
    """The errors that a verb may answer."""
    return {status: {"model": ErrorResponse, "description": text} for status, text in _ERRORS.items()}


def request_body(reader: BodyReader[Any]) -> dict[str, Any]:
    """The body of a verb: one object, or a list of them."""
    one = {"$ref": _REF.format(model=reader.model.__name__)}
    many = {"type": "array", "items": one, "minItems": 1, "maxItems": reader.max_length}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": {"anyOf": [one, many]}}}}}


def describe(app: FastAPI, readers: Mapping[str, BodyReader[Any]], *, max_k: int, needs_key: bool) -> None:
    """Complete the OpenAPI of `app` with the bodies of its verbs, by path."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            spec = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            components = spec.setdefault("components", {})
            components.setdefault("schemas", {}).update(_body_schemas(readers, max_k=max_k))
            if needs_key:
                components["securitySchemes"] = _SCHEMES
                guarded = [*(spec["paths"][path]["post"] for path in readers),
                           *(methods["delete"] for methods in spec["paths"].values() if "delete" in methods)]
                for call in guarded:
                    call["security"] = [{name: []} for name in _SCHEMES]
            app.openapi_schema = spec
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # how FastAPI's documentation extends it


def _body_schemas(readers: Mapping[str, BodyReader[Any]], *, max_k: int) -> dict[str, Any]:
    kinds: list[type[BaseModel]] = [reader.model for reader in readers.values()]
    _, found = models_json_schema([(kind, "validation") for kind in kinds], ref_template=_REF)
    schemas: dict[str, Any] = found["$defs"]
    for schema in schemas.values():
        if "k" in schema["properties"]:
            schema["properties"]["k"]["maximum"] = max_k
    return schemas
