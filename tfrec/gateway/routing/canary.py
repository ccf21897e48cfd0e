"""Decides whether the stable version, the canary or the version of an experiment's arm answers a user.

A user's pseudonym is a keyed hash: its values are evenly spread and no caller can choose one. The canary answers the users
whose first 32 bits, read as a fraction of 2^32, are below `gateway.canary_share`. So a user always gets the same version.
"""
import time
from collections.abc import Callable
from typing import NamedTuple

from tfrec.config import GatewayConfig
from tfrec.gateway.arms.assigned import Drawing
from tfrec.gateway.routing.slate_request import SlateRequest


class Route(NamedTuple):
    """Which version is asked, and whether it explores."""

    label: str  # "": the newest version
    explore: bool
    drawing: Drawing = Drawing()  # how it explores
    is_named: bool = False  # the caller named the label
    fallback: str | None = None  # why this is not the configured version
    fallback_to: str = ""  # what this version stands in as: "stable" or "newest"


class Canary:
    """The split of the users between the stable and the canary label.

    Args:
        config: the labels and the canary's share.
        retry_seconds: how long a canary that was not served is left alone.
        clock: monotonic seconds.
    """

    def __init__(self, config: GatewayConfig, *, retry_seconds: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._retry_seconds = retry_seconds
        self._clock = clock
        self._missing_until: dict[str, float] = {}

    def route(self, request: SlateRequest) -> Route:
        """The version that answers a request: the one that the caller names, else the one that the user belongs to."""
        how = Route(request.label, request.explore, request.assigned.drawing)
        if request.label:
            return how._replace(is_named=True)
        of_arm = request.assigned.label
        label = self._config.stable_label if of_arm is None and not self._has(request.user) else (
            self._config.canary_label if of_arm is None else of_arm)
        if label != self._config.stable_label and self._clock() < self._missing_until.get(label, 0.0):
            return stable_instead(self._config, how, not_served(label))
        return how._replace(label=label)

    def set_missing(self, label: str) -> None:
        """Route everyone to the stable version for a while, because no version has this label."""
        self._missing_until[label] = self._clock() + self._retry_seconds

    def _has(self, user: str) -> bool:
        return int(user[:8], 16) < self._config.canary_share * 2**32


def stable_instead(config: GatewayConfig, route: Route, why: str) -> Route:
    """The stable version in place of another one."""
    return route._replace(label=config.stable_label, fallback=why, fallback_to="stable")


def not_served(label: str) -> str:
    """The reason that an answer gives when no version has `label`."""
    return f"{label} is not served"
