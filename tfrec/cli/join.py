"""`tfrec join`: settles the feedback log to training examples."""
import functools
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from tfrec import terminal
from tfrec.cli.options import AsJson, Items, SkipBadRows, bad_rows, configured
from tfrec.config import Config
from tfrec.errors import ServingError, UsageError


@configured
def join(
    config: Config,
    items: Items = None,
    output: Annotated[Path | None, typer.Option(help="Write all examples to this file, as Parquet.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Join the whole log again, by the reward rule of the settings.")] = False,
    engine: Annotated[Literal["duckdb", "spark"], typer.Option(help="What runs the join: duckdb in this process, or Spark.")] = (
        "duckdb"),
    skip_bad_rows: SkipBadRows = False,
    as_json: AsJson = False,
) -> None:
    """Join what was shown with what people did into training examples, and keep them in the run directory.

    Only what is new in the feedback log is joined. The figures are of all examples.
    """
    import pyarrow.parquet as pq

    from tfrec.data.feedback_log.log import FeedbackLog
    from tfrec.data.items.catalogue import read_catalogue
    from tfrec.data.labels.action_names import warn_of_actions
    from tfrec.data.labels.duckdb_engine import duckdb_engine
    from tfrec.data.labels.join import join as join_window
    from tfrec.data.labels.label_rule import LabelRule
    from tfrec.data.labels.spark_engine import spark_engine
    from tfrec.data.people.erasures import load_people
    from tfrec.data.settled.examples import SettledExamples
    from tfrec.data.settled.settle import settle
    from tfrec.data.settled.settle_again import settle_again

    source = items or config.data.items
    if source is None:
        raise UsageError("join needs the catalogue: pass --items FILE or set data.items.")
    if not FeedbackLog(config.log_uri).exists():
        raise UsageError(f"There is no feedback log in {config.log_uri}. Check --set run=..., or fill it: tfrec gateway.")
    if output is not None:
        terminal.new_file(output)
    run = functools.partial(join_window, engine=spark_engine if engine == "spark" else duckdb_engine)
    with bad_rows(config, "join", skip=skip_bad_rows) as quarantine:
        log, catalogue = FeedbackLog(config.log_uri), read_catalogue(source, quarantine)
        rule = LabelRule.of(config, catalogue)
        if again:
            settle_again(log, config.examples_uri, rule, known=_read_by_versions(config), quarantine=quarantine,
                         engine=run)
        settled = SettledExamples(config.examples_uri)
        part = settle(log, settled, rule, now=int(time.time()), quarantine=quarantine, engine=run,
                      people=functools.partial(load_people, config, make_key=False))
    ids = catalogue.ids.tolist()
    if output is not None:
        pq.write_table(settled.whole(upto=part.number, items=ids), output)
    left_out, actions = settled.summary(part.number)
    warn_of_actions(actions, config.reward, where=config.log_uri)
    known, left_out["unknown_items"] = settled.counts(after=0, upto=part.number, items=ids)
    terminal.show({"examples": known, **left_out}, as_json=as_json)


def _read_by_versions(config: Config) -> list[int]:
    """The numbers of the parts up to which the published versions have read."""
    from tfrec.release.publish import manifests
    from tfrec.release.shared_versions import store_of

    read = []
    for manifest in manifests(config.models_dir, store_of(config)).values():
        if isinstance(manifest, ServingError):
            raise manifest
        if manifest.window is not None:
            read.append(int(manifest.window["upto"]))
    return read
