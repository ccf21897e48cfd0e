"""The warm-up file holds the requests that were given; the probes hold the answers of the model in memory."""
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.model_server.tiny import REQUESTS, save_tiny
from tfrec.client.contract import TensorSpec
from tfrec.client.tensors import from_proto
from tfrec.client.warmup import WARMUP_FILE, read_warmup, write_warmup
from tfrec.errors import ServingError
from tfrec.release.manifest import read_manifest


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("export"))


def test_the_file_holds_the_requests(export: Path) -> None:
    first, second = (log.predict_log.request for log in read_warmup(export))
    assert first.model_spec.signature_name == "serving_default"
    np.testing.assert_array_equal(from_proto(first.inputs["history"]), np.array([[b"b", b""]], object))
    np.testing.assert_array_equal(from_proto(first.inputs["k"]), np.array([3], np.int32))
    assert second.model_spec.signature_name == "double"


def test_probes_hold_the_answers_in_memory(export: Path) -> None:
    probes = read_manifest(export).probes
    assert probes[0].outputs == {"items": [["d", "a", "c"]], "scores": [[107.0, 10.0, 8.0]]}
    assert probes[1].outputs == {"y": [[2.0, 4.0]]}


def test_signatures_are_read_from_the_export(export: Path) -> None:
    signatures = read_manifest(export).signatures
    assert sorted(signatures) == ["double", "echo", "recommend", "serving_default", "similar"]
    assert signatures["serving_default"].inputs["history"] == TensorSpec(dtype="string", shape=(None, None))
    assert signatures["double"].inputs["x"] == TensorSpec(dtype="float32", shape=(None, 2))


def test_no_file_no_records(tmp_path: Path) -> None:
    assert list(read_warmup(tmp_path)) == []


def test_a_damaged_file_is_an_error(tmp_path: Path, export: Path) -> None:
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / WARMUP_FILE).write_bytes((export / WARMUP_FILE).read_bytes()[:-3])
    with pytest.raises(tf.errors.DataLossError):
        list(read_warmup(tmp_path))


@pytest.mark.parametrize("count", [0, 1001])
def test_too_few_and_too_many_requests_are_refused(tmp_path: Path, count: int) -> None:
    with pytest.raises(ServingError, match=f"1 to 1000 requests, got {count}"):
        write_warmup(tmp_path, [REQUESTS[0]] * count)
