"""Keeps the versions of a run directory equal to those of an object store, which other machines publish to as well.

A version that was published here, and was not written to the store before a kill, is written. Of the store's versions the newest
are fetched, each under another name first, so that it appears whole or not at all. One that was in both, and that the store has
no longer but has newer ones, was removed by retention on another machine, and goes from here too. The file
`<run>/models/.<name>-shared` has the numbers that were in both.
"""
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from tfrec.config import Config
from tfrec.data import durable_files
from tfrec.errors import ServingError
from tfrec.release.manifest import read_manifest
from tfrec.release.model_store import ModelStore, have_files

log = logging.getLogger(__name__)


def store_of(config: Config) -> ModelStore | None:
    """The store that `serving.models` names, None without it."""
    url = config.serving.models
    return None if url is None else ModelStore(f"{url.rstrip('/')}/{config.serving.model_name}")


def synchronise(store: ModelStore, base: Path, here: Sequence[int], *, newest: int | None) -> None:
    """Make the versions of `base` and of the store equal; the caller holds the lock of `base`.

    Args:
        store: of the same model.
        base: of the versions.
        here: the versions of `base`.
        newest: fetch at most so many, the newest; None fetches all.

    Raises:
        ServingError: the store cannot be used, a file there is damaged, or a number is that of different versions here and there.
    """
    there, shared = store.versions(), _shared(base)
    gone = {number for number in shared.intersection(here) - set(there) if number < max(there, default=0)}
    for number in sorted(gone):
        log.info("version %d has left %s, and goes from here", number, store.url)
        remove_version(base, number)
    here = [number for number in here if number not in gone]
    for number in (number for number in here if number not in shared):
        if number in there:
            _check_same(store, base, number)
        elif number > max(there, default=0):
            share_version(store, base, number)
            there = [*there, number]
    for number in there[-newest:] if newest else there:
        if number not in here and _fetch(store, base, number, here):
            here = [*here, number]
    _remember(base, {*here} & ({*there} | shared))


def share_version(store: ModelStore, base: Path, number: int) -> None:
    """Write a version to the store."""
    manifest = read_manifest(base / str(number))
    if not store.claim(number, manifest):
        raise _different(store, base, number)
    store.push(base / str(number), manifest)
    _remember(base, {*_shared(base), number})


def remove_version(base: Path, number: int) -> None:
    """Remove a version: first out of the server's sight, then file by file."""
    away = staged(base, number)
    (base / str(number)).rename(away)
    shutil.rmtree(away)


def staged(base: Path, number: int) -> Path:
    """Where a version is before it has its name and after it had it."""
    return base.parent / f".{base.name}-staging-{number}"


def _fetch(store: ModelStore, base: Path, number: int, here: Sequence[int]) -> bool:
    """Fetch a version; False when retention removes it from the store meanwhile."""
    target = staged(base, number)
    target.mkdir()
    try:
        store.pull(number, target, have_files(base / str(one) for one in here))
        target.rename(base / str(number))
    except ServingError:
        if number in store.versions():
            raise
        return False
    finally:
        shutil.rmtree(target, ignore_errors=True)
    durable_files.sync_directory(base)
    log.info("fetched version %d from %s", number, store.url)
    return True


def _check_same(store: ModelStore, base: Path, number: int) -> None:
    if store.manifest(number) != read_manifest(base / str(number)):
        raise _different(store, base, number)


def _different(store: ModelStore, base: Path, number: int) -> ServingError:
    return ServingError(f"{base / str(number)}: is another version than {store.url}/{number}. Each was published without the "
                        "other: move this directory away, or give serving.models another URL.")


def _shared(base: Path) -> set[int]:
    mark = _mark(base)
    return {int(word) for word in mark.read_text().split()} if mark.is_file() else set()


def _remember(base: Path, numbers: set[int]) -> None:
    with durable_files.replacing(_mark(base)) as file:
        file.write(" ".join(map(str, sorted(numbers))).encode())


def _mark(base: Path) -> Path:
    return base.parent / f".{base.name}-shared"
