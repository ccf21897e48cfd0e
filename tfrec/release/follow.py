"""Keeps a run directory's versions up to date with the object store of `serving.models`, for the server and gateway beside it."""
import logging
import threading
from collections.abc import Callable
from functools import partial

from tfrec.config import Config
from tfrec.errors import TfrecError, UsageError
from tfrec.release.model_store import ModelStore
from tfrec.release.publish import pull, versions
from tfrec.release.shared_versions import store_of

log = logging.getLogger(__name__)
EVERY_SECONDS = 5.0


def fetch(config: Config, store: ModelStore | None = None) -> list[int]:
    """Fetch the newest `serving.keep_versions` versions from `store`, by default that of the configuration.

    Returns:
        The numbers of all versions that are here.

    Raises:
        UsageError: `serving.models` is not set.
        ServingError: the store cannot be used, or a file there is damaged.
    """
    store = store or store_of(config)
    if store is None:
        raise UsageError("serving.models names no object store to fetch versions from. Set it, such as to s3://bucket/models.")
    pull(config.models_dir, store, newest=config.serving.keep_versions)
    return versions(config.models_dir)


def follow(config: Config, wait: Callable[[], bool]) -> None:
    """Fetch again and again, until `wait` returns True. What fails is logged, and tried again."""
    store = store_of(config)
    while not wait():
        try:
            fetch(config, store)
        except TfrecError as error:
            log.warning("%s", error)


def follow_in_background(config: Config) -> threading.Event:
    """Fetch now and every few seconds, in a thread; nothing without `serving.models`.

    Returns:
        An event that ends it when it is set. The thread does not outlive the process.
    """
    stopping = threading.Event()
    if config.serving.models is None:
        return stopping
    try:
        fetch(config)
    except TfrecError as error:  # what is here can be served meanwhile
        log.warning("%s", error)
    wait = partial(stopping.wait, EVERY_SECONDS)
    threading.Thread(target=follow, args=(config, wait), name="versions", daemon=True).start()
    return stopping
