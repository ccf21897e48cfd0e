"""A JSON file of a checkpoint in, an object or a list out; a broken one is a ModelError that names it."""
import json
from pathlib import Path
from typing import Any

from tfrec.errors import ModelError


def read_json(path: Path) -> dict[str, Any]:
    """The object in `path`.

    Raises:
        ModelError: it cannot be read, is no JSON, or holds something else.
    """
    found = _read(path)
    if not isinstance(found, dict):
        raise ModelError(f"{path}: expected a JSON object, got {type(found).__name__}. Download the checkpoint again.")
    return found


def read_objects(path: Path) -> list[dict[str, Any]]:
    """The list of objects in `path`.

    Raises:
        ModelError: it cannot be read, is no JSON, or holds something else.
    """
    found = _read(path)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ModelError(f"{path}: expected a JSON list of objects, got something else. Download the checkpoint again.")
    return found


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as e:  # no UTF-8 is a ValueError, too
        raise ModelError(f"{path}: expected a JSON object, got something else ({e}). Download the checkpoint again.") from e
