"""What the embedded server reads of one REST request, and that it answers others meanwhile. The real one has no such limits."""
import gzip
import json
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.model_server.tiny import Running
from tfrec.model_server.rest.body import MAX_BODY

PATH = "/v1/models/tiny:predict"
DOUBLE = {"signature_name": "double", "instances": [[1.0, 2.0]]}


def chunks(size: int) -> Iterator[bytes]:
    return (b" " * min(65536, size - begin) for begin in range(0, size, 65536))


@pytest.fixture(scope="module")
def http(server: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.rest, trust_env=False, timeout=60) as http:
        yield http


@pytest.mark.parametrize("content", [b"[1,1" * (10 << 20), chunks(MAX_BODY + 1)], ids=["of a length", "in chunks"])
def test_a_body_beyond_the_limit_is_refused_by_its_size(
    http: httpx.Client, content: bytes | Iterator[bytes]
) -> None:
    answer = http.post(PATH, content=content)
    assert (answer.status_code, "Send fewer rows at a time" in answer.json()["error"]) == (413, True)
    assert http.post(PATH, json=DOUBLE).json() == {"predictions": [[2.0, 4.0]]}


def test_a_body_at_the_limit_is_read(http: httpx.Client) -> None:
    body = json.dumps(DOUBLE).encode()
    answer = http.post(PATH, content=body + b" " * (MAX_BODY - len(body)))
    assert answer.json() == {"predictions": [[2.0, 4.0]]}


def test_a_small_body_that_unpacks_to_much_is_refused(http: httpx.Client) -> None:
    bomb = gzip.compress(bytes(100 << 20))
    assert len(bomb) < 300_000
    answer = http.post(PATH, content=bomb, headers={"content-encoding": "gzip"})
    assert (answer.status_code, f"more than {MAX_BODY} bytes" in answer.json()["error"]) == (400, True)


def test_the_state_of_a_model_is_told_while_large_bodies_are_read(server: Running, http: httpx.Client) -> None:
    """Limits for hangs: what blocked for as long as a body took to read answers between two of its numbers."""
    body, done = b'{"instances": [' + b"1.5," * (1 << 20) + b"x", threading.Event()

    def post() -> None:
        with httpx.Client(base_url=server.rest, trust_env=False, timeout=120) as other:
            assert other.post(PATH, content=body).status_code == 400
        done.set()

    thread = threading.Thread(target=post)
    thread.start()
    asked = 0
    while not done.is_set() and asked < 1000:
        assert http.get("/v1/models/tiny").status_code == 200
        asked += 1
        time.sleep(0.001)
    thread.join()
    assert asked > 3
