"""All settings, and how they are loaded.

`load_config` reads a TOML file and `--set section.key=value` words into an immutable `Config`. A key that does not exist is an
error that names the nearest key: a misspelt key that is silently ignored costs a training run.
"""
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import tomli_w
from pydantic import model_validator

from tfrec import config_file
from tfrec.config.data import DataConfig
from tfrec.config.experiment import ExperimentConfig
from tfrec.config.features import FeaturesConfig
from tfrec.config.gateway import GatewayConfig
from tfrec.config.ingest import IngestConfig
from tfrec.config.monitors import MonitorsConfig
from tfrec.config.ranker import RankerConfig
from tfrec.config.retrain import RetrainConfig
from tfrec.config.review import ReviewConfig
from tfrec.config.reward import RewardConfig
from tfrec.config.search import SearchConfig
from tfrec.config.section import Section
from tfrec.config.serving import ServingConfig
from tfrec.config.sweep import SweepConfig
from tfrec.config.text import TextConfig, TuningConfig
from tfrec.config.training import ModelConfig, TrainingConfig


class Config(Section):
    """All settings."""

    run: Path = Path("runs/default")  # The work directory: checkpoints, exports, published versions and the feedback log.
    data: DataConfig = DataConfig()
    reward: RewardConfig = RewardConfig()
    text: TextConfig = TextConfig()
    tuning: TuningConfig = TuningConfig()
    model: ModelConfig = ModelConfig()
    features: FeaturesConfig = FeaturesConfig()
    training: TrainingConfig = TrainingConfig()
    sweep: SweepConfig = SweepConfig()
    search: SearchConfig = SearchConfig()
    ranker: RankerConfig = RankerConfig()
    retrain: RetrainConfig = RetrainConfig()
    serving: ServingConfig = ServingConfig()
    gateway: GatewayConfig = GatewayConfig()
    experiment: ExperimentConfig = ExperimentConfig()
    monitors: MonitorsConfig = MonitorsConfig()
    review: ReviewConfig = ReviewConfig()
    ingest: IngestConfig = IngestConfig()

    @model_validator(mode="after")
    def _second_stage_explores(self) -> "Config":
        improved = {"reinforce", "ppo"} & self.retrain.objectives.keys()
        if self.ranker.heads and improved:
            raise ValueError(f"has ranker.heads and retrain.objective {min(improved)!r}, which improves the policy of the first "
                             "stage: the second stage draws from another one. Choose another objective, or no heads")
        return self

    @model_validator(mode="after")
    def _canary_has_labels(self) -> "Config":
        if not self.experiment.canary:
            return self
        if self.serving.models_config is None or not self.gateway.stable_label:
            raise ValueError("has experiment.canary, by which the retrain job moves labels, and must have gateway.stable_label "
                             "and serving.models_config, the file that names them")
        if self.gateway.canary_share:
            raise ValueError("has experiment.canary and gateway.canary_share, which both say who gets the canary: one must be 0")
        if self.gateway.canary_label == self.gateway.stable_label:
            raise ValueError("has experiment.canary, and one label for the canary and for the stable version")
        return self

    @property
    def log_dir(self) -> Path:
        """The directory of the feedback log in the run directory. It is used if `data.log` names no other place."""
        return self.run / "log"

    @property
    def log_uri(self) -> str:
        """The directory or URL of the feedback log: what was shown, and what people did."""
        return self.data.log or str(self.log_dir)

    @property
    def examples_dir(self) -> Path:
        """The directory of the settled examples in the run directory. It is used if `data.examples` names no other place."""
        return self.run / "examples"

    @property
    def examples_uri(self) -> str:
        """The directory or URL of the settled examples: what the join made of the log."""
        return self.data.examples or str(self.examples_dir)

    @property
    def models_dir(self) -> Path:
        """The base path of the model, which the model server polls: a directory for each published version."""
        return self.run / "models" / self.serving.model_name

    def digest(self) -> str:
        """SHA-256 of the settings, in hexadecimal. Equal settings have equal digests, however they were written."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()

    def to_toml(self) -> str:
        """Every setting as TOML, from which `load_config` makes an equal `Config`. TOML has no null: None is left out."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


def load_config(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Load the configuration. The overrides win over the file, the file over the reward preset, and the preset over the defaults.

    Args:
        path: a TOML file, or None. Paths inside it are relative to the working directory.
        overrides: words such as `training.batch_size=64`, in order. A value is read as TOML or, if it is none (`run=runs/a`), as
            a string. `reward.weights.click=2` changes one entry of a table, and `reward.weights={click=2}` the whole table.

    Raises:
        ConfigError: the file cannot be read, or a key or value in it or in `overrides` is wrong.
    """
    given = {} if path is None else config_file.read_toml(Path(path))
    config = config_file.checked(Config, config_file.over_preset(given), where=str(path))
    chosen = [word for word in overrides if word.partition("=")[0].strip() == "reward.preset"]
    if chosen:  # a preset is beneath the file, also when an override names it
        config = config_file.checked(Config, config_file.over_preset(config_file.overridden(given, chosen)), where="--set")
    rest = [word for word in overrides if word not in chosen]
    if rest:
        table = config_file.overridden(config.model_dump(mode="json", exclude_none=True), rest)
        config = config_file.checked(Config, config_file.over_preset(table), where="--set")
    return config
