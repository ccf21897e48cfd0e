"""The gateway's metrics for Prometheus. No label holds what a caller wrote, so their values are few: rules are the operator's."""
from collections.abc import Callable
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector, generate_latest

# seconds; finest where most answers are
_BUCKETS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """The metrics of one gateway."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter, gauge = partial(Counter, registry=self.registry), partial(Gauge, registry=self.registry)
        seconds = partial(Histogram, buckets=_BUCKETS, registry=self.registry)
        self.requests = counter("tfrec_gateway_requests", "Calls that were answered.", ["path", "status"])
        self.seconds = seconds("tfrec_gateway_request_seconds", "Seconds from the first line of a call to its answer.", ["path"])
        self.shed = counter("tfrec_gateway_shed", "Calls refused with 429: the queue was full (full), the wait too long (late), "
                            "or a key exceeded its rate (rate).", ["reason"])
        self.in_flight = gauge("tfrec_gateway_in_flight", "Calls in progress.", ["role"])
        self.queued = gauge("tfrec_gateway_queued", "Calls that wait.", ["role"])
        self.answers = counter("tfrec_gateway_answers", "Slates that were answered.", ["label", "model_version", "policy"])
        self.fallbacks = counter("tfrec_gateway_fallbacks", "Answers by a fallback: the stable version for the canary (stable), "
                                 "the newest version for the stable one (newest), or no model: the words of the query (words), "
                                 "or popularity (popularity).", ["to"])
        self.empty = counter("tfrec_gateway_empty_answers", "Slates without items.", ["label", "model_version"])
        self.rules_applied = counter("tfrec_gateway_rules_applied", "Requests that a rule of gateway.rules held for.", ["rule"])
        self.rules_skipped = counter(
            "tfrec_gateway_rules_skipped",
            "Rules that could not hold for a request: an item is not in the catalogue (unknown), not available (unavailable), "
            "left out by the request or a rule (excluded, filtered), or another pin has its position or the item (taken); or the "
            "catalogue has no such column (column).", ["rule", "reason"])
        self.unboosted = counter("tfrec_gateway_rules_unboosted", "Answers without boosts: an older version takes none.")
        self.rules_problem = gauge("tfrec_gateway_rules_problem", "1 while the file of rules is wrong, and those of before hold.")
        self.review_waiting = gauge("tfrec_gateway_review_waiting", "Flagged items that wait for a review.")
        self.review_hidden = gauge("tfrec_gateway_review_hidden", "Items that are not shown, as they wait or were rejected.")
        self.review_problem = gauge("tfrec_gateway_review_problem", "1 while the record of reviews is damaged or gone: what was "
                                    "hidden before stays so.")
        self.connections = gauge("tfrec_gateway_connections", "Open connections.")
        self.connections_closed = counter(
            "tfrec_gateway_connections_closed",
            "Connections closed because of their client: a request was too slow (slow), too large (large) or not HTTP (bad), an "
            "answer was not read (unread), another connection needed the place (crowded), or none was free (full).", ["reason"])
        self.model_seconds = seconds("tfrec_gateway_model_seconds", "Seconds of calls of the model server that were answered.")
        self.model_errors = counter("tfrec_gateway_model_errors", "Failed calls of the model server, by gRPC status.", ["code"])
        self.outcomes = counter("tfrec_gateway_outcomes", "Outcomes that were recorded.")
        self.repeats = counter("tfrec_gateway_repeats", "Outcomes that had been recorded before.")
        self.log_set_aside = gauge("tfrec_gateway_log_set_aside", "Records in quarantine: no table can hold them, or the disk "
                                   "damaged them.")
        self.damped = gauge("tfrec_gateway_outcomes_damped", "Choices that do not move popularity: too few users chose the item "
                            "(few), or newcomers did and few others agree (newcomers).", ["reason"])
        self.unknown_past = gauge("tfrec_gateway_unknown_past", "1 if the log could not be read at the start, so that the past "
                                  "is unknown.")
        self.peers_gone = gauge("tfrec_gateway_peers_gone", "1 while other gateways of the run are not heard, because Redis does "
                                "not answer.")
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def log_behind(self, count: Callable[[], int]) -> None:
        """Show the number of records that `count` finds in the write-ahead file only."""
        name, help_text = "tfrec_gateway_log_behind", "Records in the write-ahead file that are not in the log yet."
        Gauge(name, help_text, registry=self.registry).set_function(count)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
