"""The state of a run: its published versions, the rows of its feedback log and, on request, what a model server has loaded.

All of it is read from manifests, Delta tables and the server's REST interface, without TensorFlow, in about a second.
"""
import json
import urllib.error
import urllib.request
from datetime import UTC, datetime
from typing import Any

from tfrec.config import Config
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.errors import ServingError
from tfrec.release.manifest import Manifest
from tfrec.release.publish import manifests
from tfrec.release.shared_versions import store_of


def status(config: Config, *, server: str | None = None) -> dict[str, Any]:
    """The versions of the run, newest first, and the number of rows of each table of its log.

    A version that cannot be read is listed with its `error` alone, so that it hides no other.

    Args:
        config: names the run.
        server: REST address of a model server, such as localhost:8501. With it, each version has the server's `state`.

    Raises:
        ServingError: the server does not answer, or does not know the model.
        DataError: a table of the log cannot be read.
    """
    states = _states(server, config.serving.model_name) if server else {}
    found = []
    for number, manifest in reversed(manifests(config.models_dir, store_of(config)).items()):
        line = {"error": str(manifest)} if isinstance(manifest, ServingError) else _line(manifest)
        found.append({"version": number, **({"state": states.get(number, "not served")} if server else {}), **line})
    log: dict[str, int] = {}
    if FeedbackLog(config.log_uri).exists():
        for kind, table in FeedbackLog(config.log_uri).tables.items():
            rows = table.dataset()
            log[kind] = table.checked(rows.count_rows, rows)
    return {"run": str(config.run), "model": config.serving.model_name, "log": log, "versions": found}


def _line(manifest: Manifest) -> dict[str, Any]:
    made = datetime.fromtimestamp(manifest.created_at, UTC).isoformat(sep=" ", timespec="seconds")
    fields = ("parent", "copy_of", "rolled_back_from", "code_version")
    return {"created_at": made, **{name: getattr(manifest, name) for name in fields}}


def _states(server: str, model: str) -> dict[int, str]:
    url = f"http://{server}/v1/models/{model}"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            entries = json.load(answer)["model_version_status"]
    except urllib.error.HTTPError as error:
        raise ServingError(f"{url}: the server answers {error.code}. Does it serve a model named {model!r}?") from error
    except (OSError, ValueError, KeyError) as error:
        raise ServingError(f"{url}: no model server answers there ({error}). Start one: tfrec serve.") from error
    return {int(entry["version"]): entry["state"] for entry in entries}
