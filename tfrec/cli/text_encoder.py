"""`tfrec pretrain` and `tfrec tune`: each makes a text encoder out of another one.

Each writes a directory, which the setting `text.encoder` may then name.
"""
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from tfrec import terminal
from tfrec.cli.options import AsJson, Events, Items, SkipBadRows, bad_rows, configured, load_tensorflow
from tfrec.config import Config
from tfrec.errors import UsageError

Output = Annotated[Path | None, typer.Argument(metavar="DIRECTORY", help="Where to write the encoder.")]


@configured
def pretrain(
    config: Config,
    output: Output = None,
    items: Items = None,
    skip_bad_rows: SkipBadRows = False,
    as_json: AsJson = False,
) -> None:
    """Train the text encoder to predict masked words of the catalogue. By default the result is pretrained in the run directory.

    text.tuning says which part of the encoder is trained. tuning.replay keeps the vectors of whole texts near where they were.
    """
    directory, source = _checked(config, "pretrain", output or config.run / "pretrained", items)
    from tfrec.data.items.catalogue import read_catalogue

    with bad_rows(config, "pretrain", skip=skip_bad_rows) as quarantine:
        catalogue = read_catalogue(source, quarantine)
    load_tensorflow()
    from tfrec.training.encoder.pretrain import pretrain

    _show(pretrain(config, catalogue.texts, directory), as_json=as_json)


@configured
def tune(
    config: Config,
    output: Output = None,
    queries: Annotated[Path | None, typer.Option(help="A file of rows with query, item and, if you like, weight.")] = None,
    log: Annotated[bool, typer.Option("--log", help="Learn what was chosen after the queries in the feedback log.")] = False,
    behaviour: Annotated[bool, typer.Option("--behaviour", help="Learn which item follows which, of the same user.")] = False,
    items: Items = None,
    interactions: Events = None,
    skip_bad_rows: SkipBadRows = False,
    as_json: AsJson = False,
) -> None:
    """Train the text encoder on queries and the items chosen for them. By default the result is encoder in the run directory.

    text.tuning says which part of the encoder is trained. The pairs come from --queries, --log or --behaviour, or from several.
    """
    if queries is None and not log and not behaviour:
        raise UsageError("tune needs pairs to learn from: pass --queries FILE, --log or --behaviour, or several of them.")
    from tfrec.data.feedback_log.log import FeedbackLog

    if log and not FeedbackLog(config.log_uri).exists():
        raise UsageError(f"There is no feedback log in {config.log_uri}. Check --set run=..., or fill it: tfrec gateway.")
    directory, source = _checked(config, "tune", output or config.run / "encoder", items)
    from tfrec.data.examples import pairs as sources
    from tfrec.data.items.catalogue import read_catalogue
    from tfrec.data.labels.label_rule import LabelRule

    found = []
    with bad_rows(config, "tune", skip=skip_bad_rows) as quarantine:
        catalogue = read_catalogue(source, quarantine)
        rule = LabelRule.of(config, catalogue)
        if queries is not None:
            found.append(sources.read_queries(queries, catalogue, quarantine=quarantine))
        if log:
            from tfrec.data.labels.action_names import warn_of_actions
            from tfrec.data.settled.examples import SettledExamples
            from tfrec.data.settled.settle import settle

            settled = SettledExamples(config.examples_uri)
            part = settle(FeedbackLog(config.log_uri), settled, rule, now=int(time.time()), quarantine=quarantine)
            warn_of_actions(settled.summary(part.number)[1], config.reward, where=config.log_uri)
            found.append(sources.pairs_of_log(settled.searches(upto=part.number), catalogue))
        if behaviour:
            from tfrec.data.behaviour.interaction_files import read_interactions
            from tfrec.data.people.erasures import load_people

            file = interactions or config.data.interactions
            if file is None:
                raise UsageError("tune --behaviour needs what people did: pass --interactions FILE or set data.interactions.")
            inter = read_interactions(file, catalogue=catalogue, quarantine=quarantine, reward=rule,
                                      people=load_people(config, make_key=False))
            found.append(sources.pairs_of_behaviour(inter, catalogue))
    load_tensorflow()
    from tfrec.training.encoder.tune import tune

    _show(tune(config, catalogue, sources.joined(found), directory), as_json=as_json)


def _checked(config: Config, command: str, output: Path, items: Path | None) -> tuple[Path, Path]:
    """The directory that will be written and the file of the catalogue, checked before any work."""
    if config.text.tuning == "frozen":
        raise UsageError("text.tuning is frozen: nothing would be trained. Choose prefix, adapters, lora, top or full: "
                         "--set text.tuning=lora.")
    terminal.writable(config.run)
    directory, source = terminal.new_file(output), items or config.data.items
    if source is None:
        raise UsageError(f"{command} needs the catalogue: pass --items FILE or set data.items.")
    return directory, source


def _show(made: Any, *, as_json: bool) -> None:
    terminal.show({**asdict(made), "next": f"--set text.encoder={made.encoder}"}, as_json=as_json)
