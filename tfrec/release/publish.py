"""Versions of a model on disk: published by one rename, rolled back by a copy, pruned.

    <run>/models/<name>/<version>/     what the server watches; a version appears whole or not at all, and is never changed
    <run>/models/<name>/.last_version  the highest number ever given; locked to give the next

Numbers only grow, also after the newest version was removed. Files are shared by hard link, so a copy costs no time and no room.
Any step may be killed: what it leaves behind is swept away by the next.
"""
import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from tfrec.data.staging import link
from tfrec.errors import ServingError, UsageError
from tfrec.release.file_digests import check_files
from tfrec.release.manifest import Manifest, read_manifest, write_manifest
from tfrec.release.verify import Verifier, verify

__all__ = ["newest_dir", "next_version", "prune", "publish", "rollback", "verify", "version_of", "versions"]

_MARK = ".last_version"
_ROLLBACK = ".rollback"  # the version that a rollback replaces, from before it is published until its caller knows


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
    """The version that was published under this identity, None when there is none. One that cannot be read has none."""
    for number in reversed(versions(base)):
        with contextlib.suppress(ServingError):
            if read_manifest(Path(base) / str(number)).identity == identity:
                return number
    return None


def publish(export_dir: str | Path, base: str | Path, *, seconds: float = 120.0, verifier: Verifier | None = None) -> int:
    """Verify an export within `seconds`, or with a `verifier` begun before, and make it the newest version of `base`.

    Returns its number. The export stays where it is. An export whose manifest has an identity that is already published is not
    published again: its number is returned, so that a job which was killed may simply be run again.
    """
    export_dir, base = Path(export_dir), Path(base)
    manifest = read_manifest(export_dir)
    if manifest.identity and (number := version_of(base, manifest.identity)):
        return number
    if verifier is None:
        verify(export_dir, seconds=seconds, parent=newest_dir(base))
    else:
        verifier.verify(export_dir)
    with _locked(base) as give:
        if manifest.identity and (number := version_of(base, manifest.identity)):
            return number
        return give(export_dir, manifest)


def rollback(base: str | Path, to: int | None = None, *, now: int, told: Callable[[int], None] | None = None) -> int:
    """Publish a copy of version `to` as a new version, and return the new number.

    Without `to` it is the version before the newest one; if that is a rollback itself, the one before what it is a copy of.
    The copy takes over the log's window and slates of the version that it replaces: a retrain would else learn the same events
    from the same weights again, and bring back what was just regretted.

    Asked for again, after a kill or for a version that is the newest already, it is not done again: the number is that of the
    first time.

    Args:
        base: of the versions.
        to: the number of a version.
        now: seconds since 1970.
        told: called with the number before the rollback counts as told. One that was killed before that is not taken for an older
            one's when it is asked for again.

    Raises:
        UsageError: there is no such version, or none before the newest.
        ServingError: a file of the version is not as it was published.
    """
    base = Path(base)
    with _locked(base) as give:
        known = versions(base)
        if not known:
            raise UsageError(f"{base}: no version has been published, so there is nothing to roll back.")
        newest, mark = known[-1], base / _ROLLBACK
        regretted = read_manifest(base / str(newest))
        if to is None and mark.is_file() and mark.read_text() == str(regretted.rolled_back_from):
            number = newest  # done by one that was killed before its caller knew
        else:
            to = _before(base, known, regretted.copy_of or newest) if to is None else to
            if to not in known or to == newest:
                raise UsageError(f"{base}: cannot roll back to version {to}. Choose an older one of {_list(known)}.")
            manifest = read_manifest(base / str(to))
            original = manifest.copy_of or to
            if regretted.copy_of == original:
                number = newest
            else:
                check_files(base / str(to), manifest)
                windows = [window for window in (manifest.window, regretted.window) if window is not None]
                change = {"copy_of": original, "rolled_back_from": newest, "created_at": now, "identity": None,
                          "window": max(windows, key=lambda window: window["now"], default=None),
                          "slates_until": max(manifest.slates_until, regretted.slates_until)}
                mark.write_text(str(newest))
                number = give(base / str(to), manifest.model_copy(update=change))
        if told is not None:
            told(number)
        mark.unlink(missing_ok=True)
        return number


def _before(base: Path, known: list[int], number: int) -> int:
    """The newest version that is older than `number`."""
    older = [version for version in known if version < number]
    if not older:
        raise UsageError(f"{base}: there is no version before {number} to roll back to, only {_list(known)}.")
    return older[-1]


def prune(base: str | Path, *, keep: int, spare: Collection[int] = ()) -> list[int]:
    """Remove all but the newest `keep` versions and those in `spare` (a label may point at one); returns what was removed."""
    base = Path(base)
    if keep < 1:
        raise UsageError(f"keep must be at least 1, got {keep}.")
    with _locked(base):
        old = [number for number in versions(base)[:-keep] if number not in spare]
        for number in old:
            away = _staging(base, number)
            (base / str(number)).rename(away)  # first out of the server's sight, then file by file
            shutil.rmtree(away)
    return old


@contextlib.contextmanager
def _locked(base: Path) -> Iterator[Callable[[Path, Manifest], int]]:
    """Hold the lock of `base`, and give what makes a directory its next version."""
    base.mkdir(parents=True, exist_ok=True)
    with (base / _MARK).open("a") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        for left in base.parent.glob(f".{base.name}-staging-*"):  # by a process that was killed
            shutil.rmtree(left)

        def give(source: Path, manifest: Manifest) -> int:
            number = next_version(base)
            staged = _staging(base, number)
            shutil.copytree(source, staged, copy_function=link)
            write_manifest(staged, manifest.model_copy(update={"version": number}))
            try:
                staged.rename(base / str(number))
            except OSError as error:
                raise ServingError(f"{base / str(number)}: cannot be published: {error.strerror}.") from error
            _sync(base)
            mark.truncate(0)
            mark.write(str(number))
            return number

        yield give


def _staging(base: Path, number: int) -> Path:
    return base.parent / f".{base.name}-staging-{number}"


def _sync(directory: Path) -> None:
    """Make the rename survive a power cut."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _list(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
