"""The versions of a model on disk: published by one rename, rolled back by a copy, pruned.

    <run>/models/<name>/<version>/     watched by the server; a version appears whole or not at all, and never changes
    <run>/models/<name>/.last_version  the highest number ever given; locked while the next is given

With an object store (`shared_versions.py`) the directory is a copy of what is there, for this machine's server, and a version is
in both when a function here returns.

Numbers only grow, even after the newest version was removed. Versions share files by hard links, so a copy takes no time and no
space. Any step may be killed: the next one removes what it left behind.
"""
import contextlib
import fcntl
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from tfrec.data.durable_files import replace, sync_directory
from tfrec.data.staging import link, replace_directory
from tfrec.errors import ServingError, UsageError
from tfrec.release.file_digests import check_files
from tfrec.release.manifest import Manifest, read_manifest, write_manifest
from tfrec.release.model_store import ModelStore
from tfrec.release.shared_versions import remove_version, share_version, staged, synchronise
from tfrec.release.verify import Verifier, verify

__all__ = ["amend", "manifests", "newest_dir", "next_version", "prune", "publish", "pull", "rollback", "verify", "version_of",
           "versions"]

_MARK = ".last_version"
_ROLLBACK = ".rollback"  # the version that a rollback replaces, from before it is published until its caller knows of it


def versions(base: str | Path) -> list[int]:
    """The published versions, oldest first; none when there is no such directory."""
    base = Path(base)
    if not base.is_dir():
        return []
    return sorted(int(entry.name) for entry in base.iterdir() if entry.name.isdecimal() and entry.is_dir())


def newest_dir(base: str | Path) -> Path | None:
    """The directory of the newest version, None when there is none."""
    known = versions(base)
    return Path(base) / str(known[-1]) if known else None


def next_version(base: str | Path) -> int:
    """The number that the next version gets; another publisher may take it first."""
    mark = Path(base) / _MARK
    last = int(mark.read_text() or 0) if mark.is_file() else 0
    return max([last, *versions(base)]) + 1


def version_of(base: str | Path, identity: str) -> int | None:
    """The version that was published under an identity, None when there is none. A version that cannot be read has none."""
    for number in reversed(versions(base)):
        with contextlib.suppress(ServingError):
            if read_manifest(Path(base) / str(number)).identity == identity:
                return number
    return None


def pull(base: str | Path, store: ModelStore | None, *, newest: int | None = 1) -> None:
    """Fetch the newest versions of an object store, all of them with None; nothing without a store.

    Raises:
        ServingError: the store cannot be used, or a file there is damaged.
    """
    if store is not None:
        with _locked(Path(base), store, newest=newest):
            pass


def manifests(base: str | Path, store: ModelStore | None) -> dict[int, Manifest | ServingError]:
    """The manifest of each version that is here or in the store, oldest first; of one that cannot be read, the error."""
    here, there = versions(base), store.versions() if store is not None else []
    found: dict[int, Manifest | ServingError] = {}
    for number in sorted({*here, *there}):
        try:
            found[number] = read_manifest(Path(base) / str(number)) if store is None or number in here else store.manifest(number)
        except ServingError as error:
            found[number] = error
    return found


def publish(export_dir: str | Path, base: str | Path, *, seconds: float = 120.0, verifier: Verifier | None = None,
            store: ModelStore | None = None) -> int:
    """Verify an export, make it the newest version of `base`, and return its number. The export stays where it is.

    An export whose identity is published already is not published again, and the number of that version is returned: a job that
    was killed may simply be run again.

    Args:
        export_dir: of the export.
        base: of the versions.
        seconds: for the verification, where no `verifier` is given.
        verifier: that has begun before.
        store: in which the version shall be as well.
    """
    export_dir, base = Path(export_dir), Path(base)
    manifest = read_manifest(export_dir)
    pull(base, store)
    if manifest.identity and (number := version_of(base, manifest.identity)):
        return number
    if verifier is None:
        verify(export_dir, seconds=seconds, parent=newest_dir(base))
    else:
        verifier.verify(export_dir, parent=newest_dir(base))
    with _locked(base, store) as give:
        if manifest.identity and (number := version_of(base, manifest.identity)):
            return number
        return give(export_dir, manifest)


