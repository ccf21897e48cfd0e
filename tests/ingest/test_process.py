"""`tfrec ingest` as a process: kills, signals, exit codes, TLS by a file of properties."""
import json
import shutil
import ssl
import subprocess
import sys
import time

import pytest

from tests.ingest.broker import Broker, Proxy, click
from tests.ingest.kills import TOPIC, command, kill_while_sending
from tfrec.data.feedback_log.log import FeedbackLog


@pytest.fixture(scope="module")
def broker():
    return Broker()


def test_three_kills_lose_nothing_and_give_nothing_twice(broker, run):
    found = kill_while_sending(broker, run, kills=3, seconds=0.2)
    assert (found["lost"], found["twice"]) == (0, 0), found
    assert found["sent"] > 100


def test_sigterm_ends_it_after_a_commit(run):
    broker = Broker()
    broker.send(TOPIC, [click(n) for n in range(1000)])
    process = subprocess.Popen(command(broker, run, "--follow", "--json"), text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    log, until = FeedbackLog(run / "log"), time.monotonic() + 60
    while not (log.exists() and log.last_seq(f"kafka:{TOPIC}:0")):
        assert time.monotonic() < until
        time.sleep(0.02)
    broker.send(TOPIC, [click(n) for n in range(1000, 3000)])
    process.terminate()
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert json.loads(out)["parts"][0]["outcomes"] == log.read("outcomes").num_rows >= 1000


def test_what_the_command_says(call, broker, run, tmp_path):
    broker.send("known", [click(1)])
    words = "ingest", "--from", "kafka", "--servers", broker.address, "--set", f"run={run}"
    assert call(*words, "known")[0] == 0
    code, out, err = call(*words, "knwon")
    assert (code, out) == (2, "")
    assert "there is no topic 'knwon'" in err
    code, _, err = call("ingest", "--from", "kafka", "known", "--set", f"run={run}")
    assert (code, "ingest --from kafka needs a broker" in err) == (2, True)
    (tmp_path / "a.jsonl").write_text("a,b\n")
    code, out, err = call("ingest", "--from", "jsonl", tmp_path, "--json", "--set", f"run={run}")
    assert (code, len(json.loads(out)["faults"])) == (1, 1)
    assert "none of its first 1 rows is a record" in err


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A key and a certificate for 127.0.0.1, signed by itself."""
    if not shutil.which("openssl"):
        pytest.skip("the certificate is made by openssl")
    made = tmp_path_factory.mktemp("tls") / "both.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", made, "-out", f"{made}.crt"],
                   check=True, capture_output=True)
    made.write_text(made.read_text() + made.with_name("both.pem.crt").read_text())
    return made


def test_tls_and_a_login_by_a_file_of_properties(call, broker, run, tmp_path, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    proxy = Proxy(broker, context, login=("shop", "= secret #1"))
    broker.send("secret", [click(1)])
    properties = tmp_path / "kafka.properties"
    properties.write_text(f"# of the shop\n\nbootstrap.servers={proxy.address}\nsecurity.protocol=sasl_ssl\n"
                          f"ssl.ca.location = {certificate}\nsasl.mechanism=PLAIN\nsasl.username=shop\n"
                          "sasl.password== secret #1\n")
    words = "ingest", "--from", "kafka", "secret", "--set", f"run={run}", "--set", f"ingest.kafka={properties}"
    code, _, err = call(*words)
    assert code == 0, err
    assert FeedbackLog(run / "log").read("outcomes")["event_id"].to_pylist() == ["e1"]


@pytest.mark.parametrize(("line", "said"), [
    ("bootstrap.servers", "line 2: expected name=value"),
    ("enable.auto.commit=true", "line 2: enable.auto.commit is set by tfrec"),
    ("no.such.property=1", 'No such configuration property: "no.such.property"'),
    ("security.protocol=tls", 'Invalid value "tls" for configuration property "security.protocol"'),
    ("ssl.ca.location=/no/such/file", "ssl.ca.location"),
])  # fmt: skip
def test_a_property_that_is_wrong_is_named_and_no_password_is_shown(call, run, tmp_path, line, said):
    properties = tmp_path / "kafka.properties"
    tls = "" if line.startswith("security") else "security.protocol=ssl\n"
    properties.write_text(f"sasl.password=xyzzy\n{line}\nbootstrap.servers=127.0.0.1:9\n{tls}")
    code, out, err = call("ingest", "--from", "kafka", "a", "--set", f"run={run}", "--set", f"ingest.kafka={properties}")
    assert (code, out) == (2, "")
    assert said in err
    assert "xyzzy" not in err


def test_without_the_package_the_line_that_installs_it_is_shown(call, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    monkeypatch.delitem(sys.modules, "tfrec.ingest.kafka", raising=False)
    code, _, err = call("ingest", "--from", "kafka", "a", "--set", f"run={run}")
    assert (code, 'pip install "tfrec[kafka]"' in err) == (1, True)
