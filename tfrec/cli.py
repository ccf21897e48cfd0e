"""The command line: one function a command, which parses, calls one verb and prints its result.

Verbs are imported inside the functions: `tfrec --help` answers at once, and a command loads only what it uses. The functions
of the package have the same names and do the same work.
"""
import logging
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer

from tfrec import __version__, terminal
from tfrec.config import load_config
from tfrec.errors import UsageError

log_line = logging.getLogger(__name__)
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE.toml", help="Settings; the rest keep their defaults.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting, such as training.batch_size=64. May be repeated."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
SkipBadRows = Annotated[bool, typer.Option("--skip-bad-rows", help="Set bad rows aside in a file of the run and use the rest.")]
Port = Annotated[int, typer.Option(min=1, max=65535)]


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def tfrec(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Search and recommendation that learns from its own feedback.

    Results go to standard output, progress and log lines to standard error.
    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 held: the retrained model was refused and the old one still serves.
    """
    terminal.log_to_standard_error()


def _load_tensorflow() -> None:
    """Import TensorFlow and let it look for devices, without the lines that it prints meanwhile."""
    with terminal.held_back():
        import tensorflow as tf

        tf.config.list_physical_devices()


@app.command()
def join(
    items: Annotated[Path | None, typer.Option(help="The catalogue, instead of data.items.")] = None,
    output: Annotated[Path | None, typer.Option(help="Where to write the examples, as Parquet.")] = None,
    skip_bad_rows: SkipBadRows = False,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Join what was shown with what people did, over the whole feedback log, into training examples."""
    import pyarrow.parquet as pq

    from tfrec.data.catalogue import read_catalogue
    from tfrec.data.join import join
    from tfrec.data.log import FeedbackLog
    from tfrec.data.rows import Quarantine

    settled = load_config(config, settings or ())
    catalogue = items or settled.data.items
    if catalogue is None:
        raise UsageError("join needs the catalogue: pass --items FILE or set data.items.")
    if not settled.log_dir.is_dir():
        raise UsageError(f"There is no feedback log in {settled.log_dir}. Check --set run=..., or fill it: tfrec gateway.")
    if output is not None:
        terminal.new_file(output)
    quarantine = Quarantine(settled.run / "quarantine-join.jsonl") if skip_bad_rows else None
    log = FeedbackLog(settled.log_dir)
    examples = join(
        log,
        log.window(None, now=int(time.time())),
        catalogue_ids=read_catalogue(catalogue, quarantine).ids,
        attribution_seconds=round(settled.data.attribution_hours * 3600),
        reward=settled.reward,
        quarantine=quarantine,
    )
    if output is not None:
        pq.write_table(examples.table, output)
    if quarantine is not None:
        log_line.info(quarantine.summary())
    counts = {field.name: getattr(examples, field.name) for field in fields(examples) if field.name != "table"}
    terminal.show({"examples": len(examples), **counts}, as_json=as_json)


@app.command()
def serve(
    port: Port = 8500,
    rest_port: Port = 8501,
    config: ConfigFile = None,
    settings: Settings = None,
) -> None:
    """Serve the published versions on gRPC and REST; a newly published one is swapped in while requests run.

    The real tensorflow_model_server is used when it is on the PATH (or named by TFREC_MODEL_SERVER), else the embedded server.
    """
    from tfrec.serving.server import ServeOptions, find_model_server, serve

    settled = load_config(config, settings or ())
    if not settled.models_dir.is_dir():
        raise UsageError(f"Nothing is published in {settled.models_dir}. Check --set run=..., or publish first: tfrec publish.")
    if find_model_server() is None:
        _load_tensorflow()
    serve(
        ServeOptions(
            port=port,
            rest_api_port=rest_port,
            model_name=settled.serving.model_name,
            model_base_path=str(settled.models_dir.absolute()),
        )
    )


@app.command()
def gateway(
    server: Annotated[str, typer.Option(metavar="HOST:PORT", help="gRPC address of the model server.")] = "127.0.0.1:8500",
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Port = 8080,
    writer: Annotated[str, typer.Option(help="Name of this process in the log; two gateways of a run need two.")] = "gateway",
    config: ConfigFile = None,
    settings: Settings = None,
) -> None:
    """Answer POST /v1/recommend, take POST /v1/outcomes, and keep the feedback log of both."""
    settled = load_config(config, settings or ())
    _load_tensorflow()
    from tfrec.serving.gateway import serve_gateway

    serve_gateway(settled, model_server=server, host=host, port=port, writer=writer)


@app.command()
def publish(
    export: Annotated[Path, typer.Argument(metavar="EXPORT", help="A directory that tfrec export wrote.")],
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Verify an export in a fresh model server and make it the newest version; old versions beyond serving.keep_versions go."""
    from tfrec.serving.release import prune, publish

    settled = load_config(config, settings or ())
    version = publish(export, settled.models_dir)
    removed = prune(settled.models_dir, keep=settled.serving.keep_versions)
    terminal.show({"version": version, "directory": settled.models_dir / str(version), "removed": removed}, as_json=as_json)


@app.command()
def rollback(
    to: Annotated[int | None, typer.Option(metavar="VERSION", help="Which one; else the one before the newest.")] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Publish an older version again, under a new number."""
    from tfrec.serving.manifest import read_manifest
    from tfrec.serving.release import rollback

    settled = load_config(config, settings or ())
    version = rollback(settled.models_dir, to, now=int(time.time()))
    manifest = read_manifest(settled.models_dir / str(version))
    terminal.show(
        {"version": version, "copy_of": manifest.copy_of, "rolled_back_from": manifest.rolled_back_from}, as_json=as_json
    )


@app.command()
def status(
    server: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="REST address of a server to ask as well.")] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """List the published versions and the rows of the feedback log."""
    from tfrec.status import status

    terminal.show(status(load_config(config, settings or ()), server=server), as_json=as_json)


def main() -> None:
    """The `tfrec` program."""
    sys.exit(terminal.end(app))
