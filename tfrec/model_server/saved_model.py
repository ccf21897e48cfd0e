"""A loaded SavedModel, run by signature on named arrays.

Like the real server this loads a graph into a session, and runs it through the session's prepared callables. Compared with the
functions of `tf.saved_model.load` it answers a trivial model in 20 us rather than 180, rebuilds no function in Python at load,
checks what the real server checks, and frees its memory when closed. It is stricter in one way: an operator that is not
registered fails the load, while the real server serves such a model and fails its requests.

To optimise a graph is most of the time of a load, and versions of a model that is retrained have one and the same graph. So a
version that nobody asks any more may take over the variables of the next one (`become`), and has its optimised graph already.
"""
import hashlib
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import tensorflow as tf
from grpc import StatusCode
from tensorflow.core.framework.types_pb2 import DT_RESOURCE
from tensorflow.core.protobuf.config_pb2 import CallableOptions, ConfigProto, RunOptions
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef, SignatureDef
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig
from tensorflow.python.framework import op_def_registry

from tfrec.client.tensors import from_proto
from tfrec.client.warmup import MAX_RECORDS, WARMUP_FILE, read_warmup
from tfrec.model_server.batching import Queue, Scheduler
from tfrec.model_server.grpc_status import StatusError, invalid

if find_spec("tensorflow_text") is not None:  # its operators are linked into the real server
    import tensorflow_text  # noqa: F401

DEFAULT_SIGNATURE = "serving_default"
Arrays = dict[str, np.ndarray]
_INITIALISE = "__saved_model_init_op"
_GRAPH = "saved_model.pb"
_RESTORED = {"VarHandleOp", "MutableHashTableV2"}  # resources that a restore and an initialisation fill anew, whatever they held
# operators run in the request's own thread: those of one request hardly ever run in parallel, and handing each to a pool takes
# a quarter of the processor time (six clients: 4.6 rather than 6.2 ms a request)
_RUN = RunOptions(inter_op_thread_pool=-1)

_WITHOUT = ("constant_folding", "loop_optimization", "shape_optimization", "layout_optimizer", "implementation_selector",
            "debug_stripper", "pin_to_host_optimization", "scoped_allocator_optimization", "auto_mixed_precision")


