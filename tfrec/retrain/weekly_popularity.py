"""7-day popularity, the baseline of the gate, over all users: a retrain reads the behaviour of some of them only.

Counts by the hour of what earlier runs have seen stand beside the events of the window.
"""
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.config import Config
from tfrec.data.items.positions import positions
from tfrec.data.settled.examples import SettledExamples
from tfrec.evaluation.baselines import WEEK, RollingPopularity
from tfrec.evaluation.protocol import Ints, Scorer
from tfrec.retrain.window import WindowContents

HOUR = 3600


def weekly_popularity(config: Config, window: WindowContents, *, counted: int, since: int) -> Scorer:
    """A scorer by the events of each item in the seven days before.

    Args:
        config: names the settled examples.
        window: what the run read.
        counted: the last part of the examples whose events are not among the `arrived` ones of the window.
        since: seconds since 1970 of the first event that is asked.
    """
    inter, first = window.inter, since - WEEK
    counts = RollingPopularity(len(inter.items), window=WEEK)
    counts.update(inter.item[window.arrived], inter.time[window.arrived])
    past = SettledExamples(config.examples_uri).item_counts(since=first, upto=counted, period=HOUR)
    _update(counts, window, past["item"], past["period"].to_numpy() * HOUR + HOUR - 1, past["count"].to_numpy())
    if window.base is not None:
        recent = window.base.filter(pc.and_(pc.greater(window.base["reward"], 0), pc.greater_equal(window.base["time"], first)))
        _update(counts, window, recent["item"], recent["time"].to_numpy(), np.ones(len(recent), np.int64))

    def scores(events: Ints) -> np.ndarray:
        return np.stack([counts.scores(int(now)) for now in inter.time[events]])

    return scores


def _update(counts: RollingPopularity, window: WindowContents, names: pa.ChunkedArray, times: np.ndarray,
            each: np.ndarray) -> None:
    """Add `each` events of the items `names`, those of the catalogue."""
    position = positions(names, window.inter.items)
    known = position >= 0
    counts.update(np.repeat(position[known], each[known]), np.repeat(times[known], each[known]))
