"""Which models and versions are served: configuration, reload, policies, labels, polling, swap, warm-up."""
import shutil
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest

from tests.model_server.contract.conftest import Launch, Running, eventually, path_of
from tests.model_server.contract.test_predict_grpc import Code, doubling, refused
from tests.model_server.tiny import save_tiny
from tfrec.client.warmup import WARMUP_FILE
from tfrec.errors import TfrecError

QUICK = {"poll_seconds": 0.05, "max_num_load_retries": 0}


def entry(name: str, base: Path, more: str = "") -> str:
    return f'config {{ name: "{name}" base_path: "{base}" model_platform: "tensorflow" {more} }}'


def config(*entries: str) -> str:
    return f"model_config_list {{ {' '.join(entries)} }}"


def reload_to(text: str) -> ReloadConfigRequest:
    request = ReloadConfigRequest()
    text_format.Parse(text, request.config)
    return request


def states(running: Running, name: str = "m") -> list[tuple[int, int]]:
    request = GetModelStatusRequest()
    request.model_spec.name = name
    return [(v.version, v.state) for v in running.models.GetModelStatus(request, timeout=5).model_version_status]


def answered(running: Running, *, name: str = "m", label: str = "", version: int = 0) -> int:
    request = doubling()
    request.model_spec.name = name
    if label:
        request.model_spec.version_label = label
    if version:
        request.model_spec.version.value = version
    return int(running.predictions.Predict(request, timeout=5).model_spec.version.value)


def reload_refused(running: Running, text: str) -> tuple[grpc.StatusCode, str]:
    return refused(running.models.HandleReloadConfigRequest, reload_to(text))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("export") / "tiny")


@pytest.fixture
def base(tmp_path: Path, exported: Path) -> Path:
    shutil.copytree(exported, tmp_path / "m" / "1")
    return tmp_path / "m"


def add(base: Path, number: int) -> None:
    """A version that appears whole, as `publish` makes it."""
    shutil.copytree(base / "1", base.parent / f"next{number}")
    (base.parent / f"next{number}").rename(base / str(number))


def test_a_reload_replaces_the_whole_set(launch: Launch, base: Path, exported: Path, tmp_path: Path) -> None:
    """model_config_list: a reload replaces the set, dropped models unload; Status: unloaded versions stay listed as END."""
    shutil.copytree(exported, tmp_path / "n" / "5")
    with launch(model_config_file=path_of(tmp_path, "models", config(entry("m", base))), **QUICK) as running:
        request = reload_to(config(entry("n", tmp_path / "n")))
        assert running.models.HandleReloadConfigRequest(request, timeout=30).status.error_code == 0
        assert answered(running, name="n") == 5
        eventually(lambda: states(running) == [(1, 50)])
        gone = doubling()
        gone.model_spec.name = "m"
        assert refused(running.predictions.Predict, gone) == (Code.NOT_FOUND, "Servable not found for request: Latest(m)")
        both = reload_to(config(entry("n", tmp_path / "n"), entry("m", base)))
        running.models.HandleReloadConfigRequest(both, timeout=30)
        assert (answered(running), answered(running, name="n")) == (1, 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported"),
        (config(entry("m", Path("/m")), entry("m", Path("/n"))), "Illegal to list model m multiple times in config list"),
        (
            config(entry("m", Path("models"))),
            "Expected model m to have an absolute path or URI; got base_path()=models",
        ),
    ],
)
def test_a_config_that_is_wrong_changes_nothing(served: Running, text: str, message: str) -> None:
    """gRPC services, gRPC errors: HandleReloadConfigRequest takes a model_config_list only, and refuses as INVALID_ARGUMENT."""
    assert reload_refused(served, text) == (Code.INVALID_ARGUMENT, message)
    assert answered(served, name="tiny") == 4


