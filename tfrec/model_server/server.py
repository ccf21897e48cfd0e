"""Serve models with the real `tensorflow_model_server` if it is installed, else with the embedded server; the flags are the same.

    python -m tfrec.model_server.server --port=8500 --rest_api_port=8501 --model_name=tfrec --model_base_path=/models/tfrec

The real one is found by TFREC_MODEL_SERVER or on the PATH and takes over this process. It listens on every interface, which no
flag changes. The embedded one listens at `--host`, by default on the loopback interface only. It runs until SIGTERM or SIGINT,
then finishes the requests that it has begun and exits with 0. TensorFlow is imported only to serve.
"""
import dataclasses
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from tfrec.errors import TfrecError, UsageError
from tfrec.model_server.options import ServeOptions, parse_flags

EVERYWHERE = "0.0.0.0"

log = logging.getLogger(__name__)
# flags of the real server about its use of the machine or its files, which change no answer: the embedded one ignores them
_TUNING = {
    "flush_filesystem_caches", "num_load_threads", "num_unload_threads", "per_process_gpu_memory_fraction",
    "remove_unused_fields_from_bundle_metagraph", "rest_api_num_threads", "tensorflow_inter_op_parallelism",
    "tensorflow_intra_op_parallelism", "tensorflow_session_parallelism", "xla_cpu_compilation_enabled",
    "xla_gpu_compilation_enabled",
}  # fmt: skip


def find_model_server() -> Path | None:
    """The real server: the binary that TFREC_MODEL_SERVER names, or the one on the PATH."""
    named = os.environ.get("TFREC_MODEL_SERVER")
    found = shutil.which(named or "tensorflow_model_server")
    if named and not found:
        raise UsageError(f"TFREC_MODEL_SERVER is {named!r}, which is no program. Unset it, or name the binary.")
    return Path(found) if found else None


def serve(options: ServeOptions, others: Sequence[str] = (), *, embedded: bool = False,
          stopping: threading.Event | None = None) -> None:
    """Serve until the process is told to end.

    Args:
        options: what to serve and where.
        others: flags that only the real server has.
        embedded: do not look for the real server.
        stopping: ends the embedded server; by default SIGTERM and SIGINT do.
    """
    binary = None if embedded else find_model_server()
    if binary is not None:
        if options.host not in ("", EVERYWHERE):
            raise UsageError(
                f"--host={options.host}: {binary} has no such flag, it listens on every interface. Leave --host out and close "
                "its ports to others (firewall, container network), or start the embedded server: "
                "python -m tfrec.model_server.server."
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
    from tfrec.model_server.embedded import EmbeddedServer  # TensorFlow, which the real server does not need here

    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it advises against the session that the real server has too
    sys.setswitchinterval(0.001)  # seconds; at Python's 5 ms a request would wait that long for each step of a version's loading
    stopping = stopping or _told_by_signals()
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

    It is set by way of the wake-up pipe and not in the handlers. Those run in the main thread only, which waits and may not be
    the one that the signal interrupts, and a second signal could arrive while the first one's handler holds the event's lock.
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
    """Set `stopping` once the parent process has ended; one that is killed cannot do so itself."""
    while os.getppid() == parent:
        time.sleep(1.0)
    stopping.set()


def main(words: Sequence[str] | None = None) -> int:
    """The command line of the embedded server, with the real one's flags."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        options, unknown = parse_flags(sys.argv[1:] if words is None else words)
        serve(options, unknown, embedded=True)
    except TfrecError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
