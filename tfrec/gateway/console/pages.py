"""Serves the page of the console: three files, of which none is from another host and none has data.

They need no key, as the page asks for one: all that it shows comes from calls that need it.
"""
from importlib.resources import files

from fastapi import FastAPI, Response

_OWN = ("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'")
_HEADERS = {"content-security-policy": _OWN, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer",
            "cache-control": "no-cache"}
_FILES = {"/": ("page.html", "text/html"), "/console.js": ("console.js", "text/javascript"),
          "/console.css": ("console.css", "text/css")}


def add_pages(app: FastAPI) -> None:
    """Serve the page at `/`."""
    for path, (name, kind) in _FILES.items():
        content = files(__package__).joinpath(name).read_bytes()

        async def endpoint(content: bytes = content, kind: str = kind) -> Response:
            return Response(content, media_type=kind, headers=_HEADERS)

        app.add_api_route(path, endpoint, methods=["GET"], include_in_schema=False)
