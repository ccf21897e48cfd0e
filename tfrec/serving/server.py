"""`serve`: the real `tensorflow_model_server` when it is installed, else the embedded server, under the same flags.

    python -m tfrec.serving.server --port=8500 --rest_api_port=8501 --model_name=tfrec --model_base_path=/models/tfrec

The real one is found by TFREC_MODEL_SERVER or on the PATH and takes over this process; it listens on every interface and cannot
be told otherwise. The embedded one listens where `--host` says, or on the loopback alone, and runs until SIGTERM or SIGINT, then
answers what it has begun and ends with 0. TensorFlow is imported only to serve.
"""
import argparse
import dataclasses
import logging
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfrec.errors import TfrecError, UsageError

LOOPBACK = "127.0.0.1"
EVERYWHERE = "0.0.0.0"

log = logging.getLogger(__name__)
_MAX_INT32 = (1 << 31) - 1
_WITHIN = (  # flag, least and most
    ("port", 0, 65535),
    ("rest_api_port", 0, 65535),
    ("rest_api_timeout_in_ms", 0, _MAX_INT32),
    ("model_config_file_poll_wait_seconds", 0, _MAX_INT32),
    ("file_system_poll_wait_seconds", 0, _MAX_INT32),
    ("max_num_load_retries", 0, _MAX_INT32),
    ("grpc_max_threads", 1, _MAX_INT32),
)
_INTEGER = re.compile(r"[-+]?[0-9]{1,19}")
# flags of the real server that say how it uses the machine or its files, not what it answers: the embedded one does without
_TUNING = {
    "flush_filesystem_caches", "num_load_threads", "num_unload_threads", "per_process_gpu_memory_fraction",
    "remove_unused_fields_from_bundle_metagraph", "rest_api_num_threads", "tensorflow_inter_op_parallelism",
    "tensorflow_intra_op_parallelism", "tensorflow_session_parallelism", "xla_cpu_compilation_enabled",
    "xla_gpu_compilation_enabled",
}  # fmt: skip


@dataclass(frozen=True)
class ServeOptions:
    """The flags of `tensorflow_model_server` that both servers take, with its defaults; the last three are our own."""

    port: int = 8500  # 0: no gRPC over TCP
    grpc_socket_path: str = ""  # of a UNIX socket that answers gRPC as well
    grpc_channel_arguments: str = ""  # key=value,key=value
    rest_api_port: int = 0  # 0: no REST
    rest_api_timeout_in_ms: int = 30_000  # of a prediction; 0: none
    model_name: str = "default"
    model_base_path: str = ""
    model_config_file: str = ""
    model_config_file_poll_wait_seconds: int = 0  # 0: read once, at the start
    allow_version_labels_for_unavailable_models: bool = False
    file_system_poll_wait_seconds: int = 1  # 0: look once, at the start
    max_num_load_retries: int = 5
    load_retry_interval_micros: int = 60_000_000
    enable_model_warmup: bool = True
    enable_batching: bool = False
    batching_parameters_file: str = ""
    monitoring_config_file: str = ""  # none: no metrics
    enable_grpc_healthcheck_service: bool = False
    grpc_max_threads: int = 4 * (os.cpu_count() or 1)
    host: str = ""  # the address to listen on; not said: LOOPBACK
    poll_seconds: float = 0.0  # a time between two looks at the base paths that the real flag cannot say, or else it does
    parent: int = 0  # a process that this one ends with, however that one ended

    def __post_init__(self) -> None:
        if not self.model_config_file and not self.model_base_path:
            raise UsageError("Nothing to serve: give --model_base_path (with --model_name) or --model_config_file.")
        if self.batching_parameters_file and not self.enable_batching:
            raise UsageError("--batching_parameters_file is given without --enable_batching=true.")
        if not self.port and not self.grpc_socket_path:
            raise UsageError("--port=0 leaves no way to ask over gRPC: give a port, or --grpc_socket_path.")
        if self.port and self.port == self.rest_api_port:
            raise UsageError(f"--rest_api_port must be another than --port, got {self.port} for both.")
        for name, low, high in _WITHIN:
            value = getattr(self, name)
            if not isinstance(value, int) or not low <= value <= high:
                raise UsageError(f"--{name}: expected a whole number from {low} to {high}, got {value!r}.")
        self.channel_arguments()

    @property
    def address(self) -> str:
        """Where the embedded server listens."""
        return self.host or LOOPBACK

    def channel_arguments(self) -> list[tuple[str, int | str]]:
        """What `grpc_channel_arguments` says, pair by pair."""
        found: list[tuple[str, int | str]] = []
        for pair in filter(None, self.grpc_channel_arguments.split(",")):
            key, sign, value = pair.partition("=")
            if not key or not sign:
                raise UsageError(f"--grpc_channel_arguments: expected key=value,key=value, got {pair!r}.")
            found.append((key, int(value) if _INTEGER.fullmatch(value) else value))
        return found

    def flags(self) -> list[str]:
        """The command-line flags that say this, without the defaults."""
        words = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                words.append(f"--{field.name}={str(value).lower() if isinstance(value, bool) else value}")
        return words


