"""Decides whether the stable version or the canary answers a user.

A user's pseudonym is a keyed hash: its values are evenly spread and no caller can choose one. The canary answers the users
whose first 32 bits, read as a fraction of 2^32, are below `gateway.canary_share`. So a user always gets the same version.
"""
import time
from collections.abc import Callable
from typing import NamedTuple

from tfrec.config import GatewayConfig
from tfrec.gateway.routing.slate_request import SlateRequest


class Route(NamedTuple):
    """Which version is asked, and whether it explores."""

    label: str  # "": the newest version
    explore: bool
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
        self._missing_until = 0.0

    def route(self, request: SlateRequest) -> Route:
        """The version that answers a request: the one that the caller names, else the one that the user belongs to."""
        if request.label:
            return Route(request.label, request.explore, is_named=True)
        if not self._has(request.user):
            return Route(self._config.stable_label, request.explore)
        if self._clock() < self._missing_until:
            return stable_for_canary(self._config, request.explore, not_served(self._config.canary_label))
        return Route(self._config.canary_label, request.explore)

    def set_missing(self) -> None:
        """Route everyone to the stable version for a while, because no version has the canary's label."""
        self._missing_until = self._clock() + self._retry_seconds

    def _has(self, user: str) -> bool:
        return int(user[:8], 16) < self._config.canary_share * 2**32


def stable_for_canary(config: GatewayConfig, explore: bool, why: str) -> Route:
    """The stable version in place of the canary."""
    return Route(config.stable_label, explore, fallback=why, fallback_to="stable")


def not_served(label: str) -> str:
    """The reason that an answer gives when no version has `label`."""
    return f"{label} is not served"
