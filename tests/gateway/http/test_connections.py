"""Clients that are slow, send too much or nothing, or do not read: others are not kept out. All over real sockets."""
import contextlib
import resource
import select
import socket
import subprocess
import sys
import threading
import time

import pytest

from tests.gateway.world import Make, World
from tfrec.gateway.http.time_limits import TimeLimits

# opens as many connections as it is told, sends half a request on each, says so, and keeps them
FLOOD = """
import resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
held, body = [], b"POST /v1/outcomes HTTP/1.1\\r\\ncontent-length: 9\\r\\n\\r\\n{"
for n in range(int(sys.argv[2])):
    held.append(socket.create_connection(("127.0.0.1", int(sys.argv[1]))))
    held[-1].send([b"", b"G", b"GET /healthz HTTP/1.1\\r\\nx: ", body][n % 4])
print("open", flush=True)
sys.stdin.read()
"""


def connect(world: World) -> socket.socket:
    return socket.create_connection((world.http.base_url.host, world.http.base_url.port or 0), timeout=20)


def answer(raw: socket.socket) -> bytes:
    """All that comes until the other end closes, which may be by a reset."""
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := raw.recv(65536):
            parts.append(part)
    return b"".join(parts)


def send(raw: socket.socket, part: bytes, times: int) -> None:
    with contextlib.suppress(ConnectionError):
        for _ in range(times):
            raw.sendall(part)


def closed(world: World, reason: str) -> float:
    found = world.metrics.registry.get_sample_value("tfrec_gateway_connections_closed_total", {"reason": reason})
    return found or 0.0


def test_half_open_connections_keep_nobody_out(make: Make) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] < 2000:
        pytest.skip("this system allows too few files")
    world = make()
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))  # the usual one
    command = [sys.executable, "-S", "-c", FLOOD, str(world.http.base_url.port), "1100"]
    flood = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert flood.stdout is not None
        assert flood.stdout.readline() == b"open\n"
        assert world.http.get("/healthz").status_code == 200
        assert world.http.post("/v1/outcomes", json={"user": "u", "item": "a", "action": "click"}).status_code == 200
        assert closed(world, "crowded") >= 300
    finally:
        flood.communicate()
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_one_that_is_answered_is_not_what_makes_room(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make(connections=16)
    go, real = threading.Event(), world.client.recommend
    monkeypatch.setattr(world.client, "recommend", lambda **inputs: (go.wait(20), real(**inputs))[1])
    with contextlib.ExitStack() as stack:
        asking = stack.enter_context(connect(world))
        asking.sendall(b'POST /v1/recommend HTTP/1.1\r\nhost: x\r\ncontent-length: 20\r\n\r\n{"user": "u","k": 1}')
        while 'in_flight{role="serve"} 1.0' not in world.http.get("/metrics").text:
            time.sleep(0.01)
        for _ in range(40):
            stack.enter_context(connect(world))
        assert world.http.get("/healthz").status_code == 200
        go.set()
        assert asking.recv(15) == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize(
    ("start", "part", "times", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\n", b"x: " + b"y" * 8000 + b"\r\n", 10_000, b"431"),  # 80 MB
        (b"GET /healthz HTTP/1.1\r\nx: ", b"y" * 8000, 10_000, b"431"),
        (b"GET /healthz HTTP/1.1\r\n", b"x:y\r\n", 200, b"431"),
        (b"GET /" + b"y" * 9000 + b" HTTP/1.1\r\n", b"", 1, b"414"),
        (b"no request at all\r\n\r\n", b"", 1, b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", b"\x00", 600, b"400"),  # TLS
    ],
    ids=["80 MB of headers", "one endless header", "200 headers", "URL", "no HTTP", "TLS"],
)
def test_a_head_that_is_too_large_or_none_is_refused_at_once(
    make: Make, start: bytes, part: bytes, times: int, status: bytes
) -> None:
    world = make()
    began = time.process_time()
    with connect(world) as raw:
        send(raw, start, 1)
        send(raw, part, times)
        found = answer(raw)
    # what was sent after the refusal may have reset the connection before it was read
    assert found[9:12] == status or (found == b"" and times == 10_000)
    assert time.process_time() - began < 2.0
    assert closed(world, "large") + closed(world, "bad") == 1
    assert world.http.get("/healthz").status_code == 200


def test_trailers_are_bounded_as_headers_are(make: Make) -> None:
    world = make()
    with connect(world) as raw:
        send(raw, b"POST /healthz HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: ", 1)
        send(raw, b"y" * 8000, 1000)
        answer(raw)
    assert closed(world, "large") == 1


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HT", b"POST /healthz HTTP/1.1\r\ncontent-length: 9\r\n\r\n1", b"\r\n"],
                         ids=["nothing", "half a head", "half a body", "empty lines"])
def test_a_request_that_does_not_arrive_ends_its_connection(make: Make, sent: bytes) -> None:
    world = make(limits=TimeLimits(head=0.3, other_body=0.3, sweep=0.1))
    with connect(world) as raw:
        raw.sendall(sent)
        answer(raw)
    assert closed(world, "slow") == 1


def test_an_answer_that_is_not_read_is_dropped(make: Make) -> None:
    world = make(limits=TimeLimits(answer=0.3, sweep=0.1))
    with connect(world) as raw:
        raw.setblocking(False)
        while closed(world, "unread") == 0:
            with contextlib.suppress(BlockingIOError, ConnectionError):
                raw.send(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 50)
            select.select([], [], [], 0.02)
    assert world.http.get("/healthz").status_code == 200
