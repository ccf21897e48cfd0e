"""Asks a version for slates, greedily or by the policy that explores, and names the policy for the log.

The log needs the policy's name and the probability of every item: learning from logged slates and judging other policies by
them depend on both.
"""
from collections.abc import Sequence

from tfrec.client.client import Client
from tfrec.client.inputs import UNKNOWN_AGE, HistoryInputs, RecommendInputs
from tfrec.client.results import Recommendation
from tfrec.config import GatewayConfig
from tfrec.gateway.past_events import UNKNOWN_TIME, PastEvent
from tfrec.gateway.routing.canary import Route
from tfrec.gateway.routing.slate_request import SlateAnswer, SlateRequest
from tfrec.models.popularity_prior import Override

GREEDY, RERANKED = "greedy", "reranked"


def history_inputs_of(requests: Sequence[SlateRequest], prior: Override | None) -> HistoryInputs:
    """What a version is told about each user; `prior` takes the place of its exported popularity."""
    return HistoryInputs(
        history=[[event.item for event in one.history] for one in requests],
        history_action=[[event.action for event in one.history] for one in requests],
        history_age_s=[[_age(event, one.time) for event in one.history] for one in requests],
        prior=None if prior is None else [prior] * len(requests),
        query=[one.query for one in requests],
        **_person_and_moment(requests),
    )


def _person_and_moment(requests: Sequence[SlateRequest]) -> HistoryInputs:
    """What is known of person and moment; nothing where no feature is declared."""
    known = [one.features for one in requests if one.features is not None]
    return {"time": [one.time for one in requests], "context": known} if known else {}  # type: ignore[typeddict-item]


def ask_for_slates(
    client: Client, config: GatewayConfig, route: Route, requests: Sequence[SlateRequest], *, prior: Override | None, now: int
) -> list[SlateAnswer]:
    """One slate for each request, from the version and by the policy that `route` says.

    Args:
        client: of the model server.
        config: the exploring policy and its settings.
        route: the same for all requests.
        requests: at most as many as the model server takes in one call.
        prior: live popularity to score with; None for that of the export.
        now: seconds since 1970; epsilon may change over time.
    """
    inputs = RecommendInputs(
        **history_inputs_of(requests, prior),
        exclude=[one.exclude for one in requests],
        allow_tags=[one.allow_tags for one in requests],
        deny_tags=[one.deny_tags for one in requests],
        bounds=[one.bounds for one in requests],
        boosts=[one.boosts for one in requests],
        k=[one.k for one in requests],
    )

    def answer(
        one: Recommendation, policy: str, propensities: Sequence[float | None], live: Override | None = None
    ) -> SlateAnswer:
        return SlateAnswer(one.items, one.scores, one.version, route.label, policy, propensities, route.fallback, live)

    weights = [one.head_weights for one in requests]
    if not route.explore:  # each position has one item that could be there: its probability is 1
        found = client.recommend(**inputs, label=route.label, diversity=[one.diversity for one in requests],
                                 caps=[one.caps for one in requests], head_weights=weights)
        policies = [RERANKED if one.is_reranked else GREEDY for one in requests]
        return [answer(one, policy, [0.0] * len(one.items)) for one, policy in zip(found, policies, strict=True)]
    seed = [one.seed for one in requests]
    drawing = route.drawing
    kind = drawing.policy or config.policy
    if kind == "plackett_luce":
        epsilon = config.epsilon_at(now) if drawing.epsilon is None else drawing.epsilon
        temperature = config.temperature if drawing.temperature is None else drawing.temperature
        policy = f"{kind}(temperature={temperature:g}, epsilon={epsilon:g})"
        drawn = client.explore(**inputs, label=route.label, seed=seed, temperature=temperature, epsilon=epsilon,
                               head_weights=weights)
        # rounding may lift a log probability above 0
        return [answer(one, policy, [min(0.0, log_pi) for log_pi in one.log_propensities], prior) for one in drawn]
    alpha = config.alpha if drawing.alpha is None else drawing.alpha
    if kind == "thompson":
        found = client.thompson(**inputs, label=route.label, seed=seed, alpha=alpha)
    else:
        found = client.linucb(**inputs, label=route.label, alpha=alpha)
    policy = f"{kind}(alpha={alpha:g})"
    return [answer(one, policy, [None] * len(one.items)) for one in found]  # a bandit's probabilities have no closed form


def _age(event: PastEvent, now: int) -> int:
    return UNKNOWN_AGE if event.time == UNKNOWN_TIME else max(0, now - event.time)