def test_a_new_model_that_cannot_be_loaded_is_told(launch: Launch, base: Path, tmp_path: Path) -> None:
    """gRPC services: a reload ends when its new models are up, or with what kept them from it."""
    shutil.copytree(base, tmp_path / "n")
    (tmp_path / "n" / "1" / "saved_model.pb").write_bytes(b"broken")
    with launch(model_config_file=path_of(tmp_path, "models", config(entry("m", base))), **QUICK) as running:
        code, message = reload_refused(running, config(entry("m", base), entry("n", tmp_path / "n")))
        assert code is Code.UNKNOWN
        assert message.startswith("1 model(s) did not become available: {")
        assert answered(running) == 1


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        ("", [3]),
        ("model_version_policy { latest { num_versions: 2 } }", [3, 2]),
        ("model_version_policy { all {} }", [3, 2, 1]),
        ("model_version_policy { specific { versions: 1 versions: 9 } }", [1]),
    ],
)
def test_policies(launch: Launch, base: Path, tmp_path: Path, policy: str, served: list[int]) -> None:
    """Version policy: latest (default, 1), all, specific; a name that is no int64 is skipped."""
    add(base, 2)
    add(base, 3)
    for name in ("notes", str(1 << 63)):
        (base / name).mkdir()
    with launch(model_config_file=path_of(tmp_path, "models", config(entry("m", base, policy))), **QUICK) as running:
        eventually(lambda: states(running) == [(number, 30) for number in served])


ALL = "model_version_policy { all {} }"


def labelled(stable: int, canary: int) -> str:
    return f'{ALL} version_labels {{ key: "stable" value: {stable} }} version_labels {{ key: "canary" value: {canary} }}'


def test_labels_follow_a_reload_when_their_versions_are_up(launch: Launch, base: Path, tmp_path: Path) -> None:
    """Labels: moving one needs the target loaded; a new one too, unless labels for unavailable versions are allowed."""
    add(base, 2)
    file = path_of(tmp_path, "models", config(entry("m", base, ALL)))
    with launch(model_config_file=file, **QUICK) as running:
        eventually(lambda: states(running) == [(2, 30), (1, 30)])
        running.models.HandleReloadConfigRequest(reload_to(config(entry("m", base, labelled(1, 2)))), timeout=30)
        assert (answered(running, label="stable"), answered(running, label="canary")) == (1, 2)
        running.models.HandleReloadConfigRequest(reload_to(config(entry("m", base, labelled(2, 2)))), timeout=30)
        assert answered(running, label="stable") == 2
        status_error = "Request to assign label to version 7 of model m, which is not currently available for inference"
        for wish in (labelled(2, 7), f'{labelled(2, 2)} version_labels {{ key: "next" value: 7 }}'):
            assert reload_refused(running, config(entry("m", base, wish))) == (Code.FAILED_PRECONDITION, status_error)
        assert answered(running, label="canary") == 2
        unknown = running.http.post("/v1/models/m/labels/next:predict", content="{}")
        assert unknown.status_code == 400


def test_a_label_may_come_before_its_version_where_that_is_allowed(launch: Launch, base: Path, tmp_path: Path) -> None:
    """Labels: a new label may name an unavailable version with the flag, an existing one may not move to it."""
    file = path_of(tmp_path, "models", config(entry("m", base, labelled(1, 2))))
    with launch(model_config_file=file, allow_version_labels_for_unavailable_models=True, **QUICK) as running:
        assert answered(running, label="stable") == 1
        early = doubling()
        early.model_spec.name, early.model_spec.version_label = "m", "canary"
        assert refused(running.predictions.Predict, early) == (Code.NOT_FOUND, "Servable not found for request: Specific(m, 2)")
        assert reload_refused(running, config(entry("m", base, labelled(2, 2))))[0] is Code.FAILED_PRECONDITION
        add(base, 2)
        eventually(lambda: states(running) == [(2, 30), (1, 30)])
        assert answered(running, label="canary") == 2


def test_a_label_at_the_start_needs_its_flag(launch: Launch, base: Path, tmp_path: Path) -> None:
    """Labels: a label given at start needs --allow_version_labels_for_unavailable_models, else the server ends."""
    file = path_of(tmp_path, "models", config(entry("m", base, labelled(1, 1))))
    with pytest.raises((TfrecError, AssertionError)), launch(model_config_file=file, **QUICK):
        pass


