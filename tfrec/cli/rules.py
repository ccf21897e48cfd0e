"""`tfrec rules`: checks a file of rules against the newest version's catalogue."""
import time
from pathlib import Path
from typing import Annotated

import typer

from tfrec import terminal
from tfrec.cli.options import AsJson, configured
from tfrec.config import Config
from tfrec.errors import DataError, UsageError


@configured
def rules(
    config: Config,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="A file of rules; default: gateway.rules.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check a file of rules: which items each touches in the newest version today, and what cannot hold.

    It fails where the file is wrong, or a rule can never hold as it is: a pin of an item that is missing, not available or
    excluded, or a position that another rule may take.
    """
    path = file or config.gateway.rules
    if path is None:
        raise UsageError("rules needs a FILE, or gateway.rules in the configuration.")
    from tfrec.gateway.rules.floors import FLOORS
    from tfrec.gateway.rules.report import rules_report
    from tfrec.release.publish import newest_dir

    found = rules_report(path, newest_dir(config.models_dir), now=time.time(), factors=config.run / FLOORS)
    terminal.show(found, as_json=as_json)
    if found["problems"]:
        raise DataError(f"{path}: {len(found['problems'])} problems. The first: {found['problems'][0]}.")
