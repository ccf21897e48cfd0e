"""The flags of `tensorflow_model_server` that both servers take, parsed from a command line and written back to one."""
import argparse
import dataclasses
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tfrec.errors import UsageError

LOOPBACK = "127.0.0.1"

_LONGEST_SOCKET = 107  # bytes of a UNIX socket's path, as Linux has it
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


@dataclass(frozen=True)
class ServeOptions:
    """Flags with the defaults of `tensorflow_model_server`; the last three are our own."""

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
    ssl_config_file: str = ""  # none: plain gRPC. REST is plain always
    host: str = ""  # the address to listen on; empty: LOOPBACK
    poll_seconds: float = 0.0  # between two looks at the base paths, in place of the real flag, which takes whole seconds only
    parent: int = 0  # process id; the server ends when that process has ended, however it did

    def __post_init__(self) -> None:
        if not self.model_config_file and not self.model_base_path:
            raise UsageError("Nothing to serve: give --model_base_path (with --model_name) or --model_config_file.")
        if self.batching_parameters_file and not self.enable_batching:
            raise UsageError("--batching_parameters_file is given without --enable_batching=true.")
        if not self.port and not self.grpc_socket_path:
            raise UsageError("--port=0 leaves no way to ask over gRPC: give a port, or --grpc_socket_path.")
        if self.port and self.port == self.rest_api_port:
            raise UsageError(f"--rest_api_port must be another than --port, got {self.port} for both.")
        if len(os.fsencode(self.grpc_socket_path)) > _LONGEST_SOCKET:
            raise UsageError(f"--grpc_socket_path has at most {_LONGEST_SOCKET} bytes, got {self.grpc_socket_path}. "
                             "Choose a shorter path; a verifier's is in TMPDIR.")
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
        """The pairs of `grpc_channel_arguments`."""
        found: list[tuple[str, int | str]] = []
        for pair in filter(None, self.grpc_channel_arguments.split(",")):
            key, sign, value = pair.partition("=")
            if not key or not sign:
                raise UsageError(f"--grpc_channel_arguments: expected key=value,key=value, got {pair!r}.")
            found.append((key, int(value) if _INTEGER.fullmatch(value) else value))
        return found

    def flags(self) -> list[str]:
        """The command-line flags that give these options; defaults are left out."""
        words = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                words.append(f"--{field.name}={str(value).lower() if isinstance(value, bool) else value}")
        return words


def parse_flags(words: Sequence[str], **defaults: object) -> tuple[ServeOptions, list[str]]:
    """Parse flags in the real server's form; returns the options, and the words that only the real server knows.

    `defaults` hold for flags that are not given. Raises `UsageError` for a value of the wrong type.
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
