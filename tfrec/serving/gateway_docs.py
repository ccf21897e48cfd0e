"""The gateway's OpenAPI: bodies with examples, every answer that may come, and how to send a key.

FastAPI describes what it parses itself; bodies are parsed by `gateway_bodies.Reader`, so they are described here.
"""
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from tfrec.serving.gateway_bodies import Reader, Refusal

_REF = "#/components/schemas/{model}"
_REFUSALS = {
    401: "No key, or one that is not known.",
    403: "The key lacks the role.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    422: "The body is not as it should be; says which field.",
    429: "Too many calls at once, or too many of this key. Try again after as many seconds as Retry-After says.",
    502: "The model server failed.",
    503: "The model server is down and nothing can stand in for it, or records cannot be kept: nothing was acknowledged.",
}
_SCHEMES = {"bearer": {"type": "http", "scheme": "bearer"}, "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}}


def responses() -> dict[int | str, dict[str, Any]]:
    """The answers of a verb beside its success."""
    return {status: {"model": Refusal, "description": text} for status, text in _REFUSALS.items()}


def request_body(reader: Reader[Any]) -> dict[str, Any]:
    """One body, or a list of them."""
    one = {"$ref": _REF.format(model=reader.model.__name__)}
    many = {"type": "array", "items": one, "minItems": 1, "maxItems": reader.most}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": {"anyOf": [one, many]}}}}}


def describe(app: FastAPI, readers: Mapping[str, Reader[Any]], *, max_k: int, secured: bool) -> None:
    """Complete the OpenAPI of `app` with the bodies of its verbs, by path."""
    kinds: list[type[BaseModel]] = [reader.model for reader in readers.values()]

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            _, bodies = models_json_schema([(kind, "validation") for kind in kinds], ref_template=_REF)
            for body in bodies["$defs"].values():
                if "k" in body["properties"]:
                    body["properties"]["k"]["maximum"] = max_k
            components = found.setdefault("components", {})
            components.setdefault("schemas", {}).update(bodies["$defs"])
            if secured:
                components["securitySchemes"] = _SCHEMES
                for path in readers:
                    found["paths"][path]["post"]["security"] = [{name: []} for name in _SCHEMES]
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # how FastAPI's documentation extends it
