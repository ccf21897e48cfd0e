"""The typed client against a real socket: what it sends, what it makes of the answer, what it says when there is none."""
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis.prediction_service_pb2_grpc import (
    PredictionServiceServicer,
    add_PredictionServiceServicer_to_server,
)

from tests.model_server.tiny import Running
from tfrec.client.client import Client
from tfrec.client.deadline import Deadline
from tfrec.client.request_errors import LabelNotServed, RequestFailed
from tfrec.client.results import Recommendation, VersionStatus
from tfrec.client.tensors import text_array
from tfrec.errors import UsageError
from tfrec.model_server.process import free_port


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[Client]:
    with Client(server.grpc, model="tiny", timeout=5.0) as client:
        yield client


def test_one_answer_per_person(client: Client) -> None:
    answers = client.recommend(
        history=[["b", "a"], []],
        query=["d", ""],
        k=[2, 3],
        history_action=[["click", "view"], []],
        history_age_s=[[60, 5], []],
        exclude=[[], ["a", "b", "c"]],
    )
    assert answers == [
        Recommendation(("d", "c"), (107.0, 8.0), 4),
        Recommendation(("d", "e"), (7.0, 6.0), 4),  # three were asked for, two are left
    ]


def test_everything_but_the_history_may_be_left_out(client: Client) -> None:
    assert client.recommend(history=[[]], k=1) == [Recommendation(("a",), (10.0,), 4)]
    assert client.recommend(history=[["a"]], k=1, version=3) == [Recommendation(("b",), (-1.0,), 3)]
    assert client.recommend(history=[["a"]], k=1, label="old") == [Recommendation(("b",), (-1.0,), 3)]


def test_similar_items(client: Client) -> None:
    near_a, near_c = client.similar(["a", "c"], k=2)
    assert (near_a, near_c) == (Recommendation(("b", "c"), (9.0, 8.0), 4), Recommendation(("a", "b"), (10.0, 9.0), 4))
    assert client.similar(["a"], k=1, label="old") == [Recommendation(("b",), (-1.0,), 3)]


def test_any_signature_can_be_called(client: Client) -> None:
    prediction = client.predict("echo", {"item": text_array(["ü"])})
    assert prediction.version == 4
    assert prediction.outputs["items"].tolist() == ["ü".encode()]


def test_status(client: Client) -> None:
    assert client.status() == [VersionStatus(4, "AVAILABLE", ""), VersionStatus(3, "AVAILABLE", "")]


def test_wrong_calls_are_refused_before_they_are_sent(client: Client) -> None:
    with pytest.raises(UsageError, match=r"as many of each input, got 2 and \{'query': 1\}"):
        client.recommend(history=[[], []], query=["x"])
    with pytest.raises(UsageError, match=r"got 0"):
        client.recommend(history=[])
    with pytest.raises(UsageError, match=r"as many values as there are items beside them \(2\), got 1"):
        client.recommend(history=[["a", "b"]], history_action=[["click"]])
    with pytest.raises(UsageError, match="k must be at least 1, got 0"):
        client.recommend(history=[[]], k=0)
    with pytest.raises(UsageError, match=r"explore: expected one or more .* got 2 and \{'seed': 1\}"):
        client.explore(history=[[], []], seed=[1])
    for policy in ({"temperature": -1.0}, {"epsilon": [0.1, 1.5]}, {"epsilon": float("nan")}):
        with pytest.raises(UsageError, match="temperature must be 0 or more and epsilon from 0 to 1"):
            client.explore(history=[[], []], seed=[1, 2], **policy)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"rank: .* got 1 and \{'candidates': 2\}"):
        client.rank(history=[[]], candidates=[["a"], ["b"]])
    with pytest.raises(TypeError, match="unexpected keyword argument 'excluded'"):
        client.recommend(history=[[]], excluded=[["a"]])  # type: ignore[call-arg]


def test_the_servers_refusal_is_passed_on(client: Client) -> None:
    with pytest.raises(RequestFailed, match=r"model tiny did not answer: NOT_FOUND: .*Specific\(tiny, 9\)") as caught:
        client.predict("double", {"x": np.zeros((1, 2), np.float32)}, version=9)
    assert (caught.value.code, caught.value.down) == ("NOT_FOUND", False)


def test_a_label_that_no_version_has_is_told_from_other_wrong_requests(client: Client) -> None:
    for label, version in (("nobody", None), ("stable", 4)):
        with pytest.raises(RequestFailed) as caught:
            client.predict("double", {"y": np.zeros((1, 2), np.float32)}, label=label, version=version)
        assert (caught.value.code, isinstance(caught.value, LabelNotServed)) == ("INVALID_ARGUMENT", label == "nobody")
    with pytest.raises(RequestFailed) as caught:  # the label is there, and the input is wrong
        client.predict("double", {"y": np.zeros((1, 2), np.float32)}, label="stable")
    assert type(caught.value) is RequestFailed
    with pytest.raises(RequestFailed, match='"explore" not found') as caught:
        client.explore(history=[[]], seed=[1], label="stable")
    assert caught.value.code == "FAILED_PRECONDITION"


class Busy(PredictionServiceServicer):
    """A server without a free thread."""

    def __init__(self) -> None:
        self.seconds_left: list[float] = []

    def Predict(self, request: Any, context: grpc.ServicerContext) -> None:  # noqa: N802  as the service names it
        self.seconds_left.append(context.time_remaining())
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many threads")


@pytest.fixture
def busy() -> Iterator[tuple[str, Busy]]:
    service, server = Busy(), grpc.server(ThreadPoolExecutor(1))
    add_PredictionServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}", service
    server.stop(None).wait()


@pytest.mark.parametrize("attempts", [1, 3])
def test_a_busy_server_is_asked_until_the_time_is_up(busy: tuple[str, Busy], attempts: int) -> None:
    address, service = busy
    with (
        Client(address, timeout=9.0, attempts=attempts) as client,
        Deadline(1.0, chosen=True).current(),
        pytest.raises(RequestFailed, match="RESOURCE_EXHAUSTED: too many threads"),
    ):
        client.recommend(history=[[]])
    assert len(service.seconds_left) == 1 if attempts == 1 else len(service.seconds_left) > 3  # gRPC alone makes three
    assert 1.0 >= service.seconds_left[0] >= service.seconds_left[-1] > 0


def test_no_server_is_said_clearly() -> None:
    with (
        Client(f"127.0.0.1:{free_port()}", timeout=1.0) as client,
        pytest.raises(RequestFailed, match=r"UNAVAILABLE.*Start it with `tfrec serve`") as caught,
    ):
        client.recommend(history=[[]])
    assert caught.value.down
