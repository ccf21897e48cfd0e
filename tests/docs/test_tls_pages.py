"""The certificates of the runbook, made by its commands, between a server and the client of the documentation."""
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir
from pathlib import Path

import grpc
import pytest

from tests.docs.pages import block
from tfrec.client.request_errors import RequestFailed
from tfrec.config import ServerTls, load_config
from tfrec.model_server.ssl_config import server_credentials, write_ssl_config


def test_both_sides_trust_the_certificates_of_the_runbook(tmp_path: Path) -> None:
    if not shutil.which("openssl"):
        pytest.skip("the runbook makes certificates with openssl")
    script = block("serving/RUNBOOK.md", "mkdir -p tls").text.replace("server=model-server", "server=localhost")
    made = subprocess.run(["bash", "-e"], input=script, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert made.stdout.startswith("notAfter=")
    (tmp_path / "settings.toml").write_text(block("docs/operate.md", "[serving.tls]").text)
    tls = load_config(tmp_path / "settings.toml").serving.tls
    assert tls.client_ca is not None
    with chdir(tmp_path):
        named = {name: Path("tls", path.name) for name, path in tls.model_dump().items()}
        write_ssl_config(ServerTls(**named), Path("ssl.config"))
        server, credentials = grpc.server(ThreadPoolExecutor(1)), server_credentials("ssl.config")
        assert credentials is not None
        port = server.add_secure_port("localhost:0", credentials)
        server.start()
        found: dict[str, object] = {}
        program = block("docs/operate.md", "from tfrec import Client").text
        exec(program.replace("models.internal:8500", f"localhost:{port}"), found)
        with found["client"] as client, pytest.raises(RequestFailed, match="UNIMPLEMENTED"):  # type: ignore[attr-defined]
            client.status()
        server.stop(None).wait()
