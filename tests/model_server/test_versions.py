"""The life of versions, step by step on a clock of the test: `poll` is called, never waited for."""
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel as SavedModelProto

from tests.model_server.tiny import save_tiny
from tfrec.client.warmup import WARMUP_FILE
from tfrec.errors import ServingError
from tfrec.model_server.grpc_status import StatusError
from tfrec.model_server.model_configs import NOTHING, ServedModelConfig, VersionPolicy
from tfrec.model_server.saved_model import SavedModel
from tfrec.model_server.versions import ModelVersions, State

Life = list[tuple[int, str]]


class Fake:
    """Loads when its directory holds no file called `broken`."""

    can_become = False

    def __init__(self, path: Path) -> None:
        if (path / "broken").exists():
            raise tf.errors.DataLossError(None, None, "truncated")
        self.path = path
        self.closed = False

    def warm_up(self) -> int:
        if (self.path / "cold").exists():
            raise ValueError("no such operator")
        return 1

    def become(self, path: Path) -> bool:
        if (path / "broken").exists():
            raise tf.errors.DataLossError(None, None, "truncated")
        self.path = path
        return not (path / "other graph").exists()

    def close(self) -> None:
        self.closed = True


LATEST = VersionPolicy()


def model(base: Path, *, policy: VersionPolicy = LATEST, **options: Any) -> ModelVersions:
    retries = {"max_load_retries": 1, "load_retry_seconds": 60.0}
    return ModelVersions(ServedModelConfig("m", base, policy), load=Fake, **{**retries, **options})  # type: ignore[arg-type]


def add(base: Path, *names: object, **files: str) -> None:
    for name in names:
        (base / str(name)).mkdir(parents=True)
        for file in files:
            (base / str(name) / file).touch()


def life(versions: ModelVersions) -> Life:
    return [(number, state.name) for number, state, _ in versions.status()]


def answering(versions: ModelVersions, *which: Any) -> int:
    with versions.use(*which) as (number, _):
        return number


def test_the_newest_is_served_and_replaced(tmp_path: Path) -> None:
    add(tmp_path, 2, 10, "notes", "-3", "1.5", 1 << 63)
    versions = model(tmp_path)
    versions.poll(0.0)
    assert life(versions) == [(10, "AVAILABLE")]
    add(tmp_path, "0011")
    versions.poll(1.0)
    assert life(versions) == [(11, "AVAILABLE"), (10, "END")]
    assert answering(versions) == 11


def test_an_unloaded_version_becomes_the_next_of_the_same_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fake, "can_become", True)
    made: list[Fake] = []

    def load(path: Path) -> Any:
        made.append(Fake(path))
        return made[-1]

    versions = ModelVersions(ServedModelConfig("m", tmp_path, LATEST), load=load, max_load_retries=0)

    def step(number: int, **files: str) -> tuple[int, bool]:
        """How many were loaded by the time that a version has been polled, and whether it answers from its own directory."""
        add(tmp_path, number, **files)
        versions.poll(float(number))
        with versions.use() as (newest, model):
            return len(made), (newest, model.path) == (number, tmp_path / str(number))  # type: ignore[attr-defined]

    assert [step(1), step(2), step(3), step(4)] == [(1, True), (2, True), (2, True), (2, True)]
    assert step(5, **{"other graph": ""}) == (3, True)
    assert step(6) == (3, True)
    assert step(7, cold="") == (3, False)  # what fails its warm-up is of no use any more, and what served goes on
    assert step(8) == (4, True)
    assert step(9, broken="") == (4, False)
    assert step(10) == (5, True)
    versions.close()
    assert [fake.closed for fake in made] == [True] * len(made)


def test_the_new_one_is_available_before_the_old_one_goes(tmp_path: Path) -> None:
    add(tmp_path, 1)
    seen: list[Life] = []

    def load(path: Path) -> Any:
        seen.append(life(versions))
        return Fake(path)

    versions = model(tmp_path)
    versions.load = load
    versions.poll(0.0)
    add(tmp_path, 2)
    versions.poll(1.0)
    assert seen == [[(1, "LOADING")], [(2, "LOADING"), (1, "AVAILABLE")]]


def test_a_version_in_use_is_closed_only_afterwards(tmp_path: Path) -> None:
    add(tmp_path, 1)
    versions = model(tmp_path)
    versions.poll(0.0)
    with versions.use() as (number, held):
        add(tmp_path, 2)
        versions.poll(1.0)
        assert number == 1
        assert life(versions) == [(2, "AVAILABLE"), (1, "UNLOADING")]
        assert not held.closed  # type: ignore[attr-defined]
        with pytest.raises(StatusError, match=r"Specific\(m, 1\)"):
            answering(versions, 1)
    versions.poll(2.0)
    assert life(versions) == [(2, "AVAILABLE"), (1, "END")]
    assert held.closed  # type: ignore[attr-defined]


def test_a_broken_version_is_tried_again_then_ends_and_the_old_one_serves_on(tmp_path: Path) -> None:
    add(tmp_path, 1)
    versions = model(tmp_path)
    versions.poll(0.0)
    add(tmp_path, 2, broken="")
    versions.poll(1.0)
    assert life(versions) == [(2, "LOADING"), (1, "AVAILABLE")]
    versions.poll(60.0)  # the next try is due at 61
    assert life(versions)[0] == (2, "LOADING")
    versions.poll(61.0)
    assert life(versions) == [(2, "END"), (1, "AVAILABLE")]
    number, _, failure = versions.status()[0]
    assert (number, str(failure), failure and failure.code.name) == (2, "truncated", "DATA_LOSS")
    (tmp_path / "2" / "broken").unlink()
    versions.poll(200.0)
    assert answering(versions) == 1  # not tried again while it stays
    add(tmp_path, 3)
    versions.poll(201.0)
    assert answering(versions) == 3


