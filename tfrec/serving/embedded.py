"""The embedded server: both protocols over one registry of models, in this process.

It speaks for `tensorflow_model_server` where that is not installed. The ports open once every model answers.
"""
import logging
import threading
from collections.abc import Mapping
from pathlib import Path

import grpc
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2
from tensorflow_serving.config.file_system_storage_path_source_pb2 import FileSystemStoragePathSourceConfig

from tfrec.errors import UsageError
from tfrec.serving.grpc_api import start_grpc
from tfrec.serving.registry import Registry
from tfrec.serving.rest_api import RestServer
from tfrec.serving.server import ServeOptions
from tfrec.serving.versions import ModelVersions, Policy

log = logging.getLogger(__name__)


class EmbeddedServer:
    """Start with `start`, end with `stop`; in between it serves from threads of its own. `stopping` interrupts a start."""

    def __init__(self, options: ServeOptions, *, stopping: threading.Event) -> None:
        self.options = options
        self._stopping = stopping
        self._registry = Registry(_models(options), poll_seconds=options.file_system_poll_wait_seconds, stopping=stopping)
        self._grpc: grpc.Server | None = None
        self._rest: RestServer | None = None

    def start(self) -> None:
        """Load all models, then open the ports; `ServingError` when either cannot be done."""
        options = self.options
        self._registry.start()
        if self._stopping.is_set():
            return
        self._grpc = start_grpc(self._registry, f"{options.host}:{options.port}", threads=options.grpc_max_threads)
        log.info("Running gRPC ModelServer at %s:%d ...", options.host, options.port)
        if options.rest_api_port:
            self._rest = RestServer(self._registry, options.host, options.rest_api_port, threads=options.grpc_max_threads)
            log.info("Exporting HTTP/REST API at:%s:%d ...", options.host, options.rest_api_port)

    def stop(self, grace: float = 5.0) -> None:
        """Take no more requests, give the running ones `grace` seconds, then unload."""
        self._stopping.set()
        ended = self._grpc.stop(grace) if self._grpc is not None else None
        if self._rest is not None:
            self._rest.stop()
        if ended is not None:
            ended.wait()
        self._registry.stop()


def _models(options: ServeOptions) -> list[ModelVersions]:
    if not options.model_config_file:
        return [_model(options, options.model_name, options.model_base_path, Policy(), {})]
    path = Path(options.model_config_file)
    config = model_server_config_pb2.ModelServerConfig()
    try:
        text_format.Parse(path.read_text(encoding="utf-8"), config)
    except (OSError, text_format.ParseError) as error:
        raise UsageError(f"{path}: cannot be read as a ModelServerConfig: {error}") from error
    models = []
    for entry in config.model_config_list.config:
        if entry.model_platform != "tensorflow" or not entry.name or not entry.base_path:
            raise UsageError(f'{path}: a model needs name, base_path and model_platform: "tensorflow", got {entry}')
        policy, labels = _policy(entry.model_version_policy), dict(entry.version_labels)
        models.append(_model(options, entry.name, entry.base_path, policy, labels))
        if labels and not options.allow_version_labels_for_unavailable_models:
            raise UsageError(
                f"{path}: model {entry.name} has version_labels, and at the start no version is loaded yet. "
                "Add --allow_version_labels_for_unavailable_models=true."
            )
    if not models:
        raise UsageError(f"{path}: holds no model_config_list with a model.")
    return models


def _model(options: ServeOptions, name: str, base_path: str, policy: Policy, labels: Mapping[str, int]) -> ModelVersions:
    return ModelVersions(
        name,
        Path(base_path),
        policy=policy,
        labels=labels,
        max_load_retries=options.max_num_load_retries,
        load_retry_seconds=options.load_retry_interval_micros / 1e6,
        warm_up=options.enable_model_warmup,
    )


def _policy(proto: FileSystemStoragePathSourceConfig.ServableVersionPolicy) -> Policy:
    choice = proto.WhichOneof("policy_choice")
    if choice == "all":
        return Policy(latest=None)
    if choice == "specific":
        return Policy(specific=frozenset(proto.specific.versions))
    return Policy(latest=max(1, proto.latest.num_versions))


