"""The files of TLS: each fault of one is named with its file, and each fault of a server's certificate with what to do."""
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import grpc
import pytest

from tests.certificates import Authority
from tfrec.client.certificates import channel_credentials
from tfrec.client.client import Client
from tfrec.client.request_errors import RequestFailed
from tfrec.config import ClientTls, load_config
from tfrec.errors import ConfigError, UsageError

Listens = Callable[..., AbstractContextManager[str]]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def listens(authority: Authority) -> Listens:
    """A server without a service, which speaks plainly or has a certificate."""
    @contextmanager
    def listening(pair: tuple[Path, Path] | None, host: str = "127.0.0.1") -> Iterator[str]:
        server = grpc.server(ThreadPoolExecutor(1))
        if pair is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            cert, key = (file.read_bytes() for file in pair)
            port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, cert)]))
        server.start()
        yield f"{host}:{port}"
        server.stop(None).wait()

    return listening


def refusal(address: str, tls: ClientTls) -> str:
    with Client(address, timeout=5.0, tls=tls) as client, pytest.raises(RequestFailed) as caught:
        client.status()
    return str(caught.value)


def test_a_server_with_a_certificate_of_the_authority_is_asked(authority: Authority, listens: Listens) -> None:
    tls = ClientTls(ca=authority.ca)
    for pair, host in ((authority.sign("by-address"), "127.0.0.1"), (authority.sign("by-name", host="localhost"), "localhost")):
        with listens(pair, host) as address:
            assert "UNIMPLEMENTED" in refusal(address, tls)


def test_what_is_wrong_with_a_servers_certificate_is_said(authority: Authority, listens: Listens) -> None:
    tls = ClientTls(ca=authority.ca)
    for pair, advice in (
        (authority.sign("expired", days=-1.0), "The server's certificate has expired: give it a new one"),
        (authority.sign("elsewhere", host="elsewhere"), "certificate is for another name: make one whose subjectAltName has"),
        (None, "The server speaks without TLS: give it a certificate (serving.tls), or leave out gateway.tls."),
    ):
        with listens(pair) as address:
            assert advice in refusal(address, tls)


def test_a_file_that_cannot_be_used_is_named(authority: Authority, tmp_path: Path) -> None:
    cert, key = authority.sign("client")
    _, other = authority.sign("other")
    _, encrypted = authority.sign("encrypted", password=b"secret")
    absent, junk = tmp_path / "absent.pem", tmp_path / "junk.pem"
    junk.write_text("no certificate")
    for files, message in (
        ((absent, None, None), f"{absent} (gateway.tls.ca): cannot be read: No such file or directory. Check the path"),
        ((tmp_path, None, None), f"{tmp_path} (gateway.tls.ca): cannot be read: Is a directory."),
        ((junk, None, None), f"{junk} (gateway.tls.ca): expected certificates in PEM"),
        ((key, None, None), f"{key} (gateway.tls.ca): expected certificates in PEM"),
        ((authority.ca, absent, key), f"{absent} (gateway.tls.cert): cannot be read"),
        ((authority.ca, cert, absent), f"{absent} (gateway.tls.key): cannot be read"),
        ((authority.ca, cert, other), f"{other} (gateway.tls.key): is not the key of {cert} (gateway.tls.cert)."),
        ((authority.ca, key, cert), f"{key} (gateway.tls.cert) and {cert} (gateway.tls.key): expected a certificate and"),
        ((authority.ca, cert, encrypted), f"{encrypted} (gateway.tls.key): is encrypted, which no server can read by itself."),
    ):
        with pytest.raises(UsageError) as caught:
            channel_credentials(ClientTls(**dict(zip(("ca", "cert", "key"), files, strict=True))))
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gateway.tls.ca=a", "gateway.tls.cert=b"], "gateway.tls needs both cert and key, or neither of them."),
        (["gateway.tls.cert=a", "gateway.tls.key=b"], "gateway.tls has cert and key, but no ca: set ca to the authority"),
        (["serving.tls.key=a"], "serving.tls needs both cert and key, or neither of them."),
        (["serving.tls.client_ca=a"], "serving.tls has client_ca, but no cert and key"),
    ],
)
def test_settings_that_do_not_make_a_whole_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, words)
    assert message in str(caught.value)
