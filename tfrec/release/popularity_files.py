"""The files by which a gateway knows a version: its popularity, the ids of its items, those not shown, and numeric columns."""
import json
from collections.abc import Sequence
from pathlib import Path

from tfrec.errors import ModelError
from tfrec.models.popularity_prior import PopularityPrior

PRIOR_FILE = "prior.npz"
ITEMS_FILE = "items.jsonl"  # a JSON string a line, in the order of the prior's items: an id may hold any character
HIDDEN_FILE = "unavailable.json"  # a JSON list of ids
COLUMNS_FILE = "numeric_columns.json"  # a JSON list of names


def write_prior(version_dir: str | Path, prior: PopularityPrior, ids: Sequence[str], *, hidden: Sequence[str] = ()) -> None:
    """Write the prior, the ids of its items, and those that must not be shown into a version directory."""
    if len(ids) != len(prior):
        raise ModelError(f"write_prior: expected an id for each of the prior's {len(prior)} items, got {len(ids)}.")
    prior.save(Path(version_dir) / PRIOR_FILE)
    lines = "".join(f"{json.dumps(item)}\n" for item in ids)
    (Path(version_dir) / ITEMS_FILE).write_text(lines, encoding="utf-8")
    (Path(version_dir) / HIDDEN_FILE).write_text(json.dumps(list(hidden)), encoding="utf-8")


def read_prior(version_dir: str | Path) -> tuple[PopularityPrior, list[str]]:
    """The prior and the ids of its items; raises `ModelError`, naming the file, when one is missing or broken."""
    prior = PopularityPrior.load(Path(version_dir) / PRIOR_FILE)
    path = Path(version_dir) / ITEMS_FILE
    try:
        ids = json.loads(f"[{','.join(path.read_text(encoding='utf-8').splitlines())}]")
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: expected a JSON string a line: {error}. Export the model again.") from error
    if len(ids) != len(prior) or not all(isinstance(item, str) for item in ids):
        raise ModelError(f"{path}: expected {len(prior)} ids as {PRIOR_FILE} has items, got {len(ids)}. Export the model again.")
    return prior, ids


def read_hidden(version_dir: str | Path) -> list[str]:
    """The ids that must not be shown; raises `ModelError` when the file is missing or broken."""
    path = Path(version_dir) / HIDDEN_FILE
    try:
        return [str(item) for item in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path}: expected a JSON list of ids: {error}. Export the model again.") from error


def write_columns(version_dir: str | Path, names: Sequence[str]) -> None:
    """Write the names of the catalogue's numeric columns into a version directory."""
    (Path(version_dir) / COLUMNS_FILE).write_text(json.dumps(list(names)), encoding="utf-8")


def read_columns(version_dir: str | Path) -> tuple[str, ...] | None:
    """The names of the numeric columns; None of a version that was exported before there was such a file."""
    try:
        return tuple(map(str, json.loads((Path(version_dir) / COLUMNS_FILE).read_text(encoding="utf-8"))))
    except (OSError, ValueError, TypeError):
        return None
