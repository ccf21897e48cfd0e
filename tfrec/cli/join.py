"""`tfrec join`: the training examples of the feedback log."""
import time
from pathlib import Path
from typing import Annotated

import typer

from tfrec import terminal
from tfrec.cli.options import AsJson, Items, SkipBadRows, bad_rows, configured
from tfrec.config import Config
from tfrec.errors import UsageError


@configured
def join(
    config: Config,
    items: Items = None,
    output: Annotated[Path | None, typer.Option(help="Write the examples to this file, as Parquet.")] = None,
    skip_bad_rows: SkipBadRows = False,
    as_json: AsJson = False,
) -> None:
    """Join what was shown with what people did, over the whole feedback log, into training examples."""
    import pyarrow.parquet as pq

    from tfrec.data.feedback_log.log import FeedbackLog
    from tfrec.data.items.catalogue import read_catalogue
    from tfrec.data.labels.action_names import warn_of_actions
    from tfrec.data.labels.join import join
    from tfrec.data.labels.label_rule import LabelRule

    source = items or config.data.items
    if source is None:
        raise UsageError("join needs the catalogue: pass --items FILE or set data.items.")
    if not config.log_dir.is_dir():
        raise UsageError(f"There is no feedback log in {config.log_dir}. Check --set run=..., or fill it: tfrec gateway.")
    if output is not None:
        terminal.new_file(output)
    with bad_rows(config, "join", skip=skip_bad_rows) as quarantine:
        log = FeedbackLog(config.log_dir)
        rule = LabelRule.of(config, read_catalogue(source, quarantine))
        examples = join(log, log.window(None, now=int(time.time())), rule, quarantine=quarantine)
    if output is not None:
        pq.write_table(examples.table, output)
    warn_of_actions(examples.actions, config.reward, where=config.log_dir)
    terminal.show({"examples": len(examples), **examples.left_out}, as_json=as_json)
