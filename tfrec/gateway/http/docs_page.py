"""The page at /docs: the gateway's OpenAPI as HTML, without a script and without anything from another host.

FastAPI's own page loads scripts from another host. They would run in the browser of whoever holds the keys, and the page is blank
without a network.
"""
import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
pre,code{font:14px/1.4 ui-monospace,monospace;background:#f4f4f4}pre{padding:.7rem;overflow:auto}
table{border-collapse:collapse}td{border-bottom:1px solid #ddd;padding:.2rem .8rem .2rem 0;vertical-align:top}"""


def page(spec: Mapping[str, Any]) -> str:
    """The OpenAPI `spec` as HTML: each call with its fields, examples to paste into a shell, and its answers."""
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
    others = "".join(f"<tr><td>{status}</td><td>{escape(answer['description'])}</td></tr>"
                     for status, answer in sorted(one["responses"].items()) if status != "200")
    if others:
        yield f"<h3>Other answers</h3><table>{others}</table>"


def _fields(spec: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(_kind(spec, field))}</td>"
        f"<td>{'required' if name in required else ''}</td><td>{escape(field.get('description', ''))}</td></tr>"
        for name, field in schema.get("properties", {}).items())
    return f"<table>{rows}</table>"


def _kind(spec: Mapping[str, Any], field: Mapping[str, Any]) -> str:
    """A field's type in words: `list of text`, `number or null`."""
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_kind(spec, one) for one in field["anyOf"]))
    if "$ref" in field:
        known = _known(spec, field)
        return f"object with {', '.join(known.get('properties', {}))}"
    if field.get("type") == "array":
        return f"list of {_kind(spec, field['items'])}"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "null": "null"}
    return words.get(field.get("type", ""), "object")


def _known(spec: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = spec["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found
