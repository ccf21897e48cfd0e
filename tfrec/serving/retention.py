"""Which old versions of a run leave the disk: those beyond `serving.keep_versions` that nobody names.

The model server's configuration names versions one by one, or by labels, and then serves them however many newer ones there are:
a canary's stable version must outlive the versions that are published meanwhile.
"""
import logging

from tfrec.config import Config
from tfrec.errors import UsageError
from tfrec.serving.model_configs import ModelConfig, model_configs
from tfrec.serving.refusal import Refusal
from tfrec.serving.release import prune
from tfrec.serving.text_protos import read_models

log = logging.getLogger(__name__)


def retire(config: Config) -> list[int]:
    """Remove the old versions of a run; returns their numbers.

    None are removed while nobody can tell which are still named: `serving.models_config` cannot be read, or the gateway asks by
    label and that file is not given.
    """
    try:
        named = _named(config)
    except UsageError as error:
        log.warning("no old version is removed: %s", error)
        return []
    return prune(config.models_dir, keep=config.serving.keep_versions, spare=named)


def _named(config: Config) -> set[int]:
    path, gateway = config.serving.models_config, config.gateway
    if path is None:
        if gateway.stable_label or gateway.canary_share:
            raise UsageError("the gateway asks for versions by label, and only the model server's configuration says which "
                             "versions those are. Set serving.models_config to that file.")
        return set()
    try:
        models = model_configs(read_models(str(path)))
    except Refusal as refusal:
        raise UsageError(f"{path}: {refusal.message}") from refusal
    return {version for model in models if _is_ours(model, config) for version in _versions(model)}


def _is_ours(model: ModelConfig, config: Config) -> bool:
    """By name or by place: in a container the base path may be another."""
    return model.name == config.serving.model_name or model.base_path == config.models_dir.absolute()


def _versions(model: ModelConfig) -> set[int]:
    return set(model.policy.specific or ()) | set(model.labels.values())
