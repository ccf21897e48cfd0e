"""`tfrec evaluate`: how good a model is on data of one's own, beside baselines."""
from typing import Annotated

import typer

from tfrec import terminal
from tfrec.cli.options import AsJson, Events, Items, SkipBadRows, configured, load_tensorflow
from tfrec.config import Config
from tfrec.errors import UsageError


@configured
def evaluate(
    config: Config,
    items: Items = None,
    interactions: Events = None,
    protocol: Annotated[str, typer.Option(help="prequential: train on the first 80% of the events, predict the rest. "
                                               "leave-one-out: predict each user's last event.")] = "prequential",
    skip_bad_rows: SkipBadRows = False,
    as_json: AsJson = False,
) -> None:
    """Train on a part of the events and predict others. Compare with popularity, item-kNN and EASE."""
    if protocol not in ("prequential", "leave-one-out"):
        raise UsageError(f"evaluate: --protocol must be prequential or leave-one-out, got {protocol!r}.")
    terminal.writable(config.run)
    from tfrec.data.behaviour.dataset import read_dataset

    catalogue, inter = read_dataset(  # in this protocol an item without a row in the catalogue is a candidate as well
        config, items, interactions, skip_bad_rows=skip_bad_rows, command="evaluate", with_unknown_items=True
    )
    load_tensorflow()
    from tfrec.evaluation.leave_one_out import LeaveOneOut, leave_one_out
    from tfrec.evaluation.prequential import Prequential, prequential

    evaluated = prequential if protocol == "prequential" else leave_one_out
    found: Prequential | LeaveOneOut = evaluated(config, catalogue, inter)
    terminal.show(found.to_dict() if as_json else found, as_json=as_json)
