"""What the gateway counts, for Prometheus. No label holds what a caller or a user wrote: their values are few and known here."""
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector, generate_latest

# seconds; finest where the answers are
_BUCKETS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """The metrics of one gateway."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("tfrec_gateway_requests", "Calls that were answered.", ["path", "status"], registry=self.registry)
        self.seconds = Histogram(
            "tfrec_gateway_request_seconds", "From a call's first line to its answer.", ["path"], buckets=_BUCKETS,
            registry=self.registry,
        )
        self.shed = Counter(
            "tfrec_gateway_shed", "Calls that were told 429: too many wait (full), waited too long (late), a key's rate (rate).",
            ["reason"], registry=self.registry,
        )
        self.in_flight = Gauge("tfrec_gateway_in_flight", "Calls that are worked on now.", ["role"], registry=self.registry)
        self.queued = Gauge("tfrec_gateway_queued", "Calls that wait to be worked on.", ["role"], registry=self.registry)
        self.answers = Counter(
            "tfrec_gateway_answers", "Slates that were answered.", ["label", "model_version", "policy"], registry=self.registry
        )
        self.fallbacks = Counter(
            "tfrec_gateway_fallbacks",
            "Answers that are not what they should be: of stable for canary, of newest for stable, greedy, of popularity.",
            ["to"], registry=self.registry,
        )
        self.empty = Counter("tfrec_gateway_empty_answers", "Slates without an item.", ["label", "model_version"],
                             registry=self.registry)
        self.connections = Gauge("tfrec_gateway_connections", "Connections that are open.", registry=self.registry)
        self.connections_closed = Counter(
            "tfrec_gateway_connections_closed",
            "Connections that were closed: a request came too slowly (slow), was too large (large) or none (bad), an answer was "
            "not read (unread), one that waited made room for another (crowded), there was no room (full).",
            ["reason"], registry=self.registry,
        )
        self.model_seconds = Histogram(
            "tfrec_gateway_model_seconds", "Of a call of the model server that was answered.", buckets=_BUCKETS,
            registry=self.registry,
        )
        self.model_errors = Counter(
            "tfrec_gateway_model_errors", "Calls of the model server that failed, by gRPC status.", ["code"],
            registry=self.registry,
        )
        self.outcomes = Counter("tfrec_gateway_outcomes", "Outcomes that were kept.", registry=self.registry)
        self.repeats = Counter("tfrec_gateway_repeats", "Outcomes that had been kept before.", registry=self.registry)
        self.log_set_aside = Gauge(
            "tfrec_gateway_log_set_aside", "Records that no table can hold, or that the disk damaged.", registry=self.registry
        )
        self.damped = Gauge(
            "tfrec_gateway_outcomes_damped",
            "Choices that do not move popularity: of items that too few people chose (few), or newcomers alone (newcomers).",
            ["reason"], registry=self.registry,
        )
        self.unknown_past = Gauge("tfrec_gateway_unknown_past", "1: the log could not be read at the start, and the past is not "
                                  "known.", registry=self.registry)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def log_behind(self, count: Callable[[], int]) -> None:
        """Show how many records `count` says are in the write-ahead file alone."""
        name, help_text = "tfrec_gateway_log_behind", "Records in the write-ahead file that are not yet in the log."
        Gauge(name, help_text, registry=self.registry).set_function(count)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)
