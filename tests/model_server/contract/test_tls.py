"""TLS and mutual TLS, by real certificates: who is answered, who is not, and what those are told to do."""
from collections.abc import Iterator

import pytest

from tests.certificates import Authority
from tests.model_server.contract.conftest import Launch, Running
from tests.model_server.tiny import save_tiny
from tfrec.client.client import Client
from tfrec.client.request_errors import RequestFailed
from tfrec.config import ClientTls, ServerTls
from tfrec.model_server.ssl_config import write_ssl_config


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Authority]:
    """One that signed both sides' certificates, and another."""
    directory = tmp_path_factory.mktemp("tls")
    return {name: Authority(directory, name) for name in ("ours", "theirs")}


@pytest.fixture(scope="module")
def secured(launch: Launch, authorities: dict[str, Authority], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("secured")
    cert, key = authorities["ours"].sign("server")
    write_ssl_config(ServerTls(cert=cert, key=key, client_ca=authorities["ours"].ca), root / "ssl.config")
    assert (root / "ssl.config").stat().st_mode & 0o777 == 0o600
    save_tiny(root / "tiny" / "1")
    with launch(model_name="tiny", model_base_path=str(root / "tiny"), ssl_config_file=str(root / "ssl.config")) as running:
        yield running


def asked(running: Running, tls: ClientTls) -> tuple[str, ...]:
    with Client(running.address, model="tiny", timeout=5.0, tls=tls) as client:
        return client.recommend(history=[["a"]], k=1)[0].items


def test_a_client_with_a_certificate_of_the_authority_is_answered(secured: Running, authorities: dict[str, Authority]) -> None:
    """TLS: `--ssl_config_file` with PEM text inline, `client_verify` for mutual TLS."""
    cert, key = authorities["ours"].sign("client", host="gateway")
    assert asked(secured, ClientTls(ca=authorities["ours"].ca, cert=cert, key=key)) == ("b",)


@pytest.mark.parametrize(
    ("ca", "signer", "advice"),
    [
        (None, None, r"If it is, does it want TLS \(serving.tls\)\? Then set gateway.tls.ca."),
        ("ours", None, r"does it ask for a certificate \(serving.tls.client_ca\)\? Then set gateway.tls.cert and"),
        ("ours", "theirs", r"has its serving.tls.client_ca signed .*other.crt \(gateway.tls.cert\)"),
        ("theirs", "ours", r"theirs.crt \(gateway.tls.ca\) has not signed the server's certificate: name the one that has"),
    ],
    ids=["plain", "no certificate", "certificate of another authority", "trusts another authority"],
)
def test_others_are_refused_and_told_what_to_do(
    secured: Running, authorities: dict[str, Authority], ca: str | None, signer: str | None, advice: str
) -> None:
    """TLS: as above."""
    cert, key = authorities[signer].sign("other") if signer else (None, None)
    with pytest.raises(RequestFailed, match=f"UNAVAILABLE: .*{advice}") as caught:
        asked(secured, ClientTls(ca=authorities[ca].ca if ca else None, cert=cert, key=key))
    assert caught.value.down


def test_rest_stays_plain(secured: Running) -> None:
    """TLS: gRPC only, REST stays plain HTTP."""
    assert secured.http.get("/v1/models/tiny").json()["model_version_status"][0]["state"] == "AVAILABLE"
