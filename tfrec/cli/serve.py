"""`tfrec serve`, the model server, its file of certificates, and `tfrec gateway`, which an application calls."""
import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from tfrec import terminal
from tfrec.cli.options import configured, load_tensorflow
from tfrec.config import Config
from tfrec.errors import UsageError


@configured
def serve(config: Config, context: typer.Context) -> None:
    """Serve the published versions over gRPC and REST. A new version replaces the old one while requests run.

    The program tensorflow_model_server is used when it is on the PATH or named by TFREC_MODEL_SERVER, else the embedded server.
    Both take its flags under their own names, as --name=value: --port (8500), --rest_api_port (8501), --model_name,
    --model_base_path, --model_config_file, --model_config_file_poll_wait_seconds, --file_system_poll_wait_seconds,
    --enable_batching, --batching_parameters_file, --monitoring_config_file, --enable_grpc_healthcheck_service,
    --allow_version_labels_for_unavailable_models, --grpc_max_threads, --grpc_socket_path, --grpc_channel_arguments,
    --rest_api_timeout_in_ms, --max_num_load_retries, --load_retry_interval_micros, --enable_model_warmup,
    --ssl_config_file. Without a base path and without a model config it serves what the configuration's run has published.

    The embedded server listens on the loopback address; --host=0.0.0.0 lets other machines in. The real one listens on every
    interface. Whoever reaches either of them may change what it serves: keep its ports from others,
    or let serving.tls.client_ca say whom gRPC answers. REST has no TLS: --rest_api_port=0 closes it.
    """
    from tfrec.model_server.options import ServeOptions, parse_flags
    from tfrec.model_server.server import find_model_server, serve

    published = {
        "model_name": config.serving.model_name,
        "model_base_path": str(config.models_dir.absolute()),
        "rest_api_port": 8501,
        "grpc_max_threads": max(ServeOptions.grpc_max_threads, 4 * config.gateway.max_in_flight),  # or a busy gateway is refused
    }
    named = {word.partition("=")[0] for word in context.args} & {"--model_base_path", "--model_config_file"}
    options, others = parse_flags(context.args, **({} if named else published))
    if not named and config.serving.models is not None:
        _follow(config)
    if not named and not config.models_dir.is_dir():
        raise UsageError(f"Nothing is published in {config.models_dir}. Check --set run=..., or publish first: tfrec publish.")
    if config.serving.tls.cert is not None and not options.ssl_config_file:
        from tfrec.model_server.ssl_config import ssl_config_in_memory

        options = dataclasses.replace(options, ssl_config_file=ssl_config_in_memory(config.serving.tls))
    if find_model_server() is None:
        load_tensorflow()
    serve(options, others)


@configured
def ssl_config(
    config: Config,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to write, with the private key.")] = Path("ssl.config"),
) -> None:
    """Write the file that --ssl_config_file of tensorflow_model_server names, from the certificates of serving.tls.

    Needed where the model server is not started by `tfrec serve`, which passes the certificates itself.
    """
    from tfrec.model_server.ssl_config import write_ssl_config

    write_ssl_config(config.serving.tls, out)


def _follow(config: Config) -> None:
    """Fetch the versions of serving.models, now and, in a process of its own, as long as this one runs.

    The real model server takes this process over, and threads would not survive that.
    """
    from tfrec.release.follow import EVERY_SECONDS, fetch

    fetch(config)
    words = ("pull", "--config", "/dev/stdin", "--every", f"{EVERY_SECONDS:g}s", "--parent", str(os.getpid()))
    child = subprocess.Popen([sys.executable, "-m", "tfrec", *words], stdin=subprocess.PIPE, text=True)
    assert child.stdin is not None
    child.stdin.write(config.to_toml())
    child.stdin.close()


@configured
def gateway(
    config: Config,
    server: Annotated[str, typer.Option(metavar="HOST:PORT", help="gRPC address of the model server.")] = "127.0.0.1:8500",
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8080,
    writer: Annotated[
        str, typer.Option(help="The name of this process in the log. Two gateways of a run need two names.")
    ] = "gateway",
) -> None:
    """Answer an application's requests for recommendations, searches and similar items; take outcomes; keep the feedback log."""
    terminal.writable(config.run)
    from tfrec.gateway.serve import serve_gateway

    serve_gateway(config, model_server=server, host=host, port=port, writer=writer)
