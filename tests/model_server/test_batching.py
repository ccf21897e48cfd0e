"""Merging by hand: a `run` of the test's own, which shows what TensorFlow would have been given."""
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo

from tfrec.model_server.batching import Queue, Scheduler
from tfrec.model_server.grpc_status import StatusError
from tfrec.model_server.metrics import ServerMetrics
from tfrec.model_server.text_protos import Batching

X = TensorInfo(name="x:0", dtype=types_pb2.DT_FLOAT)
Array = np.ndarray


def rows(*values: float) -> Array:
    return np.array(values, np.float32)


class Held:
    """Doubles its input; each batch waits to be let go."""

    def __init__(self) -> None:
        self.seen: list[list[float]] = []
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def __call__(self, x: Array) -> list[Array]:
        self.seen.append(x.tolist())
        self.begun.release()
        assert self.go.acquire(timeout=10)
        return [2 * x]


def queue(run: Callable[..., list[Array]], metrics: ServerMetrics | None = None, **batching: object) -> Queue:
    return Queue(Scheduler(Batching(**{"num_batch_threads": 1, **batching}), metrics or ServerMetrics()), [X], run)  # type: ignore[arg-type]


def waiting(queue: Queue, count: int) -> None:
    while queue.waiting < count:
        time.sleep(0.001)


def test_what_comes_while_the_thread_is_busy_runs_together() -> None:
    held, metrics = Held(), ServerMetrics()
    asked = queue(held, metrics, allowed_batch_sizes=(4, 8), max_batch_size=8, thread_pool_name="pool")
    with ThreadPoolExecutor() as pool:
        first = pool.submit(asked, rows(1))
        assert held.begun.acquire(timeout=10)
        others: list[Future[list[Array]]] = []
        for value in (rows(2, 3), rows(4, 5), rows(6)):
            others.append(pool.submit(asked, value))
            waiting(asked, len(others))
        held.go.release(2)
        assert first.result(10)[0].tolist() == [2]
        assert [other.result(10)[0].tolist() for other in others] == [[4, 6], [8, 10], [12]]
    assert held.seen == [[1, 1, 1, 1], [2, 3, 4, 5, 6, 6, 6, 6]]  # filled up to an allowed size with the last one's first row
    assert ':tensorflow:serving:batching_session:queuing_latency_count{thread_pool_name="pool"} 2' in metrics.page()


def test_a_full_batch_opens_the_next_and_a_full_queue_refuses() -> None:
    held = Held()
    asked = queue(held, max_batch_size=2, max_enqueued_batches=2)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(asked, rows(0))
        assert held.begun.acquire(timeout=10)
        others = []
        for value in (rows(1), rows(2), rows(3)):
            others.append(pool.submit(asked, value))
            waiting(asked, len(others))
        with pytest.raises(StatusError, match="is full; currently 2 batches enqueued and max_enqueued_batches is 2") as caught:
            asked(rows(4, 5))
        assert caught.value.code.name == "UNAVAILABLE"
        held.go.release(3)
        assert [each.result(10)[0].tolist() for each in (first, *others)] == [[0], [2], [4], [6]]
    assert held.seen == [[0], [1, 2], [3]]


def test_a_batch_waits_for_more_until_its_time_is_up() -> None:
    seen = []

    def run(x: Array) -> list[Array]:
        seen.append(len(x))
        return [x]

    asked = queue(run, max_batch_size=2, batch_timeout_micros=60_000_000)
    with ThreadPoolExecutor() as pool:
        list(pool.map(asked, [rows(1), rows(2)]))
    assert seen == [2]
    asked = queue(run, max_batch_size=2, batch_timeout_micros=1000)
    asked(rows(1))
    assert seen == [2, 1]


def test_an_error_is_everyone_s() -> None:
    def fail(x: Array) -> list[Array]:
        raise ValueError(f"{len(x)} rows")

    asked = queue(fail, max_batch_size=2, batch_timeout_micros=60_000_000)
    with ThreadPoolExecutor() as pool:
        errors = [each.exception(10) for each in [pool.submit(asked, rows(1)), pool.submit(asked, rows(2))]]
    assert [str(error) for error in errors] == ["ValueError: 2 rows"] * 2


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.float32(1), "must have at least one dimension"),
        (rows(1, 2, 3), "Task size 3 is larger than maximum input batch size 2"),
    ],
)
def test_what_is_no_batch_is_refused(inputs: Array, message: str) -> None:
    with pytest.raises(StatusError, match=message):
        queue(lambda x: [x], max_batch_size=2)(np.asarray(inputs))


def test_another_type_is_left_to_tensorflow() -> None:
    seen = []
    queue(lambda x: seen.append(x.dtype.name) or [x])(np.array([1], np.int32))
    assert seen == ["int32"]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([[1.0, 2.0]], [[3.0]], [[1, 2], [3, 3]]),  # a short row is filled with its own first value, as the real server does
        ([[[1.0]]], [[[2.0, 3.0], [4.0, 5.0]]], [[[1, 1], [1, 1]], [[2, 3], [4, 5]]]),
        ([[1.0]], [[]], "Got empty tensor in batch of non-empty tensors."),
        ([[1.0]], [[[1.0]]], "different rank"),
        ([[[[[[[1.0]]]]]]], [[[[[[[1.0, 1.0]]]]]]], "Only tensors with rank from 1 to 6 can be padded."),
    ],
)
def test_widths(first: object, second: object, expected: object) -> None:
    seen: list[object] = []

    def run(x: Array) -> list[Array]:
        seen.append(x.tolist())
        return [x]

    asked = queue(run, max_batch_size=2, batch_timeout_micros=60_000_000, pad_variable_length_inputs=True)
    with ThreadPoolExecutor() as pool:
        begun = pool.submit(asked, np.array(first, np.float32))
        waiting(asked, 1)
        other = pool.submit(asked, np.array(second, np.float32))
        error = begun.exception(10)
        assert str(other.exception(10)) == str(error)
    if isinstance(expected, str):
        assert expected in str(error)
    else:
        assert seen == [expected]


@pytest.mark.parametrize(
    ("output", "message"),
    [(np.float32(1), "Batched output tensor has 0 dimensions"), (rows(1, 2), "0th dimension does not equal the sum")],
)
def test_an_answer_that_cannot_be_cut_is_refused(output: Array, message: str) -> None:
    with pytest.raises(StatusError, match=message) as caught:
        queue(lambda x: [np.asarray(output)])(rows(1))
    assert caught.value.code.name == "FAILED_PRECONDITION"
