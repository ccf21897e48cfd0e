"""A server that speaks the protocol of S3, in a process of its own: the library that calls it holds Python's lock meanwhile."""
import importlib.util
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def local_s3() -> Iterator[str]:
    """Serve an S3 with an empty bucket `bucket`; the environment names it, for this process and those that it starts."""
    port = free_port()
    before = dict(os.environ)
    with subprocess.Popen([sys.executable, "-c", _SERVER, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            assert server.stdout.readline() == b"up\n"
            os.environ.update(AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}", AWS_ALLOW_HTTP="true", AWS_REGION="us-east-1",
                              AWS_ACCESS_KEY_ID="key", AWS_SECRET_ACCESS_KEY="secret")
            urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/bucket", method="PUT"), timeout=60).close()
            yield f"http://127.0.0.1:{port}"
        finally:
            os.environ.clear()
            os.environ.update(before)
            server.kill()
