"""The command line: one function a command, which parses, calls one verb and prints its result.

Verbs are imported inside the functions: `tfrec --help` answers at once, and a command loads only what it uses. The functions
of the package have the same names and do the same work.
"""
import logging
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from tfrec import __version__, terminal
from tfrec.cli import text_encoder
from tfrec.cli.options import AsJson, ConfigFile, Events, Items, Settings, SkipBadRows, load_tensorflow
from tfrec.config import Config, load_config
from tfrec.errors import TfrecError, UsageError

log_line = logging.getLogger(__name__)
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

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
    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 rejected: the gate refused the retrained model, and the old one still serves.
    """
    terminal.log_to_standard_error()


@app.command()
def demo(
    run: Annotated[Path, typer.Option(help="The run directory; an earlier demo's is cleared.")] = Path("runs/demo"),
    items: Annotated[Path | None, typer.Option(help="Another catalogue than MovieLens.")] = None,
    interactions: Annotated[Path | None, typer.Option(help="Its behaviour.")] = None,
    rounds: Annotated[int, typer.Option(min=2, help="How often the model is retrained.")] = 4,
    as_json: AsJson = False,
) -> None:
    """The whole loop on real data in a few minutes: train, serve, replay live traffic, retrain, report."""
    if (items is None) != (interactions is None):
        raise UsageError("demo needs --items and --interactions together, or neither for MovieLens.")
    if items is None:
        from tfrec.data.behaviour.movielens import load_movielens

        catalogue, inter = load_movielens()
    else:
        from tfrec.data.behaviour.dataset import read_dataset

        catalogue, inter = read_dataset(Config(run=run), items, interactions, skip_bad_rows=False, command="demo")
    load_tensorflow()
    from tfrec.demo.report import render_screen
    from tfrec.demo.run import demo

    name = "MovieLens (latest small, 2016)" if items is None else items.stem
    report, page = demo(run, catalogue, inter, name=name, rounds=rounds)
    terminal.show(report if as_json else render_screen(report, page), as_json=as_json)


app.command()(text_encoder.pretrain)
app.command()(text_encoder.tune)


@app.command()
def train(
    items: Items = None,
    interactions: Events = None,
    skip_bad_rows: SkipBadRows = False,
    restart: Annotated[bool, typer.Option("--restart", help="Do not take up an interrupted training.")] = False,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Train on a catalogue and a log, into the run's checkpoint; an interrupted training goes on where it stopped."""
    settled = load_config(config, settings or ())
    terminal.writable(settled.run)
    from tfrec.data.behaviour.dataset import read_dataset

    catalogue, inter = read_dataset(settled, items, interactions, skip_bad_rows=skip_bad_rows, command="train")
    load_tensorflow()
    from tfrec.training import checkpoint
    from tfrec.training.train import checkpoint_dir, train

    trained = train(settled, catalogue, inter, resume=not restart)
    directory = checkpoint.save(checkpoint_dir(settled), trained.recommender, optimizer=trained.optimizer,
                                meta={"trained_at": int(time.time())})
    terminal.show(
        {"checkpoint": directory, "events": len(inter), "items": len(catalogue), "epochs": trained.epochs,
         "train_seconds": round(trained.seconds, 1), "popularity_weight": float(trained.recommender.model.beta.numpy())},
        as_json=as_json,
    )


