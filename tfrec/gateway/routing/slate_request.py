"""A request for a slate as the router takes it, and the slate that answers it."""
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tfrec.data.records import AppliedRules, Boost
from tfrec.gateway.arms.assigned import UNASSIGNED, Assigned
from tfrec.gateway.past_events import PastEvent
from tfrec.models.popularity_prior import Override


@dataclass(frozen=True)
class SlateRequest:
    """What one user asks for, with everything that the gateway knows about it."""

    user: str  # pseudonym
    time: int  # seconds since 1970
    query: str
    k: int  # number of items
    history: Sequence[PastEvent]  # oldest first
    exclude: Sequence[str]
    allow_tags: Sequence[str]
    deny_tags: Sequence[str]
    label: str  # the version label that the caller named; "" if none
    explore: bool
    seed: int  # of a slate that is drawn at random
    features: Mapping[str, str] | None = None  # what is known of person and moment, by name; None: nothing is declared
    bounds: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)  # of numbers, the least and the most
    diversity: float = 0.0
    caps: Mapping[str, int] = field(default_factory=dict)  # by prefix of tags
    head_weights: Mapping[str, float] | None = None  # of the second stage; None: as configured
    assigned: Assigned = UNASSIGNED  # arms of experiments; what they change is in `explore`, `diversity` and `head_weights`
    ruled: "Ruled | None" = None  # what rules made of the request; None: none holds

    @property
    def sent(self) -> "SlateRequest":
        """The request without the rules, as its caller sent it."""
        return self if self.ruled is None else self.ruled.own

    @property
    def boosts(self) -> Sequence[Boost]:
        """What rules add to scores."""
        return () if self.ruled is None else self.ruled.applied.boosts

    @property
    def unboosted(self) -> "SlateRequest":
        """The request for a version that takes no boosts."""
        if self.ruled is None:
            return self
        return replace(self, ruled=replace(self.ruled, applied=self.ruled.applied.model_copy(update={"boosts": ()})))

    @property
    def without_model(self) -> "SlateRequest | None":
        """The request with ids in place of what rules say of tags and numbers; None where it is not known which they are."""
        if self.ruled is None:
            return self
        if self.ruled.hidden is None:
            return None
        hidden = {item for some in self.ruled.hidden for item in some}
        return replace(self, allow_tags=self.sent.allow_tags, deny_tags=self.sent.deny_tags, bounds=self.sent.bounds,
                       exclude=[*self.exclude, *hidden])

    @property
    def is_reranked(self) -> bool:
        """Whether the best items alone are no answer."""
        return self.diversity > 0 or bool(self.caps)


@dataclass(frozen=True)
class Ruled:
    """What rules made of a request."""

    own: SlateRequest  # as it was sent
    applied: AppliedRules  # for the log
    pins: Mapping[int, str]  # items by position
    hidden: Sequence[Collection[str]] | None  # ids of all that rules exclude; None: not known


@dataclass(frozen=True)
class SlateAnswer:
    """The items that are shown, best first, and where they come from."""

    items: Sequence[str]
    scores: Sequence[float]
    version: int  # 0: no model answered
    label: str
    policy: str
    log_propensities: Sequence[float | None]  # None: unknown
    fallback: str | None = None  # why another answer than the configured one is given
    live: Override | None = None  # the live popularity that was sent, where propensities depend on it
    teams: str = ""  # `0` or `1` for each item: which of two rankings it is credited to
    shadows: Mapping[str, Sequence[str]] = field(default_factory=dict)  # by experiment, what was asked as well and is not shown
    is_boosted: bool = True  # False: what answered takes no boosts
