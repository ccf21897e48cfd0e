"""What answers when the version that should answer does not.

    The canary fails, or no version has its label     the stable version answers
    No version has the stable label                   the newest version answers; so it is between two steps of a promotion
    The model server is down, or serves no version    the most popular items answer, where no tag, bound or cap is named

When the caller names a label, no other version answers for it.
"""
from tfrec.client.request_errors import LabelNotServed, RequestFailed
from tfrec.config import GatewayConfig
from tfrec.gateway.live_popularity import LivePopularity
from tfrec.gateway.routing.canary import Route, not_served, stable_for_canary
from tfrec.gateway.routing.slate_request import SlateAnswer, SlateRequest

POPULARITY = "popularity"  # the policy, and the fallback's name in metrics


def other_route(route: Route, error: RequestFailed, config: GatewayConfig) -> Route | None:
    """The version to ask after `route` failed with `error`; None if no version may answer instead."""
    if route.is_named or error.down or not route.label:
        return None
    is_missing = isinstance(error, LabelNotServed)
    if route.label != config.stable_label:
        why = not_served(route.label) if is_missing else f"{route.label} failed: {error.code}"
        return stable_for_canary(config, route.explore, why)
    return Route("", route.explore, fallback=not_served(route.label), fallback_to="newest") if is_missing else None


def is_outage(error: RequestFailed) -> bool:
    """Whether no version at all can answer: the server is down, or it serves no version."""
    return error.down or error.code == "NOT_FOUND"


def popular_slate(request: SlateRequest, popularity: LivePopularity, *, now: float) -> SlateAnswer | None:
    """The most popular items, without any model.

    None if nothing has been counted, or if the request names tags or numbers, which the counts know nothing about. They know no
    vectors either: the answer to a request for diversity is the most popular items.
    """
    if request.allow_tags or request.deny_tags or request.bounds or request.caps:
        return None
    excluded = set(request.exclude)
    best = popularity.popular(now, request.k + len(excluded))
    if best is None:
        return None
    kept = [index for index, item in enumerate(best.ids) if item not in excluded][: request.k]
    return SlateAnswer(
        [best.ids[index] for index in kept], best.log_p[kept].tolist(), version=0, label="", policy=POPULARITY,
        log_propensities=[None] * len(kept),  # unknown: an outage chose this policy
        fallback="the model server does not answer",
    )  # fmt: skip