def rollback(base: str | Path, to: int | None = None, *, now: int, told: Callable[[int], None] | None = None,
             store: ModelStore | None = None) -> int:
    """Publish a copy of version `to` as a new version, and return the new number.

    The copy takes over the log's window and the slates of the version that it replaces. A retrain would else learn the same
    events from the same weights again, and bring back what was just rolled back.

    A rollback that was done already, before a kill or because the newest version is that copy, is not done again: the number is
    that of the first time.

    Args:
        base: of the versions.
        to: the number of a version; by default the one before the newest, or, if that is a rollback itself, the one before the
            version that it is a copy of.
        now: seconds since 1970.
        told: called with the number as soon as it is known. A rollback that is killed before this returns counts as not
            reported: asked for again without `to`, it reports its number and does not go back one version further.
        store: in which the versions are as well.

    Raises:
        UsageError: there is no such version, or none before the newest.
        ServingError: a file of the version is not as it was published.
    """
    base = Path(base)
    with _locked(base, store, newest=None) as give:
        known = versions(base)
        if not known:
            raise UsageError(f"{base}: no version has been published, so there is nothing to roll back.")
        newest, unreported = known[-1], base / _ROLLBACK
        replaced = read_manifest(base / str(newest))
        if to is None and unreported.is_file() and unreported.read_text() == str(replaced.rolled_back_from):
            number = newest
        else:
            to = _before(base, known, replaced.copy_of or newest) if to is None else to
            if to not in known or to == newest:
                raise UsageError(f"{base}: cannot roll back to version {to}. Choose an older one of {_list(known)}.")
            number = _copy_back(base, to, replaced, newest, now=now, give=give)
        if told is not None:
            told(number)
        unreported.unlink(missing_ok=True)
        return number


def _copy_back(base: Path, to: int, replaced: Manifest, newest: int, *, now: int, give: Callable[[Path, Manifest], int]) -> int:
    """Publish a copy of version `to` in place of the newest one, unless that is such a copy."""
    manifest = read_manifest(base / str(to))
    original = manifest.copy_of or to
    if replaced.copy_of == original:
        return newest
    check_files(base / str(to), manifest)
    windows = [window for window in (manifest.window, replaced.window) if window is not None]
    change = {"copy_of": original, "rolled_back_from": newest, "created_at": now, "identity": None,
              "window": max(windows, key=lambda window: window["now"], default=None),
              "slates_until": max(manifest.slates_until, replaced.slates_until)}
    (base / _ROLLBACK).write_text(str(newest))
    return give(base / str(to), manifest.model_copy(update=change))


def _before(base: Path, known: list[int], number: int) -> int:
    """The newest version that is older than `number`."""
    older = [version for version in known if version < number]
    if not older:
        raise UsageError(f"{base}: there is no version before {number} to roll back to, only {_list(known)}.")
    return older[-1]


def prune(base: str | Path, *, keep: int, spare: Collection[int] = (), store: ModelStore | None = None) -> list[int]:
    """Remove all but the newest `keep` versions and those in `spare`, which a label may name; returns the removed numbers."""
    base = Path(base)
    if keep < 1:
        raise UsageError(f"keep must be at least 1, got {keep}.")
    with _locked(base, store):
        here, there = versions(base), store.versions() if store is not None else []
        old = [number for number in sorted({*here, *there})[:-keep] if number not in spare]
        for number in sorted({*old, *(store.abandoned() if store is not None else ())}):
            if store is not None:
                store.remove(number)
            if number in here:
                remove_version(base, number)
    return old


def amend(base: str | Path, change: Callable[[Path], Mapping[str, bytes]], *, store: ModelStore | None = None) -> list[int]:
    """Put other files in the place of some files of each version, where `change` of its directory gives any, by their paths.

    A version is exchanged as a whole, so that nobody sees half of it. Only what no server reads may be changed.
    Returns the numbers of the versions that were changed.
    """
    base, changed = Path(base), []
    if not versions(base) and store is None:
        return []
    with _locked(base, store, newest=None):
        for number in versions(base):
            if not (files := change(base / str(number))):
                continue
            made = staged(base, number)
            shutil.copytree(base / str(number), made, copy_function=link)
            for name, data in files.items():
                replace(made / name, data)
            replace_directory(made, base / str(number))
            shutil.rmtree(made, ignore_errors=True)
            if store is not None:
                store.push(base / str(number), read_manifest(base / str(number)))
            changed.append(number)
    return changed


@contextlib.contextmanager
def _locked(base: Path, store: ModelStore | None = None, *, newest: int | None = 1) -> Iterator[Callable[[Path, Manifest], int]]:
    """Hold the lock of `base`, and yield a function that publishes a directory as the next version."""
    base.mkdir(parents=True, exist_ok=True)
    with (base / _MARK).open("a") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        for left in base.parent.glob(f".{base.name}-staging-*"):  # by a process that was killed
            shutil.rmtree(left)

        def give(source: Path, manifest: Manifest) -> int:
            number = next_version(base)
            while store is not None and not store.claim(number, manifest.model_copy(update={"version": number})):
                number += 1  # another machine has it
            made = staged(base, number)
            shutil.copytree(source, made, copy_function=link)
            write_manifest(made, manifest.model_copy(update={"version": number}))
            try:
                made.rename(base / str(number))
            except OSError as error:
                raise ServingError(f"{base / str(number)}: cannot be published: {error.strerror}.") from error
            sync_directory(base)
            mark.truncate(0)
            mark.write(str(number))
            mark.flush()
            if store is not None:
                share_version(store, base, number)
            return number

        if store is not None:
            synchronise(store, base, versions(base), newest=newest)
        yield give


def _list(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
