"""`tfrec exposure`: how the attention of answers is shared among groups of items."""
import time
from typing import Annotated

import typer

from tfrec import terminal
from tfrec.cli.options import AsJson, configured
from tfrec.config import Config
from tfrec.errors import DataError, UsageError


@configured
def exposure(
    config: Config,
    prefix: Annotated[str, typer.Argument(metavar="PREFIX", help="The beginning of the tags that are groups, such as brand: .")],
    days: Annotated[float, typer.Option(min=0.01, help="Of the log, so many days until now.")] = 7.0,
    as_json: AsJson = False,
) -> None:
    """Measure the exposure of groups of items: their share of the positions that were shown, discounted as in DCG.

    Beside it stands the share of the items that may be shown, by the newest version's catalogue.
    """
    from tfrec.data.feedback_log.log import FeedbackLog
    from tfrec.data.items.item_table import read_items
    from tfrec.evaluation.exposure import GroupedItems
    from tfrec.evaluation.exposure import exposure as measured
    from tfrec.release.manifest import CATALOGUE
    from tfrec.release.publish import newest_dir

    version_dir = newest_dir(config.models_dir)
    if version_dir is None:
        raise UsageError(f"{config.models_dir}: no version is published whose catalogue could say what group an item is in.")
    table = read_items(version_dir / CATALOGUE)
    available = table["available"].fill_null(True).to_numpy()
    items = GroupedItems.of(table["id"].combine_chunks(), table["tags"].combine_chunks(), available, prefix=prefix)
    if not items.names:
        raise UsageError(f"exposure: no tag of version {version_dir.name} begins with {prefix!r}.")
    shown = FeedbackLog(config.log_uri).shown_since(int(time.time() - 86_400 * days))
    if not shown.num_rows:
        raise DataError(f"{config.log_uri}: nothing was shown in the last {days:g} days. Take more: --days.")
    terminal.show({"version": int(version_dir.name), "days": days} | measured(shown, items), as_json=as_json)
