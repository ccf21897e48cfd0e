"""`serve`: the real `tensorflow_model_server` when it is installed, else the embedded server, under the same flags.

    python -m tfrec.serving.server --port=8500 --rest_api_port=8501 --model_name=tfrec --model_base_path=/models/tfrec

The real one is found by TFREC_MODEL_SERVER or on the PATH and takes over this process. The embedded one runs until SIGTERM or
SIGINT, then answers what it has begun and ends with 0. TensorFlow is imported only to serve.
"""
import argparse
import dataclasses
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tfrec.errors import TfrecError, UsageError


@dataclass(frozen=True)
class ServeOptions:
    """The flags of `tensorflow_model_server` that both servers take, with its defaults; `host` and `parent` are our own."""

    port: int = 8500
    rest_api_port: int = 0  # 0: no REST
    model_name: str = "default"
    model_base_path: str = ""
    model_config_file: str = ""
    model_config_file_poll_wait_seconds: int = 0  # 0: read once, at the start
    allow_version_labels_for_unavailable_models: bool = False
    file_system_poll_wait_seconds: float = 1.0  # 0: look once, at the start
    max_num_load_retries: int = 5
    load_retry_interval_micros: int = 60_000_000
    enable_model_warmup: bool = True
    enable_batching: bool = False
    batching_parameters_file: str = ""
    monitoring_config_file: str = ""  # none: no metrics
    enable_grpc_healthcheck_service: bool = False
    grpc_max_threads: int = 4 * (os.cpu_count() or 1)
    host: str = "0.0.0.0"  # the real server listens everywhere
    parent: int = 0  # a process that this one ends with, however that one ended

    def __post_init__(self) -> None:
        if not self.model_config_file and not self.model_base_path:
            raise UsageError("Nothing to serve: give --model_base_path (with --model_name) or --model_config_file.")
        if self.batching_parameters_file and not self.enable_batching:
            raise UsageError("--batching_parameters_file is given without --enable_batching=true.")

    def flags(self) -> list[str]:
        """The command-line flags that say this, without the defaults."""
        words = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                shown = str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else value
                words.append(f"--{field.name}={shown}")  # 2, not 2.0: to the real server seconds are whole
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
        base_path = options.model_base_path and str(Path(options.model_base_path).absolute())  # it takes no relative one
        flags = dataclasses.replace(options, model_base_path=base_path, host=ServeOptions.host, parent=0).flags()
        os.execv(binary, [str(binary), *flags, *others])
    if others:
        raise UsageError(f"tfrec's embedded server has no {' '.join(others)}; tensorflow_model_server has more flags.")
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
        kind = type(field.default)
        if kind is bool:
            parser.add_argument(f"--{field.name}", type=_truth, nargs="?", const=True)
        else:
            parser.add_argument(f"--{field.name}", type=kind)
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


if __name__ == "__main__":
    sys.exit(main())
