"""The server as a process: flags, start, hot swaps under load, the end; and the choice of the real binary."""
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.model_server.tiny import save_tiny
from tfrec.client.client import Client
from tfrec.client.request_errors import RequestFailed
from tfrec.errors import ServingError, UsageError
from tfrec.model_server.embedded import EmbeddedServer
from tfrec.model_server.options import ServeOptions, parse_flags
from tfrec.model_server.process import ServerProcess, free_port
from tfrec.model_server.saved_model import SavedModel
from tfrec.model_server.server import find_model_server, main, serve


def options(base_path: Path, **flags: object) -> ServeOptions:
    return ServeOptions(port=free_port(), model_name="tiny", model_base_path=str(base_path), **flags)  # type: ignore[arg-type]


def test_no_request_fails_while_versions_are_swapped(tmp_path: Path) -> None:
    """Three clients without retries ask all the time while four versions come; then one breaks; signals end it with 0."""
    base = tmp_path / "tiny"
    save_tiny(base / "1", base=1.0)
    for number in (2, 3, 4, 5):
        save_tiny(tmp_path / f"next{number}", base=float(number))
    (tmp_path / "next5" / "saved_model.pb").write_bytes(b"broken")
    answers: list[tuple[float, int]] = []
    failures: list[str] = []
    done = threading.Event()

    def hammer(address: str) -> None:
        with Client(address, model="tiny", timeout=5.0, attempts=1) as client:
            while not done.is_set():
                try:
                    answer = client.recommend(history=[["b"]], k=1)[0]
                    answers.append((answer.scores[0], answer.version))
                except ServingError as error:
                    failures.append(str(error))
                done.wait(0.003)  # as long as an answer takes: the server needs some of the machine as well

    with ServerProcess(options(base, poll_seconds=0.1, max_num_load_retries=0)) as server:
        threads = [threading.Thread(target=hammer, args=(server.address,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        with Client(server.address, model="tiny") as watcher:
            for number in (2, 3, 4, 5):
                (tmp_path / f"next{number}").rename(base / str(number))
                wait_for(watcher, number, "END" if number == 5 else "AVAILABLE")
            assert [(v.version, v.state) for v in watcher.status()] == [
                (5, "END"),
                (4, "AVAILABLE"),
                (3, "END"),
                (2, "END"),
                (1, "END"),
            ]
            assert watcher.status()[0].error
        done.set()
        for thread in threads:
            thread.join()
        os.kill(server.pid, signal.SIGINT)
        assert server.stop() == 0  # SIGTERM on top of it
    assert failures == []
    assert all(score == version for score, version in answers)  # an answer is of one version, whole
    assert {version for _, version in answers} >= {1, 4}
    assert len(answers) > 100


def wait_for(client: Client, version: int, state: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if client.status()[0].version == version and client.status()[0].state == state:
            time.sleep(0.15)  # a poll later the version before it has ended too
            return
        time.sleep(0.02)
    raise AssertionError(f"version {version} did not become {state}: {client.status()}")


def test_a_model_that_cannot_be_loaded_ends_the_start(tmp_path: Path) -> None:
    save_tiny(tmp_path / "1")
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"broken")
    server = EmbeddedServer(options(tmp_path, max_num_load_retries=0), stopping=threading.Event())
    with pytest.raises(ServingError, match=r"tiny: no version under .* could be loaded. version 1: "):
        server.start()
    server.stop()


def test_a_process_that_dies_leaves_its_last_words(tmp_path: Path) -> None:
    binary = tmp_path / "tensorflow_model_server"
    binary.write_text('#!/bin/sh\necho "cannot serve: $@" >&2\nexit 2\n')
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    flags = ServeOptions(port=free_port(), model_base_path="/m")
    with (
        pytest.raises(ServingError, match=rf"ended with code 2: cannot serve: --port={flags.port} --model_base_path=/m$"),
        ServerProcess(flags, installed=binary),
    ):
        pass


def test_a_config_that_is_wrong_ends_the_server_with_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "models.config").write_text("model_config_list {")
    assert main([f"--port={free_port()}", f"--model_config_file={tmp_path / 'models.config'}"]) == 2
    assert "Error parsing text-format tensorflow.serving.Model" in capsys.readouterr().err


def test_it_waits_for_a_base_path_and_can_be_told_to_end_meanwhile(tmp_path: Path) -> None:
    stopping = threading.Event()
    server = EmbeddedServer(options(tmp_path / "later", host="127.0.0.1"), stopping=stopping)
    thread = threading.Thread(target=server.start)
    thread.start()
    stopping.set()
    thread.join(5)
    assert not thread.is_alive()
    server.stop()


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    save_tiny(tmp_path / "1")
    flags = options(tmp_path, host="127.0.0.1", rest_api_port=free_port())
    first = EmbeddedServer(flags, stopping=threading.Event())
    first.start()
    second = EmbeddedServer(flags, stopping=threading.Event())
    with pytest.raises(ServingError, match=f"127.0.0.1:{flags.port}: cannot listen for gRPC.*--port"):
        second.start()
    second.stop()
    first.stop()


def test_more_requests_than_threads_are_refused_and_begun_ones_end_before_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, finish = threading.Event(), threading.Event()
    x = {"x": np.zeros([1, 2], np.float32)}

    def slow(*_: Any, **__: Any) -> dict[str, np.ndarray]:
        begun.set()
        assert finish.wait(10)
        return {"y": np.zeros(1, np.float32)}

    save_tiny(tmp_path / "1")
    flags = options(tmp_path, host="127.0.0.1", grpc_max_threads=1, rest_api_port=free_port(), rest_api_timeout_in_ms=50)
    server = EmbeddedServer(flags, stopping=threading.Event())
    server.start()
    monkeypatch.setattr(SavedModel, "run", slow)
    rest = f"http://127.0.0.1:{flags.rest_api_port}/v1/models/tiny"
    with (
        Client(f"127.0.0.1:{server.options.port}", model="tiny", timeout=10.0, attempts=1) as client,
        ThreadPoolExecutor() as pool,
    ):
        first = pool.submit(client.predict, "double", x)
        assert begun.wait(10)
        with pytest.raises(RequestFailed, match="RESOURCE_EXHAUSTED"):
            client.predict("double", x)
        body = {"signature_name": "double", "instances": [[1.0, 2.0]]}
        for _ in range(2):  # the second does not get as far as a thread
            late = httpx.post(f"{rest}:predict", json=body, timeout=30, trust_env=False)
            assert (late.status_code, late.json()) == (504, {"error": "Timed out after 0.05 s (--rest_api_timeout_in_ms)."})
        assert httpx.get(rest, trust_env=False).status_code == 200  # a question about the state has a thread of its own
        stopped = pool.submit(server.stop)
        assert not stopped.done()
        finish.set()
        assert first.result(10).version == 1
        stopped.result(10)


def test_flags_are_the_real_ones_without_the_defaults() -> None:
    options = ServeOptions(
        port=1, model_base_path="/m", allow_version_labels_for_unavailable_models=True, file_system_poll_wait_seconds=2
    )
    assert options.flags() == [
        "--port=1",
        "--model_base_path=/m",
        "--allow_version_labels_for_unavailable_models=true",
        "--file_system_poll_wait_seconds=2",
    ]


def test_it_ends_when_its_parent_is_gone(tmp_path: Path) -> None:
    save_tiny(tmp_path / "1")
    script = (
        "import os; from tfrec.model_server.process import ServerProcess; from tfrec.model_server.server import ServeOptions; "
        f"server = ServerProcess(ServeOptions(port={free_port()}, model_base_path={str(tmp_path / 'none')!r})).begin(); "
        "print(server.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    child = int(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment).stdout)
    assert is_gone(child)


def is_gone(process: int) -> bool:
    """Whether it ends within a minute."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and Path(f"/proc/{process}").exists():
        time.sleep(0.02)
    return not Path(f"/proc/{process}").exists()


@pytest.mark.parametrize("word", ["exec", "trap '' TERM; exec"], ids=["gentle", "deaf"])
@pytest.mark.parametrize("seconds", [0.0, 0.5])
def test_the_installed_server_ends_with_its_process_however_that_is_stopped(tmp_path: Path, word: str, seconds: float) -> None:
    """Nothing else would end it: the real server knows of no parent."""
    binary, noted = tmp_path / "tensorflow_model_server", tmp_path / "pid"
    binary.write_text(f"#!/bin/sh\necho $$ > {noted}.new && mv {noted}.new {noted}\n{word} sleep 600\n")
    binary.chmod(0o755)
    server = ServerProcess(ServeOptions(port=free_port(), model_base_path=str(tmp_path)), installed=binary).begin()
    while not noted.exists():
        server.check()
        time.sleep(0.02)
    server.stop(seconds)
    assert is_gone(int(noted.read_text()))


def test_nothing_to_serve_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="--model_base_path"):
        ServeOptions()
    assert main([]) == 2
    assert "Nothing to serve" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model_config_list {", "Error parsing text-format tensorflow.serving.ModelServerConfig: 1:"),
        ("", "Only ModelConfigList is currently supported"),
        ('model_config_list { config { name: "a" base_path: "/a" } }', "nor ModelServerConfig::model_platform"),
        (
            'model_config_list { config { name: "a" base_path: "/a" model_platform: "tensorflow" '
            'version_labels { key: "x" value: 1 } } }',
            "--allow_version_labels_for_unavailable_models=true",
        ),
    ],
)
def test_bad_model_configs_are_usage_errors(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "models.config"
    path.write_text(text)
    with pytest.raises(UsageError, match=f"models.config: .*{message}"):
        EmbeddedServer(ServeOptions(model_config_file=str(path)), stopping=threading.Event()).start()


def test_flags_are_read_as_the_real_server_reads_them() -> None:
    words = ["--port=1", "--enable_batching", "--model_base_path=/m", "--enable_model_warmup=false", "--platform_config_file=x"]
    options, others = parse_flags(words, model_name="tfrec", port=2)
    assert options == ServeOptions(
        port=1, model_name="tfrec", model_base_path="/m", enable_batching=True, enable_model_warmup=False
    )
    assert others == ["--platform_config_file=x"]
    with pytest.raises(UsageError, match="argument --enable_batching: expected true or false, got 'maybe'"):
        parse_flags(["--enable_batching=maybe"])
    with pytest.raises(UsageError, match="--batching_parameters_file is given without --enable_batching=true"):
        parse_flags(["--model_base_path=/m", "--batching_parameters_file=b"])


@pytest.mark.parametrize(
    "word",
    [
        "--file_system_poll_wait_seconds=0.5",
        "--file_system_poll_wait_seconds=-1",
        "--port=many",
        "--port=65536",
        "--port=-1",
        "--port=1_000",
        "--port=0",
        "--grpc_max_threads=0",
        "--rest_api_port=8500",
        "--rest_api_timeout_in_ms=1e3",
        "--max_num_load_retries=" + "9" * 20,
        "--grpc_channel_arguments=grpc.max_connection_age_ms",
    ],
)
def test_a_flag_with_a_value_that_it_cannot_have_is_named(word: str) -> None:
    with pytest.raises(UsageError, match=word.partition("=")[0]):
        parse_flags(["--model_base_path=/m", word])


def test_flags_that_change_no_answer_are_passed_over_with_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stopping = threading.Event()
    stopping.set()
    serve(ServeOptions(model_base_path=str(tmp_path)), ["--tensorflow_session_parallelism=2"], embedded=True, stopping=stopping)
    assert "does without --tensorflow_session_parallelism=2" in caplog.text


def test_a_start_line_of_the_real_server_s_own_tests(tmp_path: Path) -> None:
    """They give a socket, channel arguments and a timeout of REST; the socket answers, without a TCP port as well."""
    save_tiny(tmp_path / "m" / "1")
    words = ["--port=0", f"--grpc_socket_path={tmp_path}/socket", f"--model_base_path={tmp_path}/m", "--model_name=tiny",
             "--grpc_channel_arguments=grpc.max_concurrent_streams=7,grpc.primary_user_agent=x", "--rest_api_timeout_in_ms=1000"]
    flags, unknown = parse_flags(words)
    assert unknown == []
    assert flags.channel_arguments() == [("grpc.max_concurrent_streams", 7), ("grpc.primary_user_agent", "x")]
    server = EmbeddedServer(flags, stopping=threading.Event())
    server.start()
    try:
        with Client(f"unix:{tmp_path}/socket", model="tiny") as client:
            assert client.recommend(history=[["b"]], k=1)[0].version == 1
    finally:
        server.stop()


def test_it_listens_on_the_loopback_unless_told_otherwise() -> None:
    assert ServeOptions(model_base_path="/m").address == "127.0.0.1"
    assert parse_flags(["--model_base_path=/m", "--host=0.0.0.0"])[0].address == "0.0.0.0"


def test_flags_that_only_the_real_server_has_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model_base_path=/m", "--platform_config_file=x"]) == 2
    assert "embedded server has no --platform_config_file=x" in capsys.readouterr().err


def test_the_real_binary_is_found_and_takes_over_with_its_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TFREC_MODEL_SERVER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_model_server() is None
    binary = tmp_path / "tensorflow_model_server"
    binary.write_text('#!/bin/sh\necho "$@"\n')
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    assert find_model_server() == binary
    for host in ("127.0.0.1", "1.2.3.4"):
        with pytest.raises(UsageError, match=f"--host={host}: .*has no such flag, it listens on every interface"):
            serve(ServeOptions(model_base_path="m", host=host))
    options = "ServeOptions(model_base_path='m', host='0.0.0.0', poll_seconds=0.1)"
    script = f"from tfrec.model_server.server import ServeOptions, serve; serve({options}, ['--x'])"
    found = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{tmp_path}:/bin:/usr/bin", "PYTHONPATH": str(Path(__file__).parents[2])},
        check=True,
    )
    assert found.stdout == f"--model_base_path={tmp_path}/m --x\n"
    monkeypatch.setenv("TFREC_MODEL_SERVER", str(tmp_path / "missing"))
    with pytest.raises(UsageError, match="TFREC_MODEL_SERVER is .*missing"):
        find_model_server()