@app.command()
def evaluate(
    items: Items = None,
    interactions: Events = None,
    protocol: Annotated[str, typer.Option(help="prequential: train on the first 80%, ask about the rest.")] = "prequential",
    skip_bad_rows: SkipBadRows = False,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Train on the first part of a log, be asked about the rest, and stand beside popularity, item-kNN and EASE."""
    if protocol != "prequential":
        raise UsageError(f"evaluate: --protocol must be prequential, got {protocol!r}.")
    settled = load_config(config, settings or ())
    terminal.writable(settled.run)
    # by the protocol an item that was only ever acted on is a candidate as well
    from tfrec.data.behaviour.dataset import read_dataset

    catalogue, inter = read_dataset(
        settled, items, interactions, skip_bad_rows=skip_bad_rows, command="evaluate", with_unknown_items=True
    )
    load_tensorflow()
    from tfrec.evaluation.prequential import prequential

    found = prequential(settled, catalogue, inter)
    terminal.show(found.to_dict() if as_json else found, as_json=as_json)


@app.command()
def export(
    output: Annotated[Path | None, typer.Argument(metavar="DIRECTORY", help="Where to; default: the run's export.")] = None,
    items: Annotated[Path | None, typer.Option(help="The catalogue now, with items that came after training.")] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Write the newest model as a SavedModel for TF Serving; new items of --items are served from their text, untrained.

    That is the newest published version, or what tfrec train has left since that was made.
    """
    settled = load_config(config, settings or ())
    directory = terminal.new_file(output or settled.run / "export")
    load_tensorflow()
    from tfrec.release.export import export
    from tfrec.release.lineage import newest_model
    from tfrec.training import checkpoint
    from tfrec.training.loop import optimiser

    source, lineage = newest_model(settled)
    grown = checkpoint.grown_catalogue(source, items)
    optimizer = optimiser(settled, learning_rate=settled.retrain.learning_rate)
    recommender, _ = checkpoint.load(source, settled, catalogue=grown, optimizer=optimizer)
    export(recommender, directory, created_at=int(time.time()), optimizer=optimizer, lineage=lineage)
    origin = f"version {lineage.parent}" if lineage.parent else source
    told = {"export": directory, "from": origin, "items": len(recommender.catalogue), "next": f"tfrec publish {directory}"}
    terminal.show(told, as_json=as_json)


@app.command()
def retrain(
    every: Annotated[str | None, typer.Option(metavar="TIME", help="Run again and again at this distance, such as 5m.")] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Learn what arrived since the live version, gate it, publish it. Exit 0 done, 1 failed, 2 usage, 3 rejected."""
    seconds = terminal.duration(every) if every is not None else None
    settled = load_config(config, settings or ())
    load_tensorflow()
    from tfrec.retrain import REJECTED, retrain

    if seconds is None:
        result = retrain(settled, now=int(time.time()))
        terminal.show(result, as_json=as_json)
        raise typer.Exit(3 if result.outcome == REJECTED else 0)
    while True:
        began = time.time()
        try:
            terminal.show(retrain(settled, now=int(began)), as_json=as_json)
        except UsageError:
            raise
        except TfrecError as error:  # the next run takes this one up
            log_line.error("%s", error)
        time.sleep(max(0.0, began + seconds - time.time()))


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

    from tfrec.data.feedback_log.log import FeedbackLog
    from tfrec.data.items.catalogue import read_catalogue
    from tfrec.data.labels.action_names import warn_of_actions
    from tfrec.data.labels.join import join
    from tfrec.data.labels.label_rule import LabelRule
    from tfrec.data.readers.quarantine import Quarantine

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
    rule = LabelRule.of(settled, read_catalogue(catalogue, quarantine))
    examples = join(log, log.window(None, now=int(time.time())), rule, quarantine=quarantine)
    if output is not None:
        pq.write_table(examples.table, output)
    if quarantine is not None:
        log_line.info(quarantine.summary())
    warn_of_actions(examples.actions, settled.reward, where=settled.log_dir)
    terminal.show({"examples": len(examples), **examples.left_out}, as_json=as_json)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(
    context: typer.Context,
    config: ConfigFile = None,
    settings: Settings = None,
) -> None:
    """Serve the published versions on gRPC and REST; a newly published one is swapped in while requests run.

    The real tensorflow_model_server is used when it is on the PATH (or named by TFREC_MODEL_SERVER), else the embedded server.
    Both take the real one's flags under their own names, as --name=value: --port (8500), --rest_api_port (8501), --model_name,
    --model_base_path, --model_config_file, --model_config_file_poll_wait_seconds, --file_system_poll_wait_seconds,
    --enable_batching, --batching_parameters_file, --monitoring_config_file, --enable_grpc_healthcheck_service,
    --allow_version_labels_for_unavailable_models, --grpc_max_threads, --grpc_socket_path, --grpc_channel_arguments,
    --rest_api_timeout_in_ms, --max_num_load_retries, --load_retry_interval_micros, --enable_model_warmup. Without a base path
    or a model config it serves what the configuration's run has published.

    The embedded server listens on the loopback; --host=0.0.0.0 lets other machines in. The real one listens on every interface.
    Whoever reaches either may change what it serves: keep its ports from others.
    """
    from tfrec.model_server.options import ServeOptions, parse_flags
    from tfrec.model_server.server import find_model_server, serve

    settled = load_config(config, settings or ())
    published = {
        "model_name": settled.serving.model_name,
        "model_base_path": str(settled.models_dir.absolute()),
        "rest_api_port": 8501,
        "grpc_max_threads": max(ServeOptions.grpc_max_threads, 4 * settled.gateway.max_in_flight),  # or a busy gateway is refused
    }
    named = {word.partition("=")[0] for word in context.args} & {"--model_base_path", "--model_config_file"}
    options, others = parse_flags(context.args, **({} if named else published))
    if not named and not settled.models_dir.is_dir():
        raise UsageError(f"Nothing is published in {settled.models_dir}. Check --set run=..., or publish first: tfrec publish.")
    if find_model_server() is None:
        load_tensorflow()
    serve(options, others)


@app.command()
def gateway(
    server: Annotated[str, typer.Option(metavar="HOST:PORT", help="gRPC address of the model server.")] = "127.0.0.1:8500",
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Port = 8080,
    writer: Annotated[str, typer.Option(help="Name of this process in the log; two gateways of a run need two.")] = "gateway",
    config: ConfigFile = None,
    settings: Settings = None,
) -> None:
    """Answer recommend, search and similar, take outcomes, and keep the feedback log: what an application calls."""
    settled = load_config(config, settings or ())
    terminal.writable(settled.run)
    load_tensorflow()
    from tfrec.gateway.serve import serve_gateway

    serve_gateway(settled, model_server=server, host=host, port=port, writer=writer)


@app.command()
def publish(
    export: Annotated[Path | None, typer.Argument(metavar="[EXPORT]", help="A directory that tfrec export wrote.")] = None,
    items: Annotated[Path | None, typer.Option("--items", help="Items that are new or changed.")] = None,
    prior: Annotated[bool, typer.Option("--prior", help="Count the outcomes that were logged since.")] = False,
    skip_bad_rows: SkipBadRows = False,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Verify an export in a fresh model server and make it the newest version; old versions beyond serving.keep_versions go,
    unless serving.models_config names them.

    With --items or --prior instead, it is the newest version with other items or popularity, in seconds: the weights are shared.
    A retrain takes what data.items says over what --items said, and does not show items that have no row there.
    """
    settled = load_config(config, settings or ())
    if (export is None) != (items is not None or prior):
        raise UsageError("publish needs an EXPORT directory, or else --items FILE, --prior or both, to change what is served.")
    terminal.writable(settled.run)
    from tfrec.data.readers.quarantine import Quarantine
    from tfrec.release.publish import publish
    from tfrec.release.retention import retire
    from tfrec.release.verify import Verifier

    if export is not None:
        load_tensorflow()
        version = publish(export, settled.models_dir)
    else:
        quarantine = Quarantine(settled.run / "quarantine-publish.jsonl") if skip_bad_rows else None
        with Verifier.of_delta() as verifier:  # its server imports TensorFlow while this process does
            load_tensorflow()
            from tfrec.release.delta import publish_delta

            now = int(time.time())
            version = publish_delta(settled, items=items, prior=prior, now=now, quarantine=quarantine, verifier=verifier)
        if quarantine is not None and quarantine.count:
            log_line.warning("%s", quarantine.summary())
    removed = retire(settled)
    terminal.show({"version": version, "directory": settled.models_dir / str(version), "removed": removed}, as_json=as_json)


@app.command()
def rollback(
    to: Annotated[int | None, typer.Option(metavar="VERSION", help="Which one; else the one before the newest.")] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Publish an older version again, under a new number."""
    from tfrec.release.manifest import read_manifest
    from tfrec.release.publish import rollback

    settled = load_config(config, settings or ())

    def tell(version: int) -> None:
        manifest = read_manifest(settled.models_dir / str(version))
        found = {"version": version, "copy_of": manifest.copy_of, "rolled_back_from": manifest.rolled_back_from}
        terminal.show(found, as_json=as_json)

    rollback(settled.models_dir, to, now=int(time.time()), told=tell)


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


@app.command()
def ope(
    version: Annotated[int | None, typer.Option(metavar="VERSION", help="Which one; else the newest.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0, help="Of its policy, instead of gateway.temperature.")] = None,
    epsilon: Annotated[float | None, typer.Option(min=0, max=1, help="Of its policy, instead of gateway.epsilon.")] = None,
    places: Annotated[int | None, typer.Option(min=1, help="Of each slate, the first ones; else all.")] = None,
    sample: Annotated[int, typer.Option(min=30, help="Slates that are judged, at most.")] = 10_000,
    skip_bad_rows: SkipBadRows = False,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Estimate what a version would have earned from the slates that were drawn with propensities, before anybody sees it.

    Where the log does not support the policy there is no number, and the reason is told.
    """
    settled = load_config(config, settings or ())
    load_tensorflow()
    from tfrec.data.readers.quarantine import Quarantine
    from tfrec.ope import ope

    quarantine = Quarantine(settled.run / "quarantine-ope.jsonl") if skip_bad_rows else None
    found = ope(settled, version=version, temperature=temperature, epsilon=epsilon, places=places, sample=sample,
                now=int(time.time()), quarantine=quarantine)
    if quarantine is not None and quarantine.count:
        log_line.warning("%s", quarantine.summary())
    terminal.show(found, as_json=as_json)


def main() -> None:
    """The `tfrec` program."""
    sys.exit(terminal.end(app))
