"""Requests that the server merges: answers are those of each alone, and what the merging itself refuses."""
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from tests.model_server.contract.conftest import Launch, Running, path_of
from tests.model_server.contract.test_predict_grpc import Code, ask, doubling, refused
from tests.model_server.tiny import save_tiny
from tfrec.client.tensors import from_proto
from tfrec.errors import TfrecError

PATIENT = """max_batch_size { value: 4 } batch_timeout_micros { value: 30000000 } max_enqueued_batches { value: 10 }
num_batch_threads { value: 2 }"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("tiny")
    save_tiny(base / "1", has_requests=False)
    return base


@pytest.fixture(scope="module", params=["", "pad_variable_length_inputs: true"])
def batching(launch: Launch, base: Path, tmp_path_factory: pytest.TempPathFactory, request: Any) -> Any:
    """A server that waits for four rows, which every case therefore sends; with inner widths padded and not."""
    file = path_of(tmp_path_factory.mktemp("batching"), "batching", PATIENT + request.param)
    with launch(model_name="tiny", model_base_path=str(base), enable_batching=True, batching_parameters_file=file) as running:
        yield running, bool(request.param)


def together(running: Running, *requests: Any) -> list[Any]:
    """The answer or the refusal of each; all are under way at once."""

    def call(request: Any) -> Any:
        try:
            return running.predictions.Predict(request, timeout=10)
        except grpc.RpcError as error:
            return error.code(), error.details()

    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(call, requests))


def wish(query: str, k: int, *history: str) -> Any:
    return ask(history=[list(history)], query=[query], k=np.array([k], np.int32))


def test_each_gets_its_own_rows(batching: tuple[Running, bool]) -> None:
    """Batching: mixed k in one batch; the widest answer sets the width of all, shorter ones are filled up."""
    answers = together(batching[0], wish("d", 2, ""), wish("", 3, "a"), wish("c", 1, ""), wish("", 2, "b"))
    items = [from_proto(answer.outputs["items"]).tolist() for answer in answers]
    assert items == [[[b"d", b"a", b""]], [[b"b", b"c", b"d"]], [[b"c", b"", b""]], [[b"a", b"c", b""]]]
    assert [answer.model_spec.version.value for answer in answers] == [1, 1, 1, 1]
    assert from_proto(answers[0].outputs["scores"]).tolist() == [[107.0, 10.0, -np.inf]]


def test_inner_widths_are_padded_with_the_first_value_or_refused(batching: tuple[Running, bool]) -> None:
    """Batching: pad_variable_length_inputs; the padding is each tensor's own first value, so clients put "" there."""
    running, pads = batching
    answers = together(running, wish("", 2, "a"), wish("", 2, "b", "c"), wish("", 2, "d"), wish("", 2, "e", "a"))
    if pads:
        items = [from_proto(answer.outputs["items"]).tolist() for answer in answers]
        assert items == [[[b"b", b"c"]], [[b"a", b"d"]], [[b"a", b"b"]], [[b"b", b"c"]]]
    else:
        assert {code for code, _ in answers} == {Code.FAILED_PRECONDITION}
        assert all("from different tasks have different shapes and padding is turned off." in text for _, text in answers)


def test_what_cannot_be_batched_is_refused(batching: tuple[Running, bool]) -> None:
    """Batching: oversize, uneven batch dimensions, and outputs without one."""
    running, _ = batching
    many = doubling(x=np.zeros([5, 2], np.float32))
    assert refused(running.predictions.Predict, many) == (
        Code.INVALID_ARGUMENT,
        "Task size 5 is larger than maximum input batch size 4",
    )
    uneven = ask(history=[[""]], query=["", ""], k=np.array([1], np.int32))
    assert refused(running.predictions.Predict, uneven) == (
        Code.INVALID_ARGUMENT,
        "Batching Run() input tensors must have equal 0th-dimension size",
    )
    scalar = ask("double", x=np.array(1.0, np.float32))
    assert refused(running.predictions.Predict, scalar)[0] is Code.INVALID_ARGUMENT
    whole = ask("echo", item=["a"] * 4)
    assert refused(running.predictions.Predict, whole) == (Code.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
    answer = running.http.post("/v1/models/tiny:predict", json={"signature_name": "double", "instances": [[1.0, 2.0]] * 5})
    assert (answer.status_code, answer.json()) == (400, {"error": "Task size 5 is larger than maximum input batch size 4"})


@pytest.mark.parametrize("text", ["max_batch_size { value: 8 } allowed_batch_sizes: 4", "no_such_field: 1"])
def test_parameters_that_cannot_be_used_end_the_start(launch: Launch, base: Path, tmp_path: Path, text: str) -> None:
    """Batching: allowed_batch_sizes, last = max; and the file is a text proto."""
    file = path_of(tmp_path, "batching", text)
    flags = {"model_base_path": str(base), "max_num_load_retries": 0}
    with pytest.raises((TfrecError, AssertionError)), launch(enable_batching=True, batching_parameters_file=file, **flags):
        pass
