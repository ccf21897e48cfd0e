"""What a connection may cost before anything is asked: real sockets against a server of one page with small limits."""
import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import uvicorn

from tfrec.model_server.rest.http_limits import MAX_HEAD, LimitedHttp, max_connections

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
LARGE = 64 << 20  # bytes of an answer that no socket's buffers hold


class Impatient(LimitedHttp):
    """Limits that a test can wait for."""

    head_seconds = 0.5
    idle_seconds = 0.5
    look_seconds = 0.05
    most_connections = 5


async def page(scope: dict[str, Any], receive: Any, send: Any) -> None:
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return
        more = message["more_body"]
    body = bytes(LARGE) if scope["target"] == b"/large" else scope["target"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = uvicorn.Server(uvicorn.Config(page, http=Impatient, lifespan="off", log_level="error"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def told(connection: socket.socket) -> bytes:
    """All that the server says until it closes."""
    said = b""
    with suppress(ConnectionError):
        while part := connection.recv(65536):
            said += part
    return said


def asked(port: int, sent: bytes) -> bytes:
    with connect(port) as connection:
        with suppress(ConnectionError):  # it has answered, and closed, before all was sent
            connection.sendall(sent)
        return told(connection)


CLOSE = b"connection: close\r\n"


def test_a_request_within_the_limits_is_answered_with_its_target(port: int) -> None:
    head = b"GET /a?b HTTP/1.1\r\n" + CLOSE + b"x: " + b"y" * (MAX_HEAD - 100) + b"\r\n\r\n"
    assert asked(port, head).endswith(b"\r\n\r\n/a?b")


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nx: " + b"y" * MAX_HEAD + b"\r\n\r\n",
        b"GET /" + b"y" * MAX_HEAD + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * MAX_HEAD + b"\r\n",
        b"GET / HTTP/1.1\r\nx: " + b"y" * (20 << 20),
    ],
    ids=["a long header", "a long path", "many headers", "a header without an end"],
)
def test_a_head_that_is_too_long_is_refused(port: int, head: bytes) -> None:
    assert asked(port, head)[:12] in (b"HTTP/1.1 431", b"")  # a client that still sends may lose the answer


@pytest.mark.parametrize("length", ["9" * 4301, "-1", "1.5", "x"])
def test_a_length_that_is_no_number_is_a_bad_request(port: int, length: str) -> None:
    assert asked(port, f"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n".encode()).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("sent", [b"", b"GET / HT", GET[:-2]], ids=["nothing", "a line", "headers"])
def test_a_head_that_does_not_end_is_not_waited_for(port: int, sent: bytes) -> None:
    assert asked(port, sent).startswith(b"HTTP/1.1 408")


def test_a_head_that_comes_byte_by_byte_is_not_waited_for(port: int) -> None:
    with connect(port) as connection:
        began = time.monotonic()
        try:
            while time.monotonic() - began < 20:
                connection.sendall(b"x")
                time.sleep(0.05)
        except ConnectionError:
            return
    raise AssertionError("it went on listening")


def test_a_body_that_does_not_go_on_is_not_waited_for(port: int) -> None:
    assert asked(port, b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc").startswith(b"HTTP/1.1 408")


def test_an_answer_that_is_not_read_is_given_up(port: int) -> None:
    with connect(port) as connection:
        connection.sendall(GET.replace(b"/ ", b"/large "))
        time.sleep(1.5)  # longer than an idle client is waited for
        assert len(told(connection)) < LARGE


def test_who_keeps_connections_open_keeps_nobody_out(port: int) -> None:
    silent = [connect(port) for _ in range(3 * Impatient.most_connections)]
    try:
        assert asked(port, GET.replace(b"host", CLOSE + b"host")).startswith(b"HTTP/1.1 200")
    finally:
        for connection in silent:
            connection.close()


def test_connections_leave_files_for_the_rest_of_the_process() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert 8 <= max_connections() <= max(8, soft // 2 if soft > 0 else 4096)
