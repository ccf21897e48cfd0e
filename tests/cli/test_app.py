"""The program as a person meets it: by its exit code and its two streams."""
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

import tfrec
from tests.certificates import Authority
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.write_ahead_log import WriteAheadFile
from tfrec.data.feedback_log.writer import LogWriter
from tfrec.data.records import Impression, Outcome
from tfrec.errors import TfrecError
from tfrec.model_server.options import ServeOptions
from tfrec.model_server.text_protos import read_ssl
from tfrec.release.manifest import Manifest, write_manifest

ROOT = Path(__file__).parents[2]


def test_the_program_runs_in_a_process_of_its_own():
    found = subprocess.run([sys.executable, "-m", "tfrec", "--version"], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (found.returncode, found.stdout, found.stderr) == (0, f"{tfrec.__version__}\n", "")


def test_without_a_command_the_help_is_shown(call):
    _, out, err = call()
    assert "Search and recommendation that learns from its own feedback." in out + err


def test_an_unknown_command_is_wrong_usage(call):
    code, out, err = call("recommend-everything")
    assert (code, out) == (2, "")
    assert "recommend-everything" in err


def test_the_help_lists_exactly_the_commands(call):
    code, out, _ = call("--help")
    # a command is the first word of its line, or the first in the box that a terminal gets
    listed = re.findall(r"^(?:│ |  )([a-z-]+) {2,}\S", out.partition("Commands")[2], re.MULTILINE)
    commands = ("demo pretrain tune train evaluate sweep export retrain ingest join serve ssl-config gateway publish pull "
                "rollback status ope rules monitor exposure forget experiment review")
    assert (code, listed) == (0, commands.split())


@pytest.mark.parametrize("command", ["train", "evaluate", "sweep"])
def test_data_that_is_not_named_is_asked_for(call, tmp_path, command):
    code, out, err = call(command, "--set", f"run={tmp_path / 'run'}")
    assert (code, out) == (2, "")
    assert f"{command} needs a catalogue and interactions: pass --items FILE --interactions FILE" in err
    absent = tmp_path / "no.csv"
    code, _, err = call(command, "--items", absent, "--interactions", absent, "--set", f"run={tmp_path}")
    assert (code, str(absent) in err) == (1, True)


@pytest.mark.parametrize("command", ["train", "evaluate", "sweep"])
def test_a_run_that_is_a_file_is_refused_before_work(call, tmp_path, command):
    (tmp_path / "run").write_text("mine")
    code, out, err = call(command, "--items", "no.csv", "--interactions", "no.csv", "--set", f"run={tmp_path / 'run'}")
    assert (code, out) == (2, "")
    assert "is no directory that this user may write to" in err


def test_evaluate_knows_two_protocols(call):
    code, out, err = call("evaluate", "--protocol", "leave-two-out")
    assert (code, out) == (2, "")
    assert "--protocol must be prequential or leave-one-out, got 'leave-two-out'." in err


@pytest.mark.parametrize("protocol", ["prequential", "leave_one_out"])
def test_evaluate_sets_a_bad_row_aside_once_and_takes_every_item_for_a_candidate(call, tmp_path, monkeypatch, protocol):
    (tmp_path / "items.csv").write_text("item,text\na,first\nb,second\n")
    (tmp_path / "log.csv").write_text("user,item,time\nu,c,5\nu,b,soon\nu,a,7\n")
    given = []

    def evaluated(config, catalogue, inter):
        given.append((catalogue.ids.tolist(), inter.item.tolist()))
        return SimpleNamespace(to_dict=dict)

    monkeypatch.setattr(f"tfrec.evaluation.{protocol}.{protocol}", evaluated)
    run = tmp_path / "run"
    files = ("--items", tmp_path / "items.csv", "--interactions", tmp_path / "log.csv")
    words = ("--protocol", protocol.replace("_", "-"))
    code, _, err = call("evaluate", *files, *words, "--skip-bad-rows", "--set", f"run={run}", "--json")
    assert (code, given) == (0, [(["a", "b", "c"], [2, 0])])
    assert "1 bad row set aside" in err
    assert len((run / "quarantine-evaluate.jsonl").read_text().splitlines()) == 1



def test_sweep_refuses_a_wrong_range_before_it_reads_anything(call, tmp_path):
    files = ("--items", tmp_path / "no.csv", "--interactions", tmp_path / "no.csv", "--set", f"run={tmp_path / 'run'}")
    code, out, err = call("sweep", *files, "--vary", "training.learning_rate=1..0.1")
    assert (code, out) == (2, "")
    assert "--vary: training.learning_rate expects a range such as 0.1..0.5" in err
    code, _, err = call("sweep", *files, "--vary", "model.dims=32,64")
    assert (code, "(nearest: 'model.dim')" in err) == (2, True)
    assert call("sweep", "--trials", "0")[0] == 2


def test_export_does_not_touch_what_is_there(call, tmp_path):
    (tmp_path / "export").mkdir()
    code, out, err = call("export", tmp_path / "export", "--set", f"run={tmp_path}")
    assert (code, out) == (2, "")
    assert f"{tmp_path / 'export'} exists already. Name another output, or remove it." in err


def test_demo_takes_both_files_or_none(call):
    code, out, err = call("demo", "--items", "items.csv")
    assert (code, out) == (2, "")
    assert "demo needs --items and --interactions together" in err


@pytest.mark.parametrize("every", ["0", "5 minutes", "-3m", "m"])
def test_retrain_every_is_a_time(call, every):
    code, out, err = call("retrain", "--every", every)
    assert (code, out) == (2, "")
    assert "expected a time such as 90s, 5m, 2h or 1d" in err


@pytest.mark.parametrize(("outcome", "expected"), [("promoted", 0), ("waiting", 0), ("rejected", 3)])
def test_retrain_ends_with_a_code_for_a_scheduler(call, tmp_path, monkeypatch, outcome, expected):
    from tfrec.retrain import Retrained

    ended = Retrained(outcome, "because", 7, events=12, learnt=9)
    monkeypatch.setattr("tfrec.retrain.retrain", lambda config, *, now: ended)
    code, out, _ = call("retrain", "--set", f"run={tmp_path}", "--json")
    assert (code, json.loads(out)["outcome"], json.loads(out)["version"]) == (expected, outcome, 7)


def test_retrain_every_goes_on_after_a_run_that_was_rejected_or_failed(call, tmp_path, monkeypatch):
    from tfrec.retrain import Retrained

    moments, before = [], signal.getsignal(signal.SIGTERM)

    def retrain(config, *, now, session):
        moments.append(now)
        if len(moments) == 2:
            raise TfrecError("another retrain of this run is at work")
        if len(moments) == 3:
            raise MemoryError("of another kind")
        if len(moments) == 5:
            signal.raise_signal(signal.SIGTERM)
            session.check()
        return Retrained("rejected", "because", 7, events=12, learnt=9)

    monkeypatch.setattr("tfrec.retrain.retrain", retrain)
    code, out, err = call("retrain", "--every", "0.01s", "--set", f"run={tmp_path}")
    assert (code, len(moments)) == (0, 5)
    assert "another retrain of this run is at work" in err
    assert "MemoryError: of another kind" in err
    lines = out.splitlines()
    assert len(lines) == 2
    assert "rejected: version 7, 12 new events, 9 learnt, 0.0 s (). because" in lines[0]
    assert signal.getsignal(signal.SIGTERM) == before


def test_retrain_every_writes_a_line_of_json_for_each_run(call, tmp_path, monkeypatch):
    from tfrec.retrain import Retrained

    def retrain(config, *, now, session):
        session.stopping.set()
        return Retrained("promoted", "because", 8, events=12, learnt=9, seconds={"train": 0.5})

    monkeypatch.setattr("tfrec.retrain.retrain", retrain)
    code, out, _ = call("retrain", "--every", "10s", "--json", "--set", f"run={tmp_path}")
    assert code == 0
    assert [json.loads(line)["seconds"] for line in out.splitlines()] == [{"train": 0.5}]


@pytest.mark.parametrize("words", [("train",), ("evaluate",), ("publish", "export"), ("gateway",)])
def test_a_run_that_cannot_be_written_is_refused_before_work_starts(call, words):
    code, out, err = call(*words, "--set", "run=/proc/none")
    assert (code, out) == (2, "")
    assert "/proc/none" in err
    assert "cannot be made: No such file or directory. Name another one." in err or "cannot be written" in err


def test_a_wrong_setting_ends_the_command_before_it_starts(call):
    code, out, err = call("join", "--set", "training.epoch=3")
    assert (code, out) == (2, "")
    assert err == "error: --set: there is no setting 'training.epoch'. Did you mean 'training.epochs'?\n"


@pytest.fixture
def run(tmp_path):
    """A run directory whose log holds one slate of a and b, a click on b, and an organic view of c."""
    (tmp_path / "items.csv").write_text("item,text\na,first\nb,second\nc,third\n")
    slate = [{"item": "a", "position": 0, "score": 2}, {"item": "b", "position": 1, "score": 1}]
    with LogWriter(FeedbackLog(tmp_path / "log"), WriteAheadFile(tmp_path / "wal", "test")) as writer:
        writer.impression(Impression(request_id="r", time=1000, user="u", slate=slate, policy="greedy", model_version=1))
        writer.outcome(
            Outcome(event_id="1", user="u", item="b", action="click", time=1010, request_id="r"),
            Outcome(event_id="2", user="v", item="c", action="view", time=1020),
        )
    return tmp_path


def test_join_prints_counts_and_writes_examples(call, run):
    code, out, _ = call("join", "--items", run / "items.csv", "--output", run / "e.parquet", "--set", f"run={run}", "--json")
    assert code == 0
    counts = json.loads(out)
    assert (counts["examples"], counts["duplicates"], counts["immature"]) == (3, 0, 0)
    table = pq.read_table(run / "e.parquet")
    assert dict(zip(table["item"].to_pylist(), table["reward"].to_pylist(), strict=True)) == {"a": 0.0, "b": 1.0, "c": 1.0}


def test_join_refuses_what_it_cannot_do(call, run):
    (run / "e.parquet").write_text("kept")
    code, _, err = call("join", "--items", run / "items.csv", "--output", run / "e.parquet", "--set", f"run={run}")
    assert (code, "e.parquet exists already" in err) == (2, True)
    code, _, err = call("join", "--set", f"run={run}")
    assert (code, "pass --items FILE or set data.items" in err) == (2, True)
    code, _, err = call("join", "--items", run / "items.csv", "--set", f"run={run / 'nowhere'}")
    assert (code, "There is no feedback log in" in err) == (2, True)


def test_serve_refuses_a_run_without_a_published_version(call, tmp_path):
    code, _, err = call("serve", "--set", f"run={tmp_path}")
    assert (code, "Nothing is published in" in err) == (2, True)


def test_serve_offers_what_the_run_has_published(call, tmp_path, monkeypatch):
    served = []
    monkeypatch.setattr("tfrec.model_server.server.serve", lambda options, others: served.append((options, others)))
    monkeypatch.setattr("tfrec.model_server.server.find_model_server", lambda: Path("tensorflow_model_server"))
    (tmp_path / "models" / "films").mkdir(parents=True)
    run = ("--set", f"run={tmp_path}", "--set", "serving.model_name=films")
    assert call("serve", "--port=9000", "--enable_batching", *run, "--tensorflow_session_parallelism=2")[0] == 0
    [(options, others)] = served
    assert (options.port, options.rest_api_port, options.model_name) == (9000, 8501, "films")
    assert (options.model_base_path, options.enable_batching) == (str(tmp_path / "models" / "films"), True)
    assert others == ["--tensorflow_session_parallelism=2"]


def test_serve_takes_a_model_server_s_flags_and_no_run(call, monkeypatch):
    served = []
    monkeypatch.setattr("tfrec.model_server.server.serve", lambda options, others: served.append(options))
    monkeypatch.setattr("tfrec.model_server.server.find_model_server", lambda: Path("tensorflow_model_server"))
    assert call("serve", "--model_config_file=/etc/models.config")[0] == 0
    assert served == [ServeOptions(model_config_file="/etc/models.config")]
    code, _, err = call("serve", "--model_base_path=/models/films", "--port=many")
    assert (code, "argument --port: expected a whole number, got 'many'" in err) == (2, True)


def test_serve_passes_the_certificates_of_the_settings_unless_told_others(call, monkeypatch, tmp_path):
    served = []
    monkeypatch.setattr("tfrec.model_server.server.serve", lambda options, others: served.append(options.ssl_config_file))
    monkeypatch.setattr("tfrec.model_server.server.find_model_server", lambda: Path("tensorflow_model_server"))
    authority = Authority(tmp_path)
    cert, key = authority.sign("server")
    tls = ["--set", f"serving.tls.cert={cert}", "--set", f"serving.tls.key={key}", "--model_base_path=/models/films"]
    assert call("serve", *tls, "--set", f"serving.tls.client_ca={authority.ca}")[0] == 0
    assert call("serve", *tls, "--ssl_config_file=mine")[0] == 0
    assert served[1] == "mine"
    found = read_ssl(served[0])
    assert (found.server_cert, found.server_key) == (cert.read_text(), key.read_text())
    assert (found.custom_ca, found.client_verify) == (authority.ca.read_text(), True)
    reader = "import sys; print(open(sys.argv[1]).read().count('PRIVATE KEY'))"
    seen = subprocess.run([sys.executable, "-c", reader, served[0]], close_fds=False, capture_output=True, text=True)
    assert seen.stdout == "2\n", "a program that takes this one over can read it"
    assert call("ssl-config", *tls[:4], "--out", tmp_path / "ssl.config")[0] == 0
    assert not read_ssl(str(tmp_path / "ssl.config")).client_verify
    code, _, err = call("serve", *tls[:2], "--set", f"serving.tls.key={authority.ca}", tls[-1])
    assert (code, "ca.crt (serving.tls.key): expected a certificate and a private key" in err) == (2, True)
    code, _, err = call("ssl-config")
    assert (code, "set serving.tls.cert and serving.tls.key" in err) == (2, True)


@pytest.fixture
def published(tmp_path):
    """A run directory with the versions 1 and 2."""
    for number in (1, 2):
        (tmp_path / "models" / "tfrec" / str(number)).mkdir(parents=True)
        write_manifest(tmp_path / "models" / "tfrec" / str(number), Manifest(version=number, created_at=number))
    return tmp_path


def test_rollback_and_status_tell_of_versions(call, published):
    code, out, _ = call("rollback", "--set", f"run={published}", "--json")
    assert (code, json.loads(out)) == (0, {"version": 3, "copy_of": 1, "rolled_back_from": 2})
    code, out, _ = call("status", "--set", f"run={published}", "--json")
    assert (code, [v["version"] for v in json.loads(out)["versions"]]) == (0, [3, 2, 1])


def test_rollback_refuses_what_is_not_there(call, published):
    code, out, err = call("rollback", "--to", 7, "--set", f"run={published}")
    assert (code, out, "cannot roll back to version 7" in err) == (2, "", True)


def test_publish_verifies_prunes_and_says_where(call, tmp_path, monkeypatch):
    monkeypatch.setattr("tfrec.release.publish.verify", lambda export, *, seconds, parent: 1)  # a real server: tests/serving
    export = tmp_path / "export"
    export.mkdir()
    for created_at in (1, 2, 3):
        write_manifest(export, Manifest(created_at=created_at))
        code, out, _ = call("publish", export, "--set", f"run={tmp_path}", "--set", "serving.keep_versions=2", "--json")
        assert code == 0
    directory = tmp_path / "models" / "tfrec"
    assert json.loads(out) == {"version": 3, "directory": str(directory / "3"), "removed": [1]}
    assert sorted(entry.name for entry in directory.iterdir() if entry.is_dir()) == ["2", "3"]


@pytest.mark.parametrize("words", [(), ("export", "--prior")])
def test_publish_takes_an_export_or_a_change(call, words):
    code, _, err = call("publish", *words)
    assert (code, "needs an EXPORT directory, or else --items FILE, --prior or both" in " ".join(err.split())) == (2, True)


def test_publish_of_a_change_needs_a_version(call, tmp_path):
    code, _, err = call("publish", "--prior", "--set", f"run={tmp_path}")
    assert (code, "no version is published whose items could change" in " ".join(err.split())) == (2, True)


def test_publish_refuses_what_is_no_export(call, tmp_path):
    code, _, err = call("publish", tmp_path, "--set", f"run={tmp_path}")
    assert (code, "is no export of tfrec" in err) == (1, True)


def test_gateway_passes_what_it_was_told(call, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr("tfrec.gateway.serve.serve_gateway", lambda config, **told: started.append((config.run, told)))
    code, _, _ = call("gateway", "--server", "models:9000", "--port", 9001, "--writer", "second", "--set", f"run={tmp_path}")
    assert code == 0
    assert started == [(tmp_path, {"model_server": "models:9000", "host": "127.0.0.1", "port": 9001, "writer": "second"})]
