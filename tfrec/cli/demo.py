"""`tfrec demo`: the whole loop on recorded behaviour."""
from pathlib import Path
from typing import Annotated

import typer

from tfrec import terminal
from tfrec.cli.options import AsJson, load_tensorflow
from tfrec.config import Config
from tfrec.errors import UsageError


def demo(
    run: Annotated[Path, typer.Option(help="The run directory. What an earlier demo left in it is removed.")] = Path("runs/demo"),
    items: Annotated[Path | None, typer.Option(help="Another catalogue than MovieLens.")] = None,
    interactions: Annotated[Path | None, typer.Option(help="What people did with its items.")] = None,
    rounds: Annotated[int, typer.Option(min=2, help="How many times the model is retrained.")] = 4,
    as_json: AsJson = False,
) -> None:
    """Run the whole loop on real data in a few minutes: train, serve, replay live traffic, retrain, report.

    On MovieLens, simulated people follow, who act on what they are shown.
    """
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
    report, page = demo(run, catalogue, inter, name=name, rounds=rounds, closed_loop=items is None)
    terminal.show(report if as_json else render_screen(report, page), as_json=as_json)
