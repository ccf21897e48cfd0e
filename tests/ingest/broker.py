"""Kafka brokers on this machine: librdkafka's own, which keep topics in memory and speak the protocol over real sockets."""
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from confluent_kafka import Producer

_SASL_HANDSHAKE, _API_VERSIONS = b"\0\x11", b"\0\x12"  # the requests that come before a login


class Broker:
    """A cluster of one broker. A topic that gets its first message is made, with four partitions."""

    def __init__(self) -> None:
        self._producer = Producer({"test.mock.num.brokers": 1, "log_level": 0})
        ((_, broker),) = self._producer.list_topics(timeout=10).brokers.items()
        self.address, self.port = f"{broker.host}:{broker.port}", broker.port

    def send(self, topic: str, values: Iterable[Any], *, partition: int = 0) -> None:
        """Append messages: bytes as they are, None as a tombstone, anything else as JSON."""
        for value in values:
            message = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
            self._producer.produce(topic, message, partition=partition)
            self._producer.poll(0)
        assert self._producer.flush(20) == 0


class Proxy:
    """Passes what a client and a broker say to each other, and can go away and come back.

    With a `context` it speaks TLS, and with a `login` (user and password) it lets nobody through who has not shown it by SASL
    PLAIN. Clients connect to the address that a broker names, so the port in what it says is changed.
    """

    def __init__(self, broker: Broker, context: ssl.SSLContext | None = None, *, login: tuple[str, str] | None = None) -> None:
        self._broker, self._context = broker, context
        self._login = b"".join(b"\0" + word.encode() for word in login) if login else None
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self._listen()

    def stop(self) -> None:
        """Refuse and drop connections, as a machine without a broker does."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._open.clear()

    def start(self) -> None:
        """Come back under the same address."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._listen()

    def _listen(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                with suppress(OSError):  # a handshake that fails
                    self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        if self._context is not None:
            client = self._context.wrap_socket(client, server_side=True)
        broker = socket.create_connection(("127.0.0.1", self._broker.port))
        self._open += client, broker
        mine, theirs = (struct.pack(">i", port) for port in (self.port, self._broker.port))
        _in_a_thread(lambda: self._pass_requests(client, broker))
        _in_a_thread(lambda: self._pass_answers(broker, client, lambda data: data.replace(theirs, mine)))

    def _pass_requests(self, client: socket.socket, broker: socket.socket) -> None:
        is_known = self._login is None
        with suppress(OSError):
            while len(size := _receive(client, 4)) == 4:
                request = _receive(client, int.from_bytes(size))
                if request == self._login:
                    is_known = True
                    client.sendall(bytes(4))
                elif self._login and request[:2] == _SASL_HANDSHAKE:
                    answer = request[4:8] + struct.pack(">hih5s", 0, 1, 5, b"PLAIN")
                    client.sendall(struct.pack(">i", len(answer)) + answer)
                elif is_known or request[:2] == _API_VERSIONS:
                    broker.sendall(size + request)
                else:
                    break
        _end(client, broker)

    def _pass_answers(self, broker: socket.socket, client: socket.socket, change: Callable[[bytes], bytes]) -> None:
        with suppress(OSError):
            if self._login:  # the first answer says "ask in an older way", the second what a broker knows, to which is added:
                for added in (b"", _SASL_HANDSHAKE + bytes(4)):
                    answer = _receive(broker, int.from_bytes(_receive(broker, 4)))
                    if added:
                        answer = answer[:6] + struct.pack(">i", int.from_bytes(answer[6:10]) + 1) + added + answer[10:]
                    client.sendall(struct.pack(">i", len(answer)) + answer)
            while data := broker.recv(1 << 16):
                client.sendall(change(data))
        _end(broker, client)


def _in_a_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, daemon=True).start()


def _receive(source: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := source.recv(size - len(data))):
        data += more
    return data


def _end(*connections: socket.socket) -> None:
    for one in connections:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


def click(n: int, **other: Any) -> Mapping[str, Any]:
    """An outcome."""
    return {"event_id": f"e{n}", "user": f"u{n % 7}", "item": "i", "action": "click", "time": 5, **other}


def slate(n: int, **other: Any) -> Mapping[str, Any]:
    """An impression of two items."""
    shown = [{"item": item, "position": place, "score": 0.5} for place, item in enumerate("ab")]
    return {"request_id": f"r{n}", "time": 5, "user": "u", "policy": "theirs", "model_version": 1, "slate": shown, **other}