def find_model_server() -> Path | None:
    """The real server: the binary that TFREC_MODEL_SERVER names, or the one on the PATH."""
    named = os.environ.get("TFREC_MODEL_SERVER")
    found = shutil.which(named or "tensorflow_model_server")
    if named and not found:
        raise UsageError(f"TFREC_MODEL_SERVER is {named!r}, which is no program. Unset it, or name the binary.")
    return Path(found) if found else None


def serve(options: ServeOptions, others: Sequence[str] = (), *, embedded: bool = False) -> None:
    """Serve until the process is told to end; `others` are flags for the real server, which `embedded` does not look for."""
    binary = None if embedded else find_model_server()
    if binary is not None:
        if options.host not in ("", EVERYWHERE):
            raise UsageError(
                f"--host={options.host}: {binary} has no such flag, it listens on every interface. Leave --host out and close "
                "its ports to others (firewall, container network), or start the embedded server: python -m tfrec.serving.server."
            )
        log.warning("%s listens on every interface, and whoever reaches it may change what it serves.", binary)
        base_path = options.model_base_path and str(Path(options.model_base_path).absolute())  # it takes no relative one
        flags = dataclasses.replace(options, model_base_path=base_path, host="", poll_seconds=0.0, parent=0).flags()
        os.execv(binary, [str(binary), *flags, *others])
    unknown = [word for word in others if word.lstrip("-").partition("=")[0] not in _TUNING]
    if unknown:
        raise UsageError(f"tfrec's embedded server has no {' '.join(unknown)}; tensorflow_model_server has more flags.")
    if others:
        log.warning("The embedded server does without %s: it changes no answer.", " ".join(others))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from tfrec.serving.embedded import EmbeddedServer  # TensorFlow, which the real server does not need here

    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it advises against the session that the real server has too
    sys.setswitchinterval(0.001)  # seconds; at Python's 5 ms a request would wait that long for each step of a version's loading
    stopping = _told_by_signals()
    if options.parent:
        threading.Thread(target=_follow, args=(options.parent, stopping), name="parent", daemon=True).start()
    server = EmbeddedServer(options, stopping=stopping)
    try:
        server.start()
        stopping.wait()
    finally:
        server.stop()


def _told_by_signals() -> threading.Event:
    """An event that SIGTERM or SIGINT sets.

    By the wake-up pipe, not in the handlers: those run in the main thread alone, which waits and may not be the one that the
    signal interrupts; and a second signal could come while the first one's handler holds the event's lock.
    """
    told = threading.Event()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def wait() -> None:
        os.read(reader, 1)
        told.set()

    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    threading.Thread(target=wait, name="signals", daemon=True).start()
    return told


def _follow(parent: int, stopping: threading.Event) -> None:
    """End after the parent has: one that was killed could not say so."""
    while os.getppid() == parent:
        time.sleep(1.0)
    stopping.set()


def parse_flags(words: Sequence[str], **defaults: object) -> tuple[ServeOptions, list[str]]:
    """The options that command-line words say in the real server's form, and the words that only the real server knows.

    `defaults` stand where nothing is said. Raises `UsageError` for a value that is of the wrong kind.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False, argument_default=argparse.SUPPRESS, exit_on_error=False)
    for field in dataclasses.fields(ServeOptions):
        kind: Any = type(field.default)
        if kind is bool:
            parser.add_argument(f"--{field.name}", type=_truth, nargs="?", const=True)
        else:
            parser.add_argument(f"--{field.name}", type=_KINDS.get(kind, kind))
    try:
        found, unknown = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise UsageError(f"{error}.") from error
    return ServeOptions(**{**defaults, **vars(found)}), unknown


def main(words: Sequence[str] | None = None) -> int:
    """The command line of the embedded server, in the real one's words."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        options, unknown = parse_flags(sys.argv[1:] if words is None else words)
        serve(options, unknown, embedded=True)
    except TfrecError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def _truth(word: str) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}
    if word.lower() not in known:
        raise argparse.ArgumentTypeError(f"expected true or false, got {word!r}")
    return known[word.lower()]


def _whole(word: str) -> int:
    if not _INTEGER.fullmatch(word):
        raise argparse.ArgumentTypeError(f"expected a whole number, got {word!r}")
    return int(word)


_KINDS: dict[type, Any] = {int: _whole}


if __name__ == "__main__":
    sys.exit(main())