def test_a_version_that_failed_is_tried_anew_when_it_comes_back(tmp_path: Path) -> None:
    add(tmp_path, 1)
    add(tmp_path, 2, broken="")
    versions = model(tmp_path, max_load_retries=0)
    versions.poll(0.0)
    (tmp_path / "2").rename(tmp_path / "away")
    versions.poll(1.0)
    (tmp_path / "away" / "broken").unlink()
    (tmp_path / "away").rename(tmp_path / "2")
    versions.poll(2.0)
    assert answering(versions) == 2


def test_a_failing_warm_up_fails_the_load_unless_it_is_off(tmp_path: Path) -> None:
    add(tmp_path, 1, cold="")
    versions = model(tmp_path, max_load_retries=0)
    versions.poll(0.0)
    assert [(n, s, str(f)) for n, s, f in versions.status()] == [(1, State.END, "ValueError: no such operator")]
    versions = model(tmp_path, warm_up=False)
    versions.poll(0.0)
    assert answering(versions) == 1


def test_deleting_the_newest_rolls_back(tmp_path: Path) -> None:
    add(tmp_path, 1, 2)
    versions = model(tmp_path)
    versions.poll(0.0)
    (tmp_path / "2").rmdir()
    versions.poll(1.0)
    assert life(versions) == [(2, "END"), (1, "AVAILABLE")]
    add(tmp_path, 2)
    versions.poll(2.0)
    assert life(versions) == [(2, "AVAILABLE"), (1, "END")]


def test_a_missing_base_path_changes_nothing_and_an_empty_one_unloads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    base = tmp_path / "base"
    versions = model(base)
    versions.poll(0.0)
    assert life(versions) == []
    add(base, 1)
    versions.poll(1.0)
    base.rename(tmp_path / "away")
    versions.poll(2.0)
    assert answering(versions) == 1
    assert "keeping what is served" in caplog.text
    base.mkdir()
    versions.poll(3.0)
    assert life(versions) == [(1, "END")]
    with pytest.raises(StatusError, match=r"Servable not found for request: Latest\(m\)"):
        answering(versions)


@pytest.mark.parametrize(
    ("policy", "served"),
    [(VersionPolicy(), [4]), (VersionPolicy(latest=2), [4, 3]), (VersionPolicy(latest=None), [4, 3, 1]),
     (VersionPolicy(specific=frozenset({1, 9})), [1])],
)
def test_policies(tmp_path: Path, policy: VersionPolicy, served: list[int]) -> None:
    add(tmp_path, 1, 3, 4)
    versions = model(tmp_path, policy=policy)
    versions.poll(0.0)
    assert life(versions) == [(number, "AVAILABLE") for number in served]


def test_a_model_that_is_taken_away_unloads_and_comes_back_anew(tmp_path: Path) -> None:
    add(tmp_path, 1)
    versions = model(tmp_path)
    versions.poll(0.0)
    config, versions.config = versions.config, replace(versions.config, policy=NOTHING)
    versions.poll(1.0)
    assert life(versions) == [(1, "END")]
    assert not versions.up()
    versions.config = config
    versions.poll(2.0)
    assert answering(versions) == 1


def test_it_is_up_with_one_version_and_failed_with_none_left_to_try(tmp_path: Path) -> None:
    add(tmp_path, 1, broken="")
    versions = model(tmp_path)
    assert not versions.up()
    versions.poll(0.0)
    assert not versions.up()
    versions.poll(60.0)
    with pytest.raises(ServingError, match="m: no version under .* could be loaded. version 1: truncated"):
        versions.up()
    add(tmp_path, 2)
    versions.poll(61.0)
    assert versions.up()
    assert (versions.available(2), versions.available(1), versions.available(7)) == (True, False, False)


def test_a_bad_warm_up_record_fails_the_load_of_a_real_model(tmp_path: Path) -> None:
    save_tiny(tmp_path / "1")
    with tf.io.TFRecordWriter(str(tmp_path / "1" / WARMUP_FILE)) as writer:
        writer.write(b"malformed")
    versions = ModelVersions(ServedModelConfig("m", tmp_path), max_load_retries=0)
    versions.poll(0.0)
    assert life(versions) == [(1, "END")]


def test_an_operator_that_is_not_here_fails_the_load(tmp_path: Path) -> None:
    graph = save_tiny(tmp_path / "1", has_requests=False) / "saved_model.pb"
    saved = SavedModelProto.FromString(graph.read_bytes())
    for function in saved.meta_graphs[0].graph_def.library.function:
        for node in function.node_def:
            node.op = "NoSuchOp" if node.op == "Mul" else node.op
    graph.write_bytes(saved.SerializeToString())
    versions = ModelVersions(ServedModelConfig("m", tmp_path), max_load_retries=0)
    versions.poll(0.0)
    [(number, state, failure)] = versions.status()
    assert (number, state, failure and failure.code.name) == (1, State.END, "NOT_FOUND")
    assert "Op type not registered 'NoSuchOp'" in str(failure)


def test_a_saved_model_answers_without_a_server(tmp_path: Path) -> None:
    loaded = SavedModel(save_tiny(tmp_path / "1"))
    assert loaded.warm_up() == 2
    assert loaded.run("double", {"x": np.array([[1.0, 2.0]], np.float32)})["y"].tolist() == [[2.0, 4.0]]
    assert loaded.run("echo", {"item": np.array(b"a", object)}, output_filter=["items"])["items"].item() == b"a"
    loaded.close()
