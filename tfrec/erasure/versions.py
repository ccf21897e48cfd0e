"""Erased users in published versions: whom their files name, and from whom their weights have learnt.

A version names users in two places: the events that judged it and that the next run learns, and the report of damped events. They
are taken out. What the weights learnt stays in them until the version goes.
"""
import hashlib
import json
import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from tfrec.config import Config
from tfrec.data import durable_files
from tfrec.data.people.erasures import Erasure, Erasures
from tfrec.data.people.pseudonym import load_pseudonyms
from tfrec.errors import ServingError
from tfrec.release.manifest import CHECKPOINT, FILE_NAME, Manifest, read_manifest
from tfrec.release.publish import amend, manifests, versions
from tfrec.release.shared_versions import store_of

log = logging.getLogger(__name__)

_META = f"{CHECKPOINT}/checkpoint.json"


def traces(manifest: Manifest, erasures: Sequence[Erasure]) -> list[int]:
    """The numbers of the erasures of those from whom a version has learnt."""
    window = manifest.window or {}
    learnt = int(window.get("upto", 0)) if manifest.learnt is None else manifest.learnt
    later = [one.number for one in erasures if one.number > manifest.erasures
             and (one.in_base or (one.part is not None and learnt >= one.part))]
    return sorted({*manifest.traces, *later})


def traces_by_version(config: Config, erasures: Sequence[Erasure]) -> dict[int, list[int]]:
    """The same of each version, here and in the object store; of one that cannot be read, all erasures."""
    found = manifests(config.models_dir, store_of(config))
    return {number: [one.number for one in erasures] if isinstance(one, ServingError) else traces(one, erasures)
            for number, one in found.items()}


def has_clean_version(config: Config) -> bool:
    """Whether a published version has learnt from nobody who was erased."""
    return bool(_clean(config, versions(config.models_dir)))


def parent_of_next(config: Config) -> int:
    """The version that a retrain goes on from: the newest that has learnt from nobody who was erased, or else the newest."""
    known = versions(config.models_dir)
    clean = _clean(config, known)
    if not clean:
        log.warning("every published version has learnt from somebody who was erased since. This run goes on from version %d all "
                    "the same. To train without traces: docs/privacy.md", known[-1])
        return known[-1]
    if clean[-1] != known[-1]:
        log.info("version %d has learnt from somebody who was erased since: going on from version %d, which has not",
                 known[-1], clean[-1])
    return clean[-1]


def _clean(config: Config, known: Sequence[int]) -> list[int]:
    erasures = Erasures(config.log_uri)
    if not erasures.newest():
        return list(known)
    tombstones = erasures.read(load_pseudonyms(config.run))
    return [number for number in known if not traces(read_manifest(config.models_dir / str(number)), tombstones)]


def traces_of_parent(config: Config, parent: int, known: int) -> list[int]:
    """The traces that a version inherits, of the erasures that its run knew when it began."""
    if not known:
        return []
    tombstones = Erasures(config.log_uri).read(load_pseudonyms(config.run))[:known]
    return traces(read_manifest(config.models_dir / str(parent)), tombstones)


def unname(config: Config, names: Collection[str]) -> dict[str, int]:
    """Take pseudonyms out of all versions and of the export, if there is one; returns in how many files of each they were."""
    found: dict[str, int] = {}

    def change(directory: Path) -> dict[str, bytes]:
        files = unnamed(directory, names)
        if files:
            found[f"version {directory.name}"] = len(files)
        return files

    amend(config.models_dir, change, store=store_of(config))
    export = config.run / "export"
    files = unnamed(export, names) if (export / FILE_NAME).is_file() else {}
    for name in sorted(files):  # the checkpoint, and then the manifest with its digest
        durable_files.replace(export / name, files[name])
    return found | ({"export": len(files)} if files else {})


def unnamed(directory: Path, names: Collection[str]) -> dict[str, bytes]:
    """The files of a version that name somebody, without the names; the manifest has the digests of the others."""
    meta, manifest = ((directory / name).read_bytes() for name in (_META, FILE_NAME))
    described = without_names(json.loads(manifest), names) if is_named(manifest, names) else None
    found: dict[str, bytes] = {}
    if is_named(meta, names):
        found[_META] = json.dumps(without_names(json.loads(meta), names)).encode()
        described = described or json.loads(manifest)
    if described is not None:
        digest = hashlib.sha256(found.get(_META, meta)).hexdigest()  # which a kill between the two files left behind
        found[FILE_NAME] = f"{json.dumps(described | {'files': described['files'] | {_META: digest}}, indent=1)}\n".encode()
    return found


def is_named(data: bytes, names: Collection[str]) -> bool:
    """Whether one of some pseudonyms stands in a file."""
    return any(name.encode() in data for name in names)


def without_names(value: Any, names: Collection[str]) -> Any:
    """A value of JSON without the fields, the entries and the rows that begin with one of `names`, and without them in texts."""
    if isinstance(value, dict):
        return {key: without_names(one, names) for key, one in value.items() if key not in names}
    if isinstance(value, list):
        return [without_names(one, names) for one in value
                if one not in names and not (isinstance(one, list) and one and one[0] in names)]
    if isinstance(value, str):
        for name in names:
            value = value.replace(name, "(erased)")
    return value
