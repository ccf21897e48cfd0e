"""The configuration's table: read from a TOML file, changed by `--set` words, and checked.

Checking is strict: `"3"` is not a number and `"yes"` is not a boolean, because a misunderstood setting is noticed too late.
"""
import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tfrec.errors import ConfigError

M = TypeVar("M", bound=BaseModel)
Table = dict[str, Any]

_PRESETS = resources.files("tfrec") / "data" / "labels" / "presets"
# settings that were renamed: an error about the old name says the new one
_RENAMED = {
    "retrain.forgetting": "retrain.bandit_decay",
    "retrain.distance": "retrain.l2_sp",
    "gateway.in_work": "gateway.max_in_flight",
    "gateway.waiting": "gateway.max_queued",
    "gateway.wait_seconds": "gateway.queue_seconds",
    "gateway.model_seconds": "gateway.model_timeout_seconds",
}


def read_toml(path: Path) -> Table:
    """Read the table of a TOML file. Raises `ConfigError` when the file cannot be read or is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the configuration: {error.strerror}. Check --config.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 from byte {error.start} on. Save the file as UTF-8.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: expected TOML, got {error}. Strings need quotes: run = \"runs/a\".") from error


def presets() -> list[str]:
    """The names of the reward presets."""
    return sorted(file.name.removesuffix(".toml") for file in _PRESETS.iterdir() if file.name.endswith(".toml"))


def over_preset(table: Table) -> Table:
    """Fill the gaps of `table` with the settings of its `reward.preset`. An unknown preset is left to the checks."""
    reward = table.get("reward")
    if not isinstance(reward, dict) or reward.get("preset") not in presets():
        return table
    preset = tomllib.loads((_PRESETS / f"{reward['preset']}.toml").read_text(encoding="utf-8"))
    return table | {"reward": preset | reward}


def overridden(table: Table, words: Sequence[str]) -> Table:
    """A copy of `table`, changed by each `a.b=value` in `words`. Raises `ConfigError` for a word of another form."""
    result: Table = json.loads(json.dumps(table, default=str))
    for word in words:
        key, equals, text = word.partition("=")
        path = _key_path(key)
        if not equals or not path:
            raise ConfigError(f"--set expects section.key=value, such as training.batch_size=64, got {word!r}.")
        inner = result
        for name in path[:-1]:
            if not isinstance(inner.get(name), dict):
                inner[name] = {}
            inner = inner[name]
        inner[path[-1]] = _value(text)
    return result


def _key_path(key: str) -> list[str]:
    """`a.b` -> ["a", "b"]; TOML's quoted keys (`weights."add to cart"`) work as well. Empty if it is not a key."""
    try:
        inner: Any = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError:
        return []
    path = []
    while isinstance(inner, dict):
        if len(inner) != 1:  # a key with a line break in it
            return []
        name, inner = next(iter(inner.items()))
        path.append(name)
    return path


def _value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if len(parsed) == 1 else text


def checked(model: type[M], table: Table, *, where: str) -> M:
    """Check `table` and return it as `model`. Raises `ConfigError`, which names each wrong key (with the nearest) and value."""
    try:
        # by way of JSON: strict checking of Python values would refuse a string for a path and a list for a tuple
        return model.model_validate_json(json.dumps(table, default=str), strict=True)
    except ValidationError as error:
        problems = [line for details in error.errors() for line in _problems(details, model)]
    raise ConfigError("\n".join(f"{where}: {line}" for line in problems))


def _problems(details: ErrorDetails, model: type[BaseModel]) -> Iterator[str]:
    name, value = ".".join(str(part) for part in details["loc"]), details["input"]
    if details["type"] == "extra_forbidden":
        for key in _leaves({name: value}):
            new = _RENAMED.get(key)
            advice = _nearest(key, list(settings(model))) if new is None else f"It is called {new!r} now."
            yield f"there is no setting {key!r}. {advice}"
    elif details["type"] == "value_error":  # raised by a validator of the configuration, in its own words
        yield f"{name} {details['ctx']['error']}{'' if isinstance(value, (dict, list)) else f', got {json.dumps(value)}'}."
    else:
        expected = re.sub(r"^Input should be|^Input is not", "must be", details["msg"])
        yield f"{name} {expected}, got {json.dumps(value)} ({_kind(value)})."


def settings(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The dotted names of all settings of `model`, in the order of their declaration."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from settings(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


def _leaves(table: Mapping[str, Any]) -> Iterator[str]:
    for name, value in table.items():
        if isinstance(value, dict) and value:
            yield from (f"{name}.{leaf}" for leaf in _leaves(value))
        else:
            yield name


def _nearest(key: str, names: Sequence[str]) -> str:
    """The nearest setting, in words. The last name decides, and sections break ties: `trainin.epochs` means `training.epochs`."""

    def likeness(name: str) -> float:
        (section, last), (section_of, last_of) = _split(key), _split(name)
        return _ratio(last, last_of) + _ratio(section, section_of) / 10

    best = max(names, key=likeness)
    if likeness(best) < 0.6:
        beside = [name for name in names if name.startswith(f"{_split(key)[0]}.")]
        return f"Known are {', '.join(beside or dict.fromkeys(name.partition('.')[0] for name in names))}."
    # a bare `epochs` is in two sections, and only the person knows which one was meant
    meant = [best] if "." in key else [name for name in names if _split(name)[1] == _split(best)[1]]
    return f"Did you mean {' or '.join(map(repr, meant))}?"


def _split(key: str) -> tuple[str, str]:
    section, _, last = key.rpartition(".")
    return section, last


def _ratio(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a, b).ratio()


def _kind(value: Any) -> str:
    kinds = {bool: "a boolean", int: "an integer", float: "a number", str: "a string", list: "an array", dict: "a table"}
    return kinds.get(type(value), "nothing")
