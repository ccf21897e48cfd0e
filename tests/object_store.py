"""A server that speaks the protocol of S3, in a process of its own: the library that calls it holds Python's lock meanwhile."""
import atexit
import importlib.util
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import pytest

from tfrec.model_server.process import free_port

needs_s3 = pytest.mark.skipif(importlib.util.find_spec("moto") is None,
                              reason="a local S3 is not installed: pip install 'moto[server]'")
_SERVER = """
import logging, sys
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer("127.0.0.1", int(sys.argv[1]), verbose=False)
server.start()
print("up", flush=True)
sys.stdin.read()
"""


@cache
def _server() -> str:
    """Its URL; one server is enough for a process, as long as tests come one after the other."""
    port = free_port()
    server = subprocess.Popen([sys.executable, "-c", _SERVER, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    atexit.register(_end, server)
    assert server.stdout is not None
    assert server.stdout.readline() == b"up\n"
    return f"http://127.0.0.1:{port}"


def _end(server: "subprocess.Popen[bytes]") -> None:
    server.kill()
    server.communicate()


def _ask(method: str, url: str) -> None:
    urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=60).close()


@contextmanager
def local_s3() -> Iterator[str]:
    """Serve an S3 with an empty bucket `bucket`; the environment names it, for this process and those that it starts."""
    server, before = _server(), dict(os.environ)
    _ask("POST", f"{server}/moto-api/reset")
    _ask("PUT", f"{server}/bucket")
    try:
        os.environ.update(AWS_ENDPOINT_URL=server, AWS_ALLOW_HTTP="true", AWS_REGION="us-east-1",
                          AWS_ACCESS_KEY_ID="key", AWS_SECRET_ACCESS_KEY="secret")
        yield server
    finally:
        os.environ.clear()
        os.environ.update(before)
