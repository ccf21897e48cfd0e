"""Batching: requests of one signature of one version that arrive together run as one.

Their inputs are joined on dimension 0 and the answers are cut apart. As in the real server a batch runs when it is full or
`batch_timeout_micros` old and one of the `num_batch_threads` is free; an error in a batch is the error of every request in it.
Batches have no threads of their own: the request that opens a batch waits until it is due and runs it, and the others sleep
until then, so that a lone request pays for no switch of threads.
"""
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf
from grpc import StatusCode
from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo

from tfrec.model_server.grpc_status import StatusError, invalid, status_error_of
from tfrec.model_server.metrics import ServerMetrics
from tfrec.model_server.text_protos import Batching

Run = Callable[..., list[np.ndarray]]
_MAX_PADDED_RANK = 6


class Scheduler:
    """The batch threads of a server, which all of its models share."""

    def __init__(self, batching: Batching, metrics: ServerMetrics) -> None:
        self.batching = batching
        self.metrics = metrics
        self.threads = threading.Semaphore(batching.num_batch_threads)


@dataclass(eq=False)
class _Batch:
    opened: float
    tasks: list[Sequence[np.ndarray]] = field(default_factory=list)  # the inputs of each request
    sizes: list[int] = field(default_factory=list)
    full: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    answers: list[list[np.ndarray]] = field(default_factory=list)
    error: Exception | None = None


class Queue:
    """The batches of one signature; it is called like `run`, with one request's arrays."""

    def __init__(self, scheduler: Scheduler, inputs: Sequence[TensorInfo], run: Run) -> None:
        self._scheduler = scheduler
        self._names = [info.name for info in inputs]
        self._dtypes = [np.dtype(tf.dtypes.as_dtype(info.dtype).as_numpy_dtype) for info in inputs]
        self._run = run
        self._lock = threading.Lock()
        self._waiting: list[_Batch] = []  # the last of them takes requests

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """Answer one request. Raises `StatusError`, or TensorFlow's error of what failed in its batch."""
        if any(array.dtype != dtype for array, dtype in zip(inputs, self._dtypes, strict=True)):
            return self._run(*inputs)  # which TensorFlow refuses, for this request alone
        batch, index = self._join(inputs)
        if index == 0:
            self._lead(batch)
        else:
            batch.done.wait()
        if batch.error is not None:
            raise status_error_of(batch.error)
        return batch.answers[index]

    @property
    def waiting(self) -> int:
        """Requests in batches that have not begun to run."""
        with self._lock:
            return sum(len(batch.tasks) for batch in self._waiting)

    def _join(self, inputs: Sequence[np.ndarray]) -> tuple[_Batch, int]:
        """The batch that takes the request, and the index of the request in it."""
        size, limit = _size(inputs), self._scheduler.batching.max_batch_size
        if size > limit:
            raise invalid(f"Task size {size} is larger than maximum input batch size {limit}")
        with self._lock:
            batch = self._waiting[-1] if self._waiting else None
            if batch is None or sum(batch.sizes) + size > limit:
                most = self._scheduler.batching.max_enqueued_batches
                if len(self._waiting) >= most:
                    raise StatusError(
                        StatusCode.UNAVAILABLE,
                        "The batch scheduling queue to which this task was submitted is full; currently "
                        f"{len(self._waiting)} batches enqueued and max_enqueued_batches is {most}",
                    )
                if batch is not None:
                    batch.full.set()
                batch = _Batch(time.monotonic())
                self._waiting.append(batch)
            batch.tasks.append(inputs)
            batch.sizes.append(size)
            if sum(batch.sizes) == limit:
                batch.full.set()
            return batch, len(batch.tasks) - 1

    def _lead(self, batch: _Batch) -> None:
        """Wait until the batch is due and a thread is free, during which others may join it, then run it."""
        scheduler = self._scheduler
        timeout = scheduler.batching.batch_timeout_micros
        if timeout:
            batch.full.wait(timeout / 1e6)
        try:
            with scheduler.threads:
                with self._lock:
                    self._waiting.remove(batch)
                waited = time.monotonic() - batch.opened
                scheduler.metrics.queued(scheduler.batching.thread_pool_name, waited * 1e6)
                batch.answers = _cut(self._run(*self._merged(batch)), batch.sizes, scheduler.batching)
        except Exception as error:
            batch.error = error
        finally:
            batch.done.set()

    def _merged(self, batch: _Batch) -> Sequence[np.ndarray]:
        batching = self._scheduler.batching
        padding = _padded_size(sum(batch.sizes), batching) - sum(batch.sizes)
        if len(batch.tasks) == 1 and not padding:
            return batch.tasks[0]
        merged = []
        for name, arrays in zip(self._names, zip(*batch.tasks, strict=True), strict=True):
            parts = list(arrays)
            if batching.pad_variable_length_inputs:
                parts = pad_to_same_shape(parts)
            elif any(part.shape[1:] != parts[0].shape[1:] for part in parts):
                raise StatusError(
                    StatusCode.FAILED_PRECONDITION,
                    f"Tensors with name '{name}' from different tasks have different shapes and padding is turned off."
                    "Set pad_variable_length_inputs to true, or ensure that all tensors with the same name"
                    "have equal dimensions starting with the first dim.",
                )
            parts += [parts[-1][:1]] * padding  # a row that is known to be valid
            merged.append(np.concatenate(parts))
        return merged


def _size(inputs: Sequence[np.ndarray]) -> int:
    if not inputs:
        raise invalid("Batching Run() must have at least one input tensor")
    if any(array.ndim == 0 for array in inputs):
        raise invalid("Batching Run() input tensors must have at least one dimension")
    if any(len(array) != len(inputs[0]) for array in inputs):
        raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
    return len(inputs[0])


def _padded_size(size: int, batching: Batching) -> int:
    return next((allowed for allowed in batching.allowed_batch_sizes if allowed >= size), size)


def pad_to_same_shape(parts: list[np.ndarray]) -> list[np.ndarray]:
    """Pad tensors to one shape but for dimension 0, each with its own first value as the real server does.

    Texts are thus padded with "" only where the first one is "".
    """
    if not 1 <= parts[0].ndim <= _MAX_PADDED_RANK:
        raise invalid("Only tensors with rank from 1 to 6 can be padded.")
    if any(part.ndim != parts[0].ndim for part in parts):
        raise invalid("Tensors of different rank cannot be padded to one shape.")
    shape = np.max([part.shape[1:] for part in parts], axis=0, initial=0)
    widened = []
    for part in parts:
        missing = [(0, 0), *((0, most - size) for most, size in zip(shape, part.shape[1:], strict=True))]
        if any(after for _, after in missing):
            if part.size == 0:
                raise invalid("Got empty tensor in batch of non-empty tensors.")
            part = np.pad(part, missing, constant_values=part.flat[0])
        widened.append(part)
    return widened


def _cut(outputs: list[np.ndarray], sizes: Sequence[int], batching: Batching) -> list[list[np.ndarray]]:
    """The rows of each request."""
    total = _padded_size(sum(sizes), batching)
    for output in outputs:
        if output.ndim == 0:
            raise StatusError(StatusCode.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
        if len(output) != total:
            raise StatusError(
                StatusCode.FAILED_PRECONDITION,
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input tensors",
            )
    ends = np.cumsum(sizes)
    return [[output[end - size : end] for output in outputs] for size, end in zip(sizes, ends, strict=True)]
