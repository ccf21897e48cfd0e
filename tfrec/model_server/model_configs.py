"""Which models a server serves: a `ModelServerConfig` from a file or a request, checked with the real server's messages."""
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grpc import StatusCode
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from tfrec.model_server.grpc_status import StatusError, invalid

_PLATFORM = "tensorflow"


@dataclass(frozen=True)
class VersionPolicy:
    """Which of the versions on disk are wanted: the `latest` n, the `specific` ones or, with neither, all."""

    latest: int | None = 1
    specific: frozenset[int] | None = None

    def wanted(self, found: set[int]) -> set[int]:
        """The wanted ones among `found`."""
        if self.specific is not None:
            return found & self.specific
        return found if self.latest is None else set(sorted(found)[-self.latest :])


NOTHING = VersionPolicy(specific=frozenset())  # for a model that is no longer listed; its versions keep their status


@dataclass(frozen=True)
class ServedModelConfig:
    """One model of a `ModelServerConfig`."""

    name: str
    base_path: Path
    policy: VersionPolicy = field(default_factory=VersionPolicy)
    labels: Mapping[str, int] = field(default_factory=dict)


def model_configs(config: ModelServerConfig) -> list[ServedModelConfig]:
    """The models of a config. Raises `StatusError` where the real server would refuse all of it."""
    if config.WhichOneof("config") != "model_config_list":
        raise invalid(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported"
        )
    found: dict[str, ServedModelConfig] = {}
    for entry in config.model_config_list.config:
        if entry.name in found:
            raise invalid(f"Illegal to list model {entry.name} multiple times in config list")
        if not entry.base_path.startswith("/"):
            raise invalid(f"Expected model {entry.name} to have an absolute path or URI; got base_path()={entry.base_path}")
        if not entry.model_platform:
            raise invalid(
                "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform."
            )
        if entry.model_platform != _PLATFORM:
            raise invalid(f"Model {entry.name} requests unsupported platform {entry.model_platform}")
        if entry.HasField("logging_config"):
            raise StatusError(StatusCode.FAILED_PRECONDITION, "No request-logger-creator provided.")
        labels = dict(entry.version_labels)
        found[entry.name] = ServedModelConfig(entry.name, Path(entry.base_path), _policy(entry.model_version_policy), labels)
    return list(found.values())


def _policy(proto: Any) -> VersionPolicy:
    choice = proto.WhichOneof("policy_choice")
    if choice == "all":
        return VersionPolicy(latest=None)
    if choice == "specific":
        return VersionPolicy(specific=frozenset(proto.specific.versions))
    return VersionPolicy(latest=max(1, proto.latest.num_versions))
