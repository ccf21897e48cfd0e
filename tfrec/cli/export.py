"""`tfrec export`: a model as a SavedModel for TensorFlow Serving."""
import time
from pathlib import Path
from typing import Annotated

import typer

from tfrec import terminal
from tfrec.cli.options import AsJson, configured, load_tensorflow
from tfrec.config import Config


@configured
def export(
    config: Config,
    output: Annotated[
        Path | None, typer.Argument(metavar="DIRECTORY", help="Where to write it; default: export in the run directory.")
    ] = None,
    items: Annotated[Path | None, typer.Option(help="The catalogue of today. Its new items are served by their text.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the newest model as a SavedModel for TensorFlow Serving.

    The newest model is the newest published version, or what tfrec train has made since.
    """
    directory = terminal.new_file(output or config.run / "export")
    load_tensorflow()
    from tfrec.release.export import export
    from tfrec.release.lineage import newest_model
    from tfrec.release.publish import newest_dir, pull
    from tfrec.release.shared_versions import store_of
    from tfrec.training import checkpoint
    from tfrec.training.loop import optimiser

    pull(config.models_dir, store_of(config))
    source, lineage = newest_model(config)
    grown = checkpoint.grown_catalogue(source, items)
    optimizer = optimiser(config, learning_rate=config.retrain.learning_rate)
    recommender, _ = checkpoint.load(source, config, catalogue=grown, optimizer=optimizer)
    export(recommender, directory, created_at=int(time.time()), optimizer=optimizer, lineage=lineage,
           parent=newest_dir(config.models_dir))
    origin = f"version {lineage.parent}" if lineage.parent else source
    told = {"export": directory, "from": origin, "items": len(recommender.catalogue), "next": f"tfrec publish {directory}"}
    terminal.show(told, as_json=as_json)