class SavedModel:
    """A version in memory; `run` may be called from many threads."""

    def __init__(self, directory: str | Path, scheduler: Scheduler | None = None) -> None:
        """Load the SavedModel in `directory`; with a `scheduler`, requests that come together run as one."""
        graph = tf.Graph()
        with graph.as_default():
            self._session = tf.compat.v1.Session(graph=graph, config=_session_config())
            loaded = tf.compat.v1.saved_model.load(self._session, [tf.saved_model.SERVING], str(directory))
        self.directory = Path(directory)
        self.signatures: dict[str, SignatureDef] = dict(loaded.signature_def)
        self._saver, self._graph_digest = loaded.saver_def, _digest(self.directory)
        self.can_become = not loaded.asset_file_def and _resources(loaded) <= _RESTORED
        self._scheduler = scheduler
        self._making = threading.Lock()
        self._callables: dict[tuple[str, tuple[str, ...]], Callable[..., list[np.ndarray]]] = {}

    def signature(self, name: str) -> SignatureDef:
        """The signature called `name`."""
        found = self.signatures.get(name)
        if found is None:
            raise StatusError(StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
        return found

    def wanted(self, name: str, sent: Collection[str]) -> list[str]:
        """The names `sent`, sorted. Raises `StatusError` unless they are the inputs of the signature called `name`."""
        signature = self.signature(name)
        known, came = set(signature.inputs), set(sent)
        for alias in sorted(known - came - set(signature.defaults)):
            raise invalid(
                f"Signature input alias: {alias}(feed name: {signature.inputs[alias].name}) not found in request and no default "
                f"value provided. Inputs expected to be in the request {{{','.join(sorted(came))}}}, or default input alias set: "
                f"{','.join(sorted(signature.defaults))}"
            )
        if not came <= known:
            names = f"{','.join(sorted(known & came))}, request input: {','.join(sorted(came))}"
            raise invalid(f"Inputs contains invalid name. Used request inputs: {names}")
        return sorted(came)

    def run(self, name: str, inputs: Mapping[str, np.ndarray], *, output_filter: Iterable[str] = ()) -> Arrays:
        """Answer one request. Raises `StatusError`, or TensorFlow's error of the operator that failed."""
        signature = self.signature(name)
        if inputs.keys() != signature.inputs.keys():
            self.wanted(name, inputs.keys())
            inputs = {**{alias: from_proto(proto) for alias, proto in signature.defaults.items()}, **inputs}
        outputs = _outputs(signature, output_filter)
        function = self._callables.get((name, outputs)) or self._make(name, outputs)
        answers = function(*[inputs[alias] for alias in sorted(signature.inputs)])
        return {  # a scalar string comes as bytes and not as an array
            alias: np.array(answer, object) if isinstance(answer, bytes) else answer
            for alias, answer in zip(outputs, answers, strict=True)
        }

    def _make(self, name: str, outputs: tuple[str, ...]) -> Callable[..., list[np.ndarray]]:
        """Prepare the callable for `outputs`, at the first request for them; TensorFlow does this under a lock too."""
        with self._making:
            function = self._callables.get((name, outputs))
            if function is not None:
                return function
            signature = self.signatures[name]
            feeds = [signature.inputs[alias] for alias in sorted(signature.inputs)]
            fetches = [signature.outputs[alias].name for alias in outputs]
            # not `make_callable`: with feeds that is `Session.run` again, 155 us and with checks that the real server has not
            options = CallableOptions(feed=[feed.name for feed in feeds], fetch=fetches, run_options=_RUN)
            function = self._session._make_callable_from_options(options)  # noqa: SLF001  it has no public name
            if self._scheduler is not None:
                function = Queue(self._scheduler, feeds, function)
            self._callables[name, outputs] = function
            return function

    def warm_up(self) -> int:
        """Replay the version's warm-up file and return the number of requests. Raises if one fails."""
        count = 0
        for log in read_warmup(self.directory):
            kind = log.WhichOneof("log_type")
            if kind != "predict_log":
                raise StatusError(StatusCode.UNIMPLEMENTED, f"{WARMUP_FILE}: only predict_log is replayed here, got {kind}.")
            request = log.predict_log.request
            inputs = {alias: from_proto(proto) for alias, proto in request.inputs.items()}
            self.run(request.model_spec.signature_name or DEFAULT_SIGNATURE, inputs, output_filter=request.output_filter)
            count += 1
            if count > MAX_RECORDS:
                raise invalid(f"Number of warmup records exceeeds the maximum ({MAX_RECORDS}) at {self.directory / WARMUP_FILE}")
        return count

    def become(self, directory: str | Path) -> bool:
        """Take over the variables of the version in `directory`; no `run` may be in progress.

        Returns:
            Whether it did. It does where that version has the same graph and all state of the graph is in variables. Where that
            version cannot be read, this one is of no use any more.

        Raises:
            OpError: of TensorFlow, when that version cannot be read.
        """
        directory = Path(directory)
        if not self.can_become or _digest(directory) != self._graph_digest:
            return False
        variables = str(directory / tf.saved_model.VARIABLES_DIRECTORY / tf.saved_model.VARIABLES_FILENAME)
        # in this thread, whose priority may be low
        self._session.run(self._saver.restore_op_name, {self._saver.filename_tensor_name: variables}, options=_RUN)
        if _INITIALISE in self.signatures:
            self._session.run(self._session.graph.get_operation_by_name(
                self.signatures[_INITIALISE].outputs[_INITIALISE].name.partition(":")[0]))
        self.directory = directory
        return True

    def close(self) -> None:
        """Free the memory. No `run` may be in progress."""
        self._callables.clear()
        self._session.close()


def _digest(directory: Path) -> str:
    with (directory / _GRAPH).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _resources(loaded: MetaGraphDef) -> set[str]:
    """The operators of a graph that make resources, or the variables of the first version of TensorFlow."""
    nodes = [*loaded.graph_def.node, *(node for function in loaded.graph_def.library.function for node in function.node_def)]
    found = ((name, op_def_registry.get(name)) for name in {node.op for node in nodes})
    return {name for name, of in found if of is not None and any(out.type == DT_RESOURCE or out.is_ref for out in of.output_arg)}


def _session_config() -> ConfigProto:
    """The graph optimisers that make our graphs faster, once each.

    A second pass, and those that are off here, change no latency that could be measured. With all of them a version takes twice
    as long to warm up, and that is most of the time of a hot swap.
    """
    config = ConfigProto(allow_soft_placement=True)
    rewrite = config.graph_options.rewrite_options
    rewrite.meta_optimizer_iterations = RewriterConfig.ONE
    for name in _WITHOUT:
        setattr(rewrite, name, RewriterConfig.OFF)
    rewrite.memory_optimization = RewriterConfig.NO_MEM_OPT
    return config


def _outputs(signature: SignatureDef, output_filter: Iterable[str]) -> tuple[str, ...]:
    wanted = tuple(sorted(output_filter))
    for i, alias in enumerate(wanted):
        if alias not in signature.outputs:
            known = ",".join(sorted(signature.outputs))
            raise invalid(f"output tensor alias not found in signature: {alias} Outputs expected to be in the set {{{known}}}.")
        if i and wanted[i - 1] == alias:
            raise invalid(f"duplicate output tensor alias: {alias}")
    return wanted or tuple(sorted(signature.outputs))
