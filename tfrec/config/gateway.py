"""The settings of the gateway."""
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from tfrec.config.section import Section, Since, ascending
from tfrec.config.tls import ClientTls


class Exploring(Since):
    """The share of exploration from a moment on."""

    epsilon: float = Field(ge=0, le=1)


class GatewayConfig(Section):
    """The HTTP gateway, and how it explores."""

    keys: Path | None = None  # Who may call. A line is: name roles sha256-of-the-key [requests a second]. None: everyone.
    rules: Path | None = None  # Which items are pinned or not shown, when and for whom: TOML, read again when it changes.
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
    tls: ClientTls = ClientTls()  # How it asks the model server.

    _in_order = field_validator("epsilon_changes")(ascending)

    def epsilon_at(self, time: int) -> float:
        """Epsilon at a time in seconds since 1970. It may fall in steps, as there is less to find out."""
        changed = [change.epsilon for change in self.epsilon_changes if change.since.timestamp() <= time]
        return changed[-1] if changed else self.epsilon

    @property
    def exploring(self) -> str:
        """The name of the model's signature that explores by `policy`."""
        return {"plackett_luce": "explore"}.get(self.policy, self.policy)
