"""The gateway's OpenAPI: bodies with examples, every answer that may come, and how to send a key; and a page to read it by.

FastAPI describes what it parses itself; bodies are parsed by `gateway_bodies.Reader`, so they are described here. Its own page
loads its scripts from another host, which then runs in the browser of whoever holds the keys, and is blank without a network.
"""
import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from tfrec.gateway.http.schemas import ErrorResponse, Reader

_REF = "#/components/schemas/{model}"
_REFUSALS = {
    400: "A header makes no sense, or the body is not packed as it says.",
    401: "No key, or one that is not known.",
    403: "The key lacks the role.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The body is no JSON in UTF-8, or packed by something else than gzip.",
    422: "The body is not as it should be; says which field.",
    429: "Too many calls at once, or too many of this key. Try again after as many seconds as Retry-After says.",
    502: "The model server failed.",
    504: "The call's time was up (X-Timeout-Seconds, else half a minute).",
    503: "The model server is down and nothing can stand in for it, or records cannot be kept: nothing was acknowledged.",
}
_SCHEMES = {"bearer": {"type": "http", "scheme": "bearer"}, "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}}


def responses() -> dict[int | str, dict[str, Any]]:
    """The answers of a verb beside its success."""
    return {status: {"model": ErrorResponse, "description": text} for status, text in _REFUSALS.items()}


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


_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
pre,code{font:14px/1.4 ui-monospace,monospace;background:#f4f4f4}pre{padding:.7rem;overflow:auto}
table{border-collapse:collapse}td{border-bottom:1px solid #ddd;padding:.2rem .8rem .2rem 0;vertical-align:top}"""


def page(spec: Mapping[str, Any]) -> str:
    """The OpenAPI as HTML without a script: each call with its fields, examples to paste into a shell, and answers."""
    parts = "".join(part for path, methods in spec["paths"].items() for method, one in methods.items()
                    for part in _call(spec, path, method, one))
    title = escape(f"{spec['info']['title']} {spec['info']['version']}")
    about = escape(spec["info"]["description"])
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    links = 'For programs: <a href="openapi.json">openapi.json</a>.'
    return (f'<!doctype html><html lang="en"><head>{head}</head>'
            f'<body><h1>{title}</h1><p>{about} {links}</p>{parts}</body></html>')


def _call(spec: Mapping[str, Any], path: str, method: str, one: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(one.get('description', ''))}</p>"
    body = one.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    if body is not None:
        schema = _known(spec, body["anyOf"][0])
        yield f"<p>{escape(schema.get('description', ''))}</p>{_fields(spec, schema)}"
        for example in schema.get("examples", ()):
            sent = escape(json.dumps(example), quote=False)
            yield f"<pre>curl localhost:8080{escape(path)} -H 'content-type: application/json' -d '{sent}'</pre>"
        answer = one["responses"]["200"]["content"]["application/json"]["schema"]["anyOf"][0]
        yield f"<h3>Answer</h3>{_fields(spec, _known(spec, answer))}"
    others = "".join(f"<tr><td>{status}</td><td>{escape(told['description'])}</td></tr>"
                     for status, told in sorted(one["responses"].items()) if status != "200")
    if others:
        yield f"<h3>Other answers</h3><table>{others}</table>"


def _fields(spec: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    needed = schema.get("required", ())
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(_kind(spec, field))}</td>"
        f"<td>{'needed' if name in needed else ''}</td><td>{escape(field.get('description', ''))}</td></tr>"
        for name, field in schema.get("properties", {}).items())
    return f"<table>{rows}</table>"


def _kind(spec: Mapping[str, Any], field: Mapping[str, Any]) -> str:
    """A field's type in words: `list of text`, `number or nothing`."""
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_kind(spec, one) for one in field["anyOf"]))
    if "$ref" in field:
        known = _known(spec, field)
        return f"object with {', '.join(known.get('properties', {}))}"
    if field.get("type") == "array":
        return f"list of {_kind(spec, field['items'])}"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "null": "nothing"}
    return words.get(field.get("type", ""), "object")


def _known(spec: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = spec["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found
