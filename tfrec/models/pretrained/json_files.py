"""JSON files of a checkpoint; a broken file raises a ModelError that names it."""
import json
from pathlib import Path
from typing import Any

from tfrec.errors import ModelError


def read_json(path: Path) -> dict[str, Any]:
    """Read the JSON object in `path`.

    Raises:
        ModelError: the file cannot be read, or is not a JSON object.
    """
    found = _read(path)
    if not isinstance(found, dict):
        raise ModelError(f"{path}: expected a JSON object, got {type(found).__name__}. Download the checkpoint again.")
    return found


def read_objects(path: Path) -> list[dict[str, Any]]:
    """Read the JSON list of objects in `path`.

    Raises:
        ModelError: the file cannot be read, or is not a JSON list of objects.
    """
    found = _read(path)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ModelError(f"{path}: expected a JSON list of objects, got something else. Download the checkpoint again.")
    return found


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as e:  # bytes that are not UTF-8 are a ValueError, too
        raise ModelError(f"{path}: expected a JSON object, got something else ({e}). Download the checkpoint again.") from e