@pytest.mark.parametrize(
    "text", ["model_config_list {", 'model_config_list { config { name: "a" base_path: "/a" } }', config(entry("a", Path("a")))]
)
def test_a_config_that_cannot_be_used_ends_the_start(launch: Launch, tmp_path: Path, text: str) -> None:
    """model_config_list: what is wrong with it (a missing model_platform, say) ends the server."""
    with pytest.raises((TfrecError, AssertionError)), launch(model_config_file=path_of(tmp_path, "models", text), **QUICK):
        pass


def test_the_config_file_is_polled_where_it_is_wanted(launch: Launch, base: Path, tmp_path: Path) -> None:
    """model_config_list: --model_config_file_poll_wait_seconds; a file that is broken meanwhile changes nothing."""
    shutil.copytree(base, tmp_path / "n")
    file = path_of(tmp_path, "models", config(entry("m", base)))
    with launch(model_config_file=file, model_config_file_poll_wait_seconds=1, **QUICK) as running:
        path_of(tmp_path, "models", "model_config_list {")
        missing = GetModelStatusRequest()
        missing.model_spec.name = "n"
        assert refused(running.models.GetModelStatus, missing)[0] is Code.NOT_FOUND
        path_of(tmp_path, "models", config(entry("m", base), entry("n", tmp_path / "n")))
        eventually(lambda: running.http.get("/v1/models/n").status_code == 200 and states(running, "n") == [(1, 30)])
        assert answered(running) == 1


def test_versions_come_go_and_come_back(launch: Launch, base: Path, tmp_path: Path) -> None:
    """Polling and swap: the new one is served, a deleted one rolls back, a broken one ends while the old one serves on."""
    with launch(model_name="m", model_base_path=str(base), **QUICK) as running:
        add(base, 2)
        eventually(lambda: states(running) == [(2, 30), (1, 50)])
        assert answered(running) == 2
        shutil.rmtree(base / "2")
        eventually(lambda: states(running) == [(2, 50), (1, 30)])
        assert answered(running) == 1
        shutil.copytree(base / "1", tmp_path / "broken")
        (tmp_path / "broken" / "saved_model.pb").write_bytes(b"broken")
        (tmp_path / "broken").rename(base / "3")
        eventually(lambda: (3, 50) in states(running))
        assert answered(running) == 1
        [status, *_] = running.http.get("/v1/models/m").json()["model_version_status"]
        assert (status["version"], status["state"]) == ("3", "END")
        assert status["status"]["error_code"] != "OK"
        assert status["status"]["error_message"]


def test_an_empty_base_path_unloads_and_a_missing_one_does_not(launch: Launch, base: Path, tmp_path: Path) -> None:
    """Polling and swap: base path gone: keeps serving; base path empty: unloads."""
    with launch(model_name="m", model_base_path=str(base), **QUICK) as running:
        base.rename(tmp_path / "away")
        with pytest.raises(AssertionError):
            eventually(lambda: states(running) != [(1, 30)], seconds=0.3)
        base.mkdir()
        eventually(lambda: states(running) == [(1, 50)])
        assert running.http.post("/v1/models/m:predict", content='{"instances": [1]}').status_code == 404


def test_a_bad_warm_up_record_fails_the_load(launch: Launch, base: Path) -> None:
    """Warm-up: a bad record fails the load; what served before goes on."""
    with launch(model_name="m", model_base_path=str(base), **QUICK) as running:
        shutil.copytree(base / "1", base.parent / "next")
        with tf.io.TFRecordWriter(str(base.parent / "next" / WARMUP_FILE)) as writer:
            writer.write(b"malformed")
        (base.parent / "next").rename(base / "2")
        eventually(lambda: states(running) == [(2, 50), (1, 30)])
        assert answered(running) == 1


def test_ports_open_when_every_model_is_up(launch: Launch, base: Path, tmp_path: Path) -> None:
    """model_config_list: ports stay closed until every listed model is up."""
    shutil.copytree(base, tmp_path / "n")
    file = path_of(tmp_path, "models", config(entry("m", base), entry("n", tmp_path / "n")))
    with launch(model_config_file=file, **QUICK) as running:  # asked at once
        names: list[Any] = [running.http.get(f"/v1/models/{name}").json() for name in ("m", "n")]
    assert [answer["model_version_status"][0]["state"] for answer in names] == ["AVAILABLE"] * 2
    with pytest.raises(httpx.TransportError):
        httpx.get(running.http.base_url, trust_env=False)
