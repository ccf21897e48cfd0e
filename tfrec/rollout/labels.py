"""Moves labels of versions in the file that tells the model server what to serve, `serving.models_config`.

The server reads the file again by itself (`--model_config_file_poll_wait_seconds`). A reload request would do the same at once,
and would be undone by the next reading of the file.
"""
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from tfrec.config import Config
from tfrec.data import durable_files
from tfrec.errors import UsageError
from tfrec.model_server.grpc_status import StatusError
from tfrec.model_server.text_protos import read_models

_HEAD = "# Which versions are served, and their labels. `tfrec retrain` writes this file, as experiment.canary is above 0.\n"


def labels_in_file(config: Config) -> dict[str, int]:
    """The versions of the run's model by label.

    Raises:
        UsageError: the file cannot be read, or does not name the model.
    """
    return dict(_entry(config)[1].version_labels)


def write_labels(config: Config, labels: Mapping[str, int]) -> bool:
    """Let the server serve the versions of these labels and no others; returns whether the file has changed.

    A kill leaves the old file or the new one.

    Raises:
        UsageError: the file cannot be read or written, or does not name the model.
    """
    models, entry = _entry(config)
    before = models.SerializeToString(deterministic=True)
    entry.model_version_policy.Clear()
    entry.model_version_policy.specific.versions.extend(sorted(set(labels.values())))
    entry.version_labels.clear()
    for label, version in labels.items():
        entry.version_labels[label] = version
    if models.SerializeToString(deterministic=True) == before:
        return False
    path = _path(config)
    try:
        with durable_files.replacing(path) as file:
            file.write((_HEAD + text_format.MessageToString(models)).encode())
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}. With experiment.canary, the retrain job moves the labels "
                         "in serving.models_config: put it where the job may write and the model server may read.") from error
    return True


def _entry(config: Config) -> tuple[Any, Any]:
    """The configuration of all models, and in it that of the run's."""
    path = _path(config)
    try:
        models = read_models(str(path))
    except StatusError as error:
        raise UsageError(f"{path}: {error.message}") from error
    for entry in models.model_config_list.config:
        if entry.name == config.serving.model_name:
            return models, entry
    raise UsageError(f"{path}: names no model {config.serving.model_name!r}, which is serving.model_name. Add it there.")


def _path(config: Config) -> Path:
    assert config.serving.models_config is not None  # the configuration holds that
    return config.serving.models_config
