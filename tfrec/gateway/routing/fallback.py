"""What answers when the version that should answer does not.

    The canary, or the version of an arm, fails, or
    no version has its label                          the stable version answers
    No version has the stable label                   the newest version answers; so it is between two steps of a promotion
    The model server is down, or serves no version    the items that have words of the query answer, else the most popular ones,
                                                      where no tag, bound or cap is named

When the caller names a label, no other version answers for it.
"""
from collections.abc import Sequence

from tfrec.client.request_errors import LabelNotServed, RequestFailed
from tfrec.config import GatewayConfig
from tfrec.gateway.live_popularity import LivePopularity
from tfrec.gateway.routing.canary import Route, not_served, stable_instead
from tfrec.gateway.routing.slate_request import SlateAnswer, SlateRequest

POPULARITY, WORDS = "popularity", "words"  # the policies, and the names of these fallbacks in metrics
ANSWERS = {POPULARITY: "popularity answers", WORDS: "words of queries answer"}  # for the log


def other_route(route: Route, error: RequestFailed, config: GatewayConfig) -> Route | None:
    """The version to ask after `route` failed with `error`; None if no version may answer instead."""
    if route.is_named or error.down or not route.label:
        return None
    is_missing = isinstance(error, LabelNotServed)
    if route.label != config.stable_label:
        why = not_served(route.label) if is_missing else f"{route.label} failed: {error.code}"
        return stable_instead(config, route, why)
    return route._replace(label="", fallback=not_served(route.label), fallback_to="newest") if is_missing else None


def is_outage(error: RequestFailed) -> bool:
    """Whether no version at all can answer: the server is down, or it serves no version."""
    return error.down or error.code == "NOT_FOUND"


def slate_without_model(
    request: SlateRequest, popularity: LivePopularity, *, now: float, popular: bool
) -> SlateAnswer | None:
    """The items that are best by the words of the query and by popularity, or the most popular items, without any model.

    Rules that exclude and pin hold here too. None if nothing has been counted, if the request names tags or numbers, of which
    nothing is known here, or if it is not known which items rules exclude by tag or number. Nor are vectors
    known: a request for diversity gets the best items.

    Args:
        request: what is asked for.
        popularity: of the stable version, with its words.
        now: seconds since 1970.
        popular: whether the most popular items answer where no item has a word of the query.
    """
    known = request.without_model
    if known is None:
        return None
    request = known
    if request.allow_tags or request.deny_tags or request.bounds or request.caps:
        return None
    if request.query:
        found = popularity.search(request.query, now, request.k, exclude=request.exclude)
        if found is not None:
            return _answer(found.ids, found.scores.tolist(), WORDS)
    if not popular:
        return None
    excluded = set(request.exclude)
    best = popularity.popular(now, request.k + len(excluded))
    if best is None:
        return None
    kept = [index for index, item in enumerate(best.ids) if item not in excluded][: request.k]
    return _answer([best.ids[index] for index in kept], best.log_p[kept].tolist(), POPULARITY)


def _answer(items: Sequence[str], scores: Sequence[float], policy: str) -> SlateAnswer:
    return SlateAnswer(items, scores, version=0, label="", policy=policy,
                       is_boosted=False, log_propensities=[None] * len(items),  # unknown: an outage chose this policy
                       fallback="the model server does not answer")
