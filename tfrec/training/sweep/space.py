"""The search space: which settings a sweep varies, and between which values. A wrong one is refused before anything starts.

It is written in one way everywhere: `1e-4..1e-2` is every value between the two, and a list is each of its values. A range whose
ends are a factor of ten or more apart is searched by the logarithm, as rates and sizes are.
"""
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfrec import config_file
from tfrec.config import Config
from tfrec.errors import ConfigError
from tfrec.nearest import nearest

Scalar = bool | int | float | str
SECTIONS = ("model", "training")
DIGITS = 3  # of a value from a range of real numbers: more make no difference, and would be pasted into a configuration
DECADE = 10
# settings of these sections that a sweep leaves alone, with the reason
FIXED = {
    "training.epochs": "each trial chooses its number of epochs",
    "training.patience": "it says when a trial ends",
    "training.validation_share": "scores of other events could not be compared",
    "training.device": "it is of the machine",
    "training.jit_compile": "it is of the machine",
    "training.seed": "the best seed of many is luck",
}


@dataclass(frozen=True)
class Span:
    """Every number between two ends, which belong to it."""

    low: float
    high: float
    whole: bool = False  # integers only

    @property
    def by_logarithm(self) -> bool:
        """Whether values are drawn evenly by their logarithm."""
        return self.low > 0 and self.high / self.low >= DECADE

    @property
    def ends(self) -> tuple[Scalar, ...]:
        """The values that are checked for all that lie between them."""
        return self.low, self.high

    def has(self, value: Any) -> bool:
        """Whether the value is one of them."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    def with_value(self, value: Any) -> "Span":
        """The shortest span of these values and this one."""
        return Span(min(self.low, value), max(self.high, value), self.whole)

    def rounded(self, value: float) -> Scalar:
        """A drawn value as it is tried."""
        return int(value) if self.whole else min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)


@dataclass(frozen=True)
class Choices:
    """Each of some values."""

    values: tuple[Scalar, ...]

    @property
    def ends(self) -> tuple[Scalar, ...]:
        """The values that are checked: all of them."""
        return self.values

    def has(self, value: Any) -> bool:
        """Whether the value is one of them."""
        return value in self.values

    def with_value(self, value: Any) -> "Choices":
        """These values and this one."""
        return self if value in self.values else Choices(tuple(sorted((*self.values, value))))

    def rounded(self, value: Scalar) -> Scalar:
        """A drawn value as it is tried."""
        return value


Space = dict[str, Span | Choices]

# what is searched if nobody says otherwise. The present value of a setting is always part of it.
DEFAULT: Space = {
    "model.dim": Choices((32, 64, 128)),
    "model.layers": Choices((0, 1, 2)),
    "model.history": Choices((10, 25, 50)),
    "model.dropout": Span(0.0, 0.5),
    "model.id_dropout": Span(0.1, 0.9),
    "model.temperature": Span(0.03, 0.3),
    "training.batch_size": Choices((32, 64, 128)),
    "training.learning_rate": Span(5e-4, 2e-2),
    "training.weight_decay": Span(1e-3, 0.5),
}


def search_space(config: Config, words: Sequence[str] = ()) -> Space:
    """The space that `words` describe, or else `sweep.vary`, or else `DEFAULT` with the present settings in it.

    Args:
        config: the settings that the varied ones are among.
        words: `SETTING=LOW..HIGH` or `SETTING=VALUE,VALUE`, such as `training.learning_rate=1e-4..1e-2`.

    Raises:
        ConfigError: a setting does not exist or is not varied, or a value is wrong.
    """
    given = dict(_read_word(word) for word in words) or dict(_of_config(config))
    if len(words) > len(given):
        raise ConfigError(f"--vary names a setting twice: {', '.join(words)}. Write all its values in one.")
    where = "--vary" if words else "sweep.vary"
    space = {name: _checked(config, name, value, where) for name, value in given.items()}
    space = space or {name: values.with_value(present(config, name)) for name, values in DEFAULT.items()}
    _check_heads(config, space, where)
    return space


def present(config: Config, name: str) -> Any:
    """The value that a setting has now."""
    section, _, last = name.partition(".")
    return getattr(getattr(config, section), last)


def settled(config: Config, values: Mapping[str, Scalar], *, where: str = "sweep") -> Config:
    """The configuration with these values. Raises `ConfigError`, which begins with `where`, if one is wrong."""
    table: dict[str, Any] = config.model_dump(mode="json", exclude_none=True)
    for name, value in values.items():
        section, _, last = name.partition(".")
        table[section][last] = value
    return config_file.checked(Config, table, where=where)


def _of_config(config: Config) -> Iterator[tuple[str, Any]]:
    for section, settings in config.sweep.vary.items():
        for name, value in settings.items():
            yield f"{section}.{name}", list(value) if isinstance(value, tuple) else value


def _read_word(word: str) -> tuple[str, Any]:
    name, equals, text = (part.strip() for part in word.partition("="))
    if not equals or not name or not text:
        raise ConfigError("--vary expects SETTING=LOW..HIGH or SETTING=VALUE,VALUE, such as training.learning_rate=1e-4..1e-2, "
                          f"got {word!r}.")
    if ".." in text:
        return name, text
    try:
        return name, tomllib.loads(f"values = [{text}]")["values"]
    except tomllib.TOMLDecodeError:
        return name, [part.strip() for part in text.split(",")]


def _checked(config: Config, name: str, value: Any, where: str) -> Span | Choices:
    known = [f"{section}.{last}" for section in SECTIONS for last in type(getattr(config, section)).model_fields]
    if name in FIXED:
        raise ConfigError(f"{where}: {name} is not varied: {FIXED[name]}.")
    if name not in known:
        known = [one for one in known if one not in FIXED]
        raise ConfigError(f"{where}: {name!r} is no setting that a sweep can vary{nearest(name, known)}. "
                          f"These are: {', '.join(known)}.")
    values = _span(config, name, value, where) if isinstance(value, str) else Choices(tuple(value))
    if len(set(values.ends)) != len(values.ends) or len(values.ends) < 2:
        raise ConfigError(f"{where}: {name} needs at least two different values, got {_written(values.ends)}. To set a single "
                          f"value, use --set {name}=...")
    for end in values.ends:
        settled(config, {name: end}, where=where)
    return values


def _span(config: Config, name: str, text: str, where: str) -> Span:
    expected = f"{where}: {name} expects a range such as 0.1..0.5 or a list such as [1, 2], got {text!r}"
    section, _, last = name.partition(".")
    kind = type(getattr(config, section)).model_fields[last].annotation
    if kind not in (int, float):
        raise ConfigError(f"{expected}. It is no number: write the list of its values.")
    low, _, high = text.partition("..")
    try:
        ends = float(low), float(high)
    except ValueError as error:
        raise ConfigError(f"{expected}.") from error
    if not all(map(math.isfinite, ends)) or ends[0] > ends[1]:
        raise ConfigError(f"{expected}. The first number must be the lower one, and both must be finite.")
    if kind is float:
        return Span(*ends)
    if any(end % 1 for end in ends):
        raise ConfigError(f"{expected}. Both must be whole numbers.")
    return Span(int(ends[0]), int(ends[1]), whole=True)


def _check_heads(config: Config, space: Space, where: str) -> None:
    """Attention divides the vectors among its heads, so each `model.dim` must be a multiple of each `model.heads`."""
    dims, heads = (space.get(name, Choices((present(config, name),))) for name in ("model.dim", "model.heads"))
    if not {"model.dim", "model.heads"} & space.keys() or heads.ends == (1,):
        return
    if isinstance(dims, Span) or isinstance(heads, Span):
        raise ConfigError(f"{where}: write model.dim and model.heads as lists, such as [32, 64]: each dim must be a multiple of "
                          "each number of heads.")
    for dim in dims.values:
        for count in heads.values:
            if int(dim) % int(count):
                raise ConfigError(f"{where}: model.dim = {dim} is no multiple of model.heads = {count}. Leave one of them out.")


def _written(values: Sequence[Scalar]) -> str:
    return ", ".join(str(value) for value in values) or "none"
