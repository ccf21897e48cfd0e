"""The manifest of a version: its lineage, its measurements, and the answers that it must give.

`manifest.json` is beside `saved_model.pb`. The export writes it without a number, and `release.publish` adds the number. Probes
are requests with the answers that the model in memory gave at export: a server that answers otherwise has loaded something else.
Tensors are nested lists, with their dtypes in `signatures`. Infinities are written as text, since JSON has none.
"""
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tfrec.client.contract import Probe, Signature
from tfrec.data import durable_files
from tfrec.errors import ServingError

FILE_NAME = "manifest.json"
CHECKPOINT = "checkpoint"  # the directory, beside saved_model.pb, from which the next retrain continues
CATALOGUE = Path(CHECKPOINT, "catalogue.jsonl")


class Manifest(BaseModel):
    """Everything that is known about a version besides its weights."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    version: int | None = Field(None, ge=1)  # None until published
    identity: str | None = None  # of the job that made it: the same identity is published once, however often it is tried
    parent: int | None = None  # the version whose weights this one continued
    copy_of: int | None = None  # a rollback: the older version whose files these are,
    rolled_back_from: int | None = None  # and the newer one that it replaced
    of_copy: bool = False  # whether it has the checkpoint of a rollback, with other items or popularity beside it
    created_at: int = Field(ge=0)  # seconds since 1970
    window: dict[str, Any] | None = None  # of the feedback log, up to whose end no event is news; None for a first training
    slates_until: int = Field(0, ge=0)  # seconds since 1970: requests up to then were learnt, by it or by a version it replaced
    learnt: int | None = None  # the newest part of the settled examples in its weights; None: up to the end of the window
    erasures: int = 0  # how many users had been erased when the data was read that it learnt from
    traces: tuple[int, ...] = ()  # the numbers of those of them from whom an earlier version in its line had learnt
    config_digest: str = ""
    catalogue_digest: str = ""
    code_version: str = ""
    graph_digest: str = ""  # of what the graph is a function of: a version with an equal one shares it (`shared_graph.py`)
    scorecard: dict[str, Any] = {}
    index: dict[str, Any] = {}  # its kind, how much of it a query reads, and the recall that was measured (`index_choice.py`)
    signatures: dict[str, Signature] = {}
    shortlist: int | None = Field(None, ge=1)  # of `explore`: how many of the best items Plackett-Luce chooses among
    probes: tuple[Probe, ...] = ()
    files: dict[str, str] = {}  # path in the version, with slashes, to SHA-256 of the contents; all but the manifest's own


def read_manifest(version_dir: str | Path) -> Manifest:
    """The manifest of an export or a published version; raises `ServingError` when there is none or it does not parse."""
    path = Path(version_dir) / FILE_NAME
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ServingError(f"{path}: no manifest, so this is no export of tfrec. Make one with `tfrec export`.") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ServingError(f"{path}: {where}: {first['msg']}. Export the model again.") from error


def write_manifest(version_dir: str | Path, manifest: Manifest) -> Path:
    """Write by rename: a reader sees the old or the new manifest, and a hard link to the old one keeps the old."""
    path = Path(version_dir) / FILE_NAME
    with durable_files.replacing(path) as file:
        file.write(f"{manifest.model_dump_json(indent=1)}\n".encode())
    return path
