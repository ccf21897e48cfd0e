"""The windows of time that monitors compare."""
from dataclasses import dataclass

from tfrec.config import MonitorsConfig


@dataclass(frozen=True)
class LookWindows:
    """LookWindows of one length, the newest last. They end before now, so that each had the same time for its outcomes to come.

    Attributes:
        end: Seconds since 1970, of the newest window.
        length: Seconds, of each.
        count: Of windows, the newest included.
        horizon: Seconds after an impression in which an outcome counts.
    """

    end: int
    length: int
    count: int
    horizon: int

    @classmethod
    def of(cls, config: MonitorsConfig, *, now: int) -> "LookWindows":
        """As configured, at a time in seconds since 1970."""
        horizon = int(config.horizon_minutes * 60)
        return cls(now - horizon, max(1, int(config.window_hours * 3600)), config.windows + 1, horizon)

    @property
    def start(self) -> int:
        """Seconds since 1970, of the oldest window."""
        return self.end - self.count * self.length
