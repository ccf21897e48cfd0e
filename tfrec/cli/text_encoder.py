"""The commands that make a text encoder out of another one: `tfrec pretrain` and `tfrec tune`.

Each writes a directory, which `text.encoder` then names. `app.py` puts them among the other commands.
"""
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from tfrec import terminal
from tfrec.cli.options import AsJson, ConfigFile, Events, Items, Settings, SkipBadRows, load_tensorflow
from tfrec.config import Config, load_config
from tfrec.errors import UsageError

Output = Annotated[Path | None, typer.Argument(metavar="DIRECTORY", help="Where to.")]


def pretrain(
    output: Output = None,
    items: Items = None,
    skip_bad_rows: SkipBadRows = False,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Train the text encoder on masked words of the catalogue, into a directory (default: the run's pretrained) to be tuned.

    What is trained of it is text.tuning; tuning.replay keeps the vectors of whole texts near where they were.
    """
    settled, directory = _begin("pretrained", output, config, settings)
    catalogue, _ = _catalogue(settled, items, "pretrain", skip_bad_rows=skip_bad_rows)
    load_tensorflow()
    from tfrec.training.encoder.pretrain import pretrain

    _show(pretrain(settled, catalogue.texts, directory), as_json=as_json)


def tune(
    output: Output = None,
    queries: Annotated[Path | None, typer.Option(help="Rows of query, item and, if there is one, weight.")] = None,
    log: Annotated[bool, typer.Option("--log", help="Learn what was chosen after the queries in the feedback log.")] = False,
    behaviour: Annotated[bool, typer.Option("--behaviour", help="Learn which item follows which, of one user.")] = False,
    items: Items = None,
    interactions: Events = None,
    skip_bad_rows: SkipBadRows = False,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Tune the text encoder on queries and the items chosen for them, into a directory (default: the run's encoder).

    How much of it is trained is text.tuning. Pairs come from --queries, --log and --behaviour, from one of them or several.
    """
    if queries is None and not log and not behaviour:
        raise UsageError("tune needs pairs to learn from: pass --queries FILE, --log or --behaviour, or several of them.")
    settled, directory = _begin("encoder", output, config, settings)
    if log and not settled.log_dir.is_dir():
        raise UsageError(f"There is no feedback log in {settled.log_dir}. Check --set run=..., or fill it: tfrec gateway.")
    from tfrec.data.examples import pairs as sources
    from tfrec.data.labels.label_rule import LabelRule

    catalogue, quarantine = _catalogue(settled, items, "tune", skip_bad_rows=skip_bad_rows)
    rule = LabelRule.of(settled, catalogue)
    found = []
    if queries is not None:
        found.append(sources.read_queries(queries, catalogue, quarantine=quarantine))
    if log:
        from tfrec.data.feedback_log.log import FeedbackLog
        from tfrec.data.labels.action_names import warn_of_actions
        from tfrec.data.labels.join import join

        kept = FeedbackLog(settled.log_dir)
        examples = join(kept, kept.window(None, now=int(time.time())), rule, quarantine=quarantine)
        warn_of_actions(examples.actions, settled.reward, where=settled.log_dir)
        found.append(sources.pairs_of_log(examples.table, catalogue))
    if behaviour:
        from tfrec.data.behaviour.interaction_files import read_interactions

        source = interactions or settled.data.interactions
        if source is None:
            raise UsageError("tune --behaviour needs what people did: pass --interactions FILE or set data.interactions.")
        inter = read_interactions(source, catalogue=catalogue, quarantine=quarantine, reward=rule)
        found.append(sources.pairs_of_behaviour(inter, catalogue))
    load_tensorflow()
    from tfrec.training.encoder.tune import tune

    _show(tune(settled, catalogue, sources.joined(found), directory), as_json=as_json)


def _begin(name: str, output: Path | None, config: Path | None, settings: list[str] | None) -> tuple[Config, Path]:
    """The settings, and the directory that will be written, checked before any work."""
    settled = load_config(config, settings or ())
    if settled.text.tuning == "frozen":
        raise UsageError("text.tuning is frozen: nothing would be trained. Choose prefix, adapters, lora, top or full: "
                         "--set text.tuning=lora.")
    terminal.writable(settled.run)
    return settled, terminal.new_file(output or settled.run / name)


def _catalogue(settled: Config, items: Path | None, command: str, *, skip_bad_rows: bool) -> tuple[Any, Any]:
    from tfrec.data.items.catalogue import read_catalogue
    from tfrec.data.readers.quarantine import Quarantine

    source = items or settled.data.items
    if source is None:
        raise UsageError(f"{command} needs the catalogue: pass --items FILE or set data.items.")
    quarantine = Quarantine(settled.run / f"quarantine-{command}.jsonl") if skip_bad_rows else None
    return read_catalogue(source, quarantine), quarantine


def _show(made: Any, *, as_json: bool) -> None:
    from dataclasses import asdict

    terminal.show({**asdict(made), "next": f"--set text.encoder={made.encoder}"}, as_json=as_json)
