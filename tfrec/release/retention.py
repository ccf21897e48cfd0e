"""Removes old versions of a run: those beyond `serving.keep_versions` that the model server's configuration does not name.

That configuration may name versions one by one or by labels, and the server then serves them however many newer ones there are. A
canary's stable version must outlive the versions that are published meanwhile.
"""
import logging
from pathlib import Path

from tfrec.config import Config
from tfrec.errors import UsageError
from tfrec.model_server.grpc_status import StatusError
from tfrec.model_server.model_configs import ServedModelConfig, model_configs
from tfrec.model_server.text_protos import read_models
from tfrec.nearest import nearest
from tfrec.release.publish import prune
from tfrec.release.shared_versions import store_of

log = logging.getLogger(__name__)


def retire(config: Config) -> list[int]:
    """Remove the old versions of a run; returns their numbers.

    None is removed while it is not known which are named: `serving.models_config` cannot be read, or the gateway asks by label
    and that file is not given.
    """
    try:
        named = _named(config)
    except UsageError as error:
        log.warning("no old version is removed: %s", error)
        return []
    return prune(config.models_dir, keep=config.serving.keep_versions, spare=named, store=store_of(config))


def _named(config: Config) -> set[int]:
    path, gateway = config.serving.models_config, config.gateway
    if path is None:
        if gateway.stable_label or gateway.canary_share:
            raise UsageError("the gateway asks for versions by label, and only the model server's configuration says which "
                             "versions those are. Set serving.models_config to that file.")
        return set()
    return {version for model in _of_the_run(config, path) for version in _versions(model)}


def warn_of_labels(config: Config) -> None:
    """Log a warning for each label that the gateway asks for and the model server's configuration does not name."""
    path, gateway = config.serving.models_config, config.gateway
    asked = {"stable_label": gateway.stable_label, "canary_label": gateway.canary_label if gateway.canary_share else ""}
    if path is None or not any(asked.values()):
        return
    try:
        named = named_labels(config)
    except UsageError as error:  # it may lie on the model server's machine alone
        log.warning("whether the labels of the gateway are served is not known: %s", error)
        return
    for setting, label in asked.items():
        if label and label not in named:
            log.warning("gateway.%s: %s names no label %r%s. Until it does the newest version answers.", setting, path, label,
                        nearest(label, named))


def named_labels(config: Config) -> set[str]:
    """The labels that the model server's configuration names.

    Raises:
        UsageError: it cannot be read.
    """
    path = config.serving.models_config
    return set() if path is None else {label for model in _of_the_run(config, path) for label in model.labels}


def _of_the_run(config: Config, path: Path) -> list[ServedModelConfig]:
    try:
        models = model_configs(read_models(str(path)))
    except StatusError as status_error:
        raise UsageError(f"{path}: {status_error.message}") from status_error
    return [model for model in models if _is_ours(model, config)]


def _is_ours(model: ServedModelConfig, config: Config) -> bool:
    """By name or by base path: in a container the base path may be another."""
    return model.name == config.serving.model_name or model.base_path == config.models_dir.absolute()


def _versions(model: ServedModelConfig) -> set[int]:
    return set(model.policy.specific or ()) | set(model.labels.values())
