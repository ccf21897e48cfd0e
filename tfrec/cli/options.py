"""Options that several commands take, and the import of TensorFlow that those with models begin with."""
from pathlib import Path
from typing import Annotated

import typer

from tfrec import terminal

ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE.toml", help="Settings; the rest keep their defaults.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting, such as training.batch_size=64. May be repeated."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
SkipBadRows = Annotated[bool, typer.Option("--skip-bad-rows", help="Set bad rows aside in a file of the run and use the rest.")]
Items = Annotated[Path | None, typer.Option("--items", help="The catalogue, instead of data.items.")]
Events = Annotated[Path | None, typer.Option("--interactions", help="What people did, instead of data.interactions.")]


def load_tensorflow() -> None:
    """Import TensorFlow and let it look for devices, without the lines that it prints meanwhile."""
    with terminal.held_back():
        import tensorflow as tf

        tf.config.list_physical_devices()
