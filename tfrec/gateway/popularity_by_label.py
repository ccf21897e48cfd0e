"""The live popularity of each version that the gateway answers with: that of the stable label, and that of the canary."""
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from tfrec.config import GatewayConfig
from tfrec.data.feedback_log.writer import ErasedAmong
from tfrec.gateway.first_seen import FirstSeen
from tfrec.gateway.live_popularity import LivePopularity
from tfrec.gateway.metrics import Metrics
from tfrec.gateway.rolling_prior import Choice
from tfrec.models.popularity_prior import Override


class PopularityByLabel:
    """One `LivePopularity` per configured label; all count the same choices. Safe to share between threads.

    Args:
        config: the labels, and how many users must choose an item before its popularity moves.
        metrics: shows what is damped.
        version_dir: the directory of a version; None asks for the version that will answer when none has answered yet.
        limit: items whose popularity is sent with every request; 200 take about 4 kB.
    """

    def __init__(
        self, config: GatewayConfig, *, metrics: Metrics, version_dir: Callable[[int | None], Path | None], limit: int = 200
    ) -> None:
        self._version_dir = version_dir
        self._versions: dict[str, int] = {}  # that answered last, by label
        self._first_seen = FirstSeen()
        labels = {config.stable_label, config.canary_label} if config.canary_share else {config.stable_label}
        self._by_label = {
            label: LivePopularity(partial(self._dir_of, label), limit=limit, users=config.live_users, first_seen=self._first_seen)
            for label in labels
        }
        self.stable = self._by_label[config.stable_label]
        metrics.damped.labels("few").set_function(lambda: self.stable.damped().few)
        metrics.damped.labels("newcomers").set_function(lambda: self.stable.damped().newcomers)

    def meet(self, users: Collection[str], since: Collection[int]) -> None:
        """Know `users` since the seconds in `since`; whoever came lately is a newcomer."""
        self._first_seen.fill(users, since)

    def know(self, known: pa.Table) -> None:
        """Know users (column `user`) since a second (column `time`), from before there was a log."""
        self._first_seen.know(known)

    def fill(self, first: pa.Table, known: pa.Table, *, now: int) -> None:
        """Take what the log has, before anything else comes in.

        Args:
            first: what users chose (`first_positives`), the newest `remembered`.
            known: since when users are known (`first_seen`).
            now: seconds since 1970.
        """
        self._first_seen.know(known)
        users, items = (_strings(first[name]) for name in ("user", "item"))
        time = np.minimum(first["time"].to_numpy(), now)
        newcomer = self._first_seen.newcomers(first["user"].cast(pa.string()).combine_chunks(), time, now=now)
        choices = list(map(Choice, users, items, time.tolist(), newcomer.tolist()))
        for live in self._by_label.values():
            live.fill(choices)

    def erase(self, erased_among: ErasedAmong) -> None:
        """Forget users who were erased."""
        self._first_seen.erase(erased_among)
        for live in self._by_label.values():
            live.erase(erased_among)

    def load(self, now: float) -> None:
        """Read the versions that will answer, or the first caller would wait for it."""
        for live in self._by_label.values():
            live.override(now)

    def observe(self, users: Collection[str], items: Collection[str], times: Collection[int]) -> None:
        """Count the items that users chose, and the seconds at which they did."""
        for live in self._by_label.values():
            live.observe(users, items, times)

    def answered(self, label: str, version: int) -> None:
        """Note which version answered for a label: its counts are the ones that live popularity continues."""
        self._versions[label] = version

    def override(self, label: str, now: float) -> Override | None:
        """The log p that takes the place of the exported one; None for a label that the gateway is not configured with."""
        live = self._by_label.get(label)
        return None if live is None else live.override(now)

    def _dir_of(self, label: str) -> Path | None:
        return self._version_dir(self._versions.get(label))


def _strings(column: pa.ChunkedArray) -> list[str]:
    """The strings of a coded column, of which equal ones are one object."""
    coded = column.cast(pa.string()).combine_chunks().dictionary_encode()
    names = coded.dictionary.to_pylist()
    return [names[code] for code in coded.indices.to_pylist()]
