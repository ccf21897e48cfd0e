"""What several commands share: options, the settings, the file of bad rows, and the import of TensorFlow.

Everything that costs time to import is imported inside functions, here and in the commands: `tfrec --help` answers at once, and a
command loads only what it uses.
"""
import functools
import inspect
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tfrec import terminal
from tfrec.config import Config, load_config

if TYPE_CHECKING:
    from tfrec.data.readers.quarantine import Quarantine

log = logging.getLogger(__name__)

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
SkipBadRows = Annotated[
    bool, typer.Option("--skip-bad-rows", help="Write rows that cannot be read to a file in the run directory, and use the rest.")
]
Items = Annotated[Path | None, typer.Option("--items", help="The catalogue, instead of data.items.")]
Events = Annotated[Path | None, typer.Option("--interactions", help="What people did, instead of data.interactions.")]


def configured(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options --config and --set. It is called with the `Config` that they make as its first argument."""
    def run(
        *,
        config: Annotated[
            Path | None, typer.Option(metavar="FILE.toml", help="Settings; those that it leaves out keep their defaults.")
        ] = None,
        settings: Annotated[
            list[str] | None,
            typer.Option("--set", metavar="KEY=VALUE", help="One setting, such as training.batch_size=64. May be repeated."),
        ] = None,
        **options: Any,
    ) -> None:
        command(load_config(config, settings or ()), **options)

    *shared, _ = inspect.signature(run).parameters.values()
    _, *own = inspect.signature(command).parameters.values()
    functools.update_wrapper(run, command)
    run.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]  # typer makes the options of it
    return run


@contextmanager
def bad_rows(config: Config, command: str, *, skip: bool) -> Iterator["Quarantine | None"]:
    """The file of the run that takes rows which cannot be read, counted in the log at the end; None when they are an error."""
    from tfrec.data.readers.quarantine import Quarantine

    quarantine = Quarantine(config.run / f"quarantine-{command}.jsonl") if skip else None
    yield quarantine
    if quarantine is not None and quarantine.count:
        log.warning("%s", quarantine.summary())


@contextmanager
def stopped_by(*numbers: signal.Signals, stopping: threading.Event | None = None) -> Iterator[threading.Event]:
    """An event that signals set; a second one ends the program, as it would have without this."""
    stopping = stopping or threading.Event()
    before = [signal.getsignal(number) for number in numbers]

    def restore() -> None:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)

    def stop(*_: object) -> None:
        stopping.set()
        restore()

    for number in numbers:
        signal.signal(number, stop)
    try:
        yield stopping
    finally:
        restore()


def load_tensorflow() -> None:
    """Import TensorFlow and let it look for devices, without the lines that it prints meanwhile."""
    with terminal.quiet_native_code():
        import tensorflow as tf

        tf.config.list_physical_devices()
