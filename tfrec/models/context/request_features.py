"""Turns what is known of person and moment into numbers, by the one function that training and the served graph share.

Each feature has a table of vectors (`context_tower.py`), and its value becomes a position in that table:

    hour, weekday    its number
    a category       a hash of the text, so that no list of values has to be kept and a new value needs no new model
    a number         a place between quantiles of the numbers that were met first; far ones are clipped

NaN stands for what is not known: it adds nothing to the query vector. So does a value that training never met, as vectors begin
at zero.
"""
import logging
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrec.config import FeaturesConfig
from tfrec.config.features import NUMBER, UNKNOWN_TIME, is_number

log = logging.getLogger(__name__)

KNOTS = 16  # quantiles of a number
FEWEST = 20  # numbers from which quantiles are taken

_ROWS = {"hour": 24, "weekday": 7}
_HOUR, _DAY, _FIRST_WEEKDAY = 3600, 86_400, 3  # 1970 began with a Thursday
_UNKNOWN = float("nan")


class RequestFeatures:
    """The features of a configuration.

    Args:
        config: declares them.
        knots: of each number whose values have been met, ascending.

    Attributes:
        config: as given.
        knots: as given.
        rows: of the table of each feature, in the order of the columns.
    """

    def __init__(self, config: FeaturesConfig, knots: Mapping[str, Sequence[float]] | None = None) -> None:
        self.config = config
        self.knots = {name: [float(knot) for knot in found] for name, found in (knots or {}).items()}
        rows = {"category": config.buckets, "number": KNOTS}
        self.rows = [*(_ROWS[name] for name in config.time), *(rows[kind] for kind in config.named.values())]

    @property
    def width(self) -> int:
        """The number of features."""
        return len(self.rows)

    def met(self, values: Iterable[Mapping[str, str]]) -> "RequestFeatures":
        """These features, with quantiles of each number that has none yet and of which `values` have enough."""
        numbers: dict[str, list[float]] = {name: [] for name, kind in self.config.named.items()
                                           if kind == "number" and name not in self.knots}
        if not numbers:
            return self
        for row in values:
            for name, found in numbers.items():
                if name in row and is_number(row[name]):
                    found.append(float(row[name]))
        fitted = {name: np.unique(np.quantile(np.array(found, np.float32), np.linspace(0, 1, KNOTS))).tolist()
                  for name, found in numbers.items() if len(found) >= FEWEST}
        return RequestFeatures(self.config, self.knots | fitted)

    def positions(self, time: tf.Tensor, names: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        """Positions in the tables `[batch, width]`, float32; NaN where a feature is not known.

        Args:
            time: `[batch]`, int64 seconds since 1970; negative for unknown.
            names: `[batch, n]`, of features. Others than the declared are not read; of one that is there twice the last counts.
            values: `[batch, n]`, as text. An empty one is not known.

        Raises:
            tf.errors.InvalidArgumentError: a number is none.
        """
        # one column without a name in front, so that there is one
        names, values = (tf.pad(part, [[0, 0], [1, 0]]) for part in (names, values))
        columns = [self._moment(name, time) for name in self.config.time]
        for name, kind in self.config.named.items():
            last = tf.reduce_max(tf.where(names == name, tf.range(tf.shape(names)[1]), 0), axis=1)
            text = tf.gather(values, last, axis=1, batch_dims=1)
            text = tf.where(text == "", self.config.defaults.get(name, ""), text)
            columns.append(self._category(text) if kind == "category" else self._number(name, text))
        return tf.stack(columns, axis=1) if columns else tf.zeros([tf.shape(time)[0], 0])

    def of(self, values: Sequence[Mapping[str, str]], time: npt.ArrayLike | None = None) -> npt.NDArray[np.float32]:
        """`positions` of rows of known values: `[len(values), width]`. A number that is none counts as not known."""
        kinds, rows = self.config.named, self.readable(values)
        shape = [len(rows), len(kinds)]
        texts = tf.constant([row.get(name, "") for row in rows for name in kinds], tf.string, shape)
        names = tf.broadcast_to(tf.constant(list(kinds), tf.string, shape[1:]), shape)
        known = np.full(len(rows), UNKNOWN_TIME) if time is None else np.asarray(time)
        found: npt.NDArray[np.float32] = self.positions(tf.constant(known, tf.int64), names, texts).numpy()
        return found

    def readable(self, values: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
        """Of each row the features that are declared, without numbers that are none."""
        kinds = self.config.named
        return [{name: row[name] for name, kind in kinds.items() if name in row and (kind == "category" or is_number(row[name]))}
                for row in values]

    def _moment(self, name: str, time: tf.Tensor) -> tf.Tensor:
        local = time + round(self.config.utc_offset_hours * _HOUR)
        number = local // _HOUR % 24 if name == "hour" else (local // _DAY + _FIRST_WEEKDAY) % 7
        return tf.where(time < 0, _UNKNOWN, tf.cast(number, tf.float32))

    def _category(self, text: tf.Tensor) -> tf.Tensor:
        number = tf.strings.to_hash_bucket_fast(text, self.config.buckets)
        return tf.where(text == "", _UNKNOWN, tf.cast(number, tf.float32))

    def _number(self, name: str, text: tf.Tensor) -> tf.Tensor:
        right = (text == "") | tf.strings.regex_full_match(text, NUMBER)
        tf.debugging.Assert(tf.reduce_all(right), [f"context_value: the feature {name} must be a number, got",
                                                   tf.boolean_mask(text, ~right)])
        known = text != ""
        # the assertion names the feature, and may run after this
        number = tf.strings.to_number(tf.where(known & right, tf.strings.strip(text), "0"))
        if name not in self.knots:
            return tf.fill(tf.shape(number), _UNKNOWN)
        knots = tf.constant(self.knots[name], tf.float32)
        share = (number[:, None] - knots[:-1]) / (knots[1:] - knots[:-1])
        return tf.where(known, tf.reduce_sum(tf.clip_by_value(share, 0.0, 1.0), axis=1), _UNKNOWN)


def warn_of_features(config: FeaturesConfig, values: Sequence[Mapping[str, str]], *, where: str) -> None:
    """Say in how many rows each declared feature is known; warn of those that are in none, or are no numbers where declared."""
    if not values or not config.named:
        return
    known = {name: sum(name in row for row in values) for name in config.named}
    shares = ", ".join(f"{name} {count / len(values):.0%}" for name, count in known.items())
    log.info("%s: features are known in %s", where, shares)
    for name, kind in config.named.items():
        wrong = sum(name in row and not is_number(row[name]) for row in values) if kind == "number" else 0
        if not known[name]:
            log.warning("%s: none of %d rows has %r, which [features] declares: nothing is learnt of it", where, len(values),
                        name)
        elif wrong:
            log.warning("%s: %r is declared as a number, and in %d of %d rows it is none: it counts as not known there", where,
                        name, wrong, known[name])
    if others := sorted({name for row in values for name in row} - {*config.named}):
        log.info("%s: %s %s not declared in [features], and no model reads %s", where, ", ".join(map(repr, others[:5])),
                 *(("is", "it") if len(others) == 1 else ("are", "them")))
