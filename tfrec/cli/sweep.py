"""`tfrec sweep`: hyper-parameters searched on data of one's own."""
from typing import Annotated

import typer

from tfrec import terminal
from tfrec.cli.options import AsJson, Events, Items, SkipBadRows, configured, load_tensorflow
from tfrec.config import Config


@configured
def sweep(
    config: Config,
    items: Items = None,
    interactions: Events = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=RANGE", help="A setting and its values, such as training.learning_rate=1e-4..1e-2 or "
                                               "model.dim=32,64. May be repeated. Default: sweep.vary, or a default space."),
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="How many settings are tried, instead of sweep.trials.")] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Forget the trials of an earlier sweep of the same space.")] = False,
    skip_bad_rows: SkipBadRows = False,
    as_json: AsJson = False,
) -> None:
    """Search for better settings of model and training, by how well they predict the newest events.

    A sweep that was interrupted goes on. The checkpoint and the published versions of the run stay as they are.
    """
    terminal.writable(config.run)
    from tfrec.training.sweep.space import search_space

    space = search_space(config, vary or ())
    import optuna  # noqa: F401  if it is missing, that is said before the data is read

    from tfrec.data.behaviour.dataset import read_dataset

    catalogue, inter = read_dataset(config, items, interactions, skip_bad_rows=skip_bad_rows, command="sweep")
    load_tensorflow()
    from tfrec.training.sweep.report import report
    from tfrec.training.sweep.search import sweep

    found = report(sweep(config, catalogue, inter, space, trials=trials or config.sweep.trials, restart=restart))
    terminal.show(found.to_dict() if as_json else found, as_json=as_json)
