"""The embedded server: gRPC and REST over one registry of models, in this process.

It stands in for `tensorflow_model_server` where that is not installed. The ports open once every model answers.
"""
import logging
import threading
from functools import partial
from pathlib import Path

import grpc

from tfrec.errors import TfrecError, UsageError
from tfrec.model_server.batching import Scheduler
from tfrec.model_server.grpc_api import start_grpc
from tfrec.model_server.grpc_status import StatusError
from tfrec.model_server.metrics import ServerMetrics
from tfrec.model_server.model_configs import ServedModelConfig, model_configs
from tfrec.model_server.options import LOOPBACK, ServeOptions
from tfrec.model_server.registry import Registry
from tfrec.model_server.rest.app import RestApi
from tfrec.model_server.rest.server import RestServer
from tfrec.model_server.saved_model import SavedModel
from tfrec.model_server.ssl_config import server_credentials
from tfrec.model_server.text_protos import read_batching, read_metrics_path, read_models
from tfrec.model_server.versions import ModelVersions

log = logging.getLogger(__name__)


class EmbeddedServer:
    """Serves from threads of its own between `start` and `stop`; the event `stopping` interrupts a start."""

    def __init__(self, options: ServeOptions, *, stopping: threading.Event) -> None:
        self.options = options
        self._stopping = stopping
        self._configs = _configs(options)
        self._credentials = server_credentials(options.ssl_config_file)
        self._metrics_path = read_metrics_path(options.monitoring_config_file)
        self._metrics = ServerMetrics(enabled=bool(self._metrics_path))
        scheduler = Scheduler(read_batching(options.batching_parameters_file), self._metrics) if options.enable_batching else None
        self._registry = Registry(
            partial(
                ModelVersions,
                max_load_retries=options.max_num_load_retries,
                load_retry_seconds=options.load_retry_interval_micros / 1e6,
                warm_up=options.enable_model_warmup,
                load=partial(SavedModel, scheduler=scheduler),
            ),
            poll_seconds=options.poll_seconds or options.file_system_poll_wait_seconds,
            labels_ahead=options.allow_version_labels_for_unavailable_models,
            stopping=stopping,
        )
        self._grpc: grpc.Server | None = None
        self._rest: RestServer | None = None

    def start(self) -> None:
        """Load all models, then open the ports. Raises `ServingError` when either fails."""
        options = self.options
        try:
            self._registry.start(self._configs)
        except StatusError as status_error:
            advice = "Add --allow_version_labels_for_unavailable_models=true."
            where = options.model_config_file
            raise UsageError(f"{where}: {status_error.message}. At the start no version is. {advice}") from status_error
        if self._stopping.is_set():
            return
        host, threads = options.address, options.grpc_max_threads
        addresses = [f"[{host}]:{options.port}" if ":" in host else f"{host}:{options.port}"] if options.port else []
        if options.grpc_socket_path:
            addresses.append(f"unix:{options.grpc_socket_path}")
        self._grpc = start_grpc(self._registry, addresses, threads=threads, metrics=self._metrics,
                                health=options.enable_grpc_healthcheck_service, arguments=options.channel_arguments(),
                                credentials=self._credentials)
        for address in addresses:
            log.info("Running gRPC ModelServer at %s ...", address)
        if options.rest_api_port:
            api = RestApi(self._registry, threads=threads, metrics=self._metrics, metrics_path=self._metrics_path,
                          timeout=options.rest_api_timeout_in_ms / 1000 or None)
            self._rest = RestServer(api, host, options.rest_api_port)
            log.info("Exporting HTTP/REST API at:%s:%d ...", host, options.rest_api_port)
        if host not in (LOOPBACK, "localhost", "::1"):
            log.warning("Whoever reaches %s may change what is served, and with it read and write files of this machine.", host)
        if options.model_config_file and options.model_config_file_poll_wait_seconds > 0:
            threading.Thread(target=self._follow_config, name="config", daemon=True).start()

    def stop(self, grace: float = 5.0) -> None:
        """Accept no more requests, give the running ones `grace` seconds, then unload the models."""
        self._stopping.set()
        ended = self._grpc.stop(grace) if self._grpc is not None else None
        if self._rest is not None:
            self._rest.stop()
        if ended is not None:
            ended.wait()
        self._registry.stop()

    def _follow_config(self) -> None:
        """Reload the file's config at each interval, changed or not; as in the real server this undoes a reload by request."""
        while not self._stopping.wait(self.options.model_config_file_poll_wait_seconds):
            try:
                self._registry.reload(model_configs(read_models(self.options.model_config_file)))
            except (TfrecError, StatusError) as error:
                log.error("%s: not reloaded: %s", self.options.model_config_file, error)


def _configs(options: ServeOptions) -> list[ServedModelConfig]:
    path = options.model_config_file
    if not path:
        return [ServedModelConfig(options.model_name, Path(options.model_base_path).absolute())]
    try:
        return model_configs(read_models(path))
    except StatusError as status_error:
        raise UsageError(f"{path}: {status_error.message}") from status_error
