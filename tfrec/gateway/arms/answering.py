"""Answers of requests whose arms need more than one: two rankings in one answer, and arms that are asked and not shown."""
from collections.abc import Callable, Sequence
from dataclasses import replace

from tfrec.gateway.arms.assigned import Assigned
from tfrec.gateway.arms.interleaving import FIRST, team_draft
from tfrec.gateway.http.schemas import ShownItem
from tfrec.gateway.routing.slate_request import SlateAnswer, SlateRequest

APPLICATION, TFREC = "application", "tfrec"  # the policy of what it shows itself, and the shadow beside it
Recommend = Callable[[Sequence[SlateRequest]], list[SlateAnswer]]


def under(request: SlateRequest, assigned: Assigned) -> SlateRequest:
    """A request as its arms change it."""
    diversity = request.diversity if assigned.diversity is None else assigned.diversity
    explore = request.explore if assigned.explore is None else assigned.explore
    weights = request.head_weights if assigned.head_weights is None else assigned.head_weights
    return replace(request, assigned=assigned, diversity=diversity, head_weights=weights,
                   explore=explore and not (diversity > 0 or request.caps))


def answer_by_arms(recommend: Recommend, requests: Sequence[SlateRequest]) -> list[SlateAnswer]:
    """An answer for each request, which are all asked for at once.

    Args:
        recommend: answers requests of one arm each.
        requests: each under its arms.
    """
    if not any(one.assigned.teams or one.assigned.shadows for one in requests):
        return recommend(requests)
    asked = [_asked(one) for one in requests]
    answers = iter(recommend([one for some in asked for one in some]))
    return [_together(request, [next(answers) for _ in some]) for request, some in zip(requests, asked, strict=True)]


def of_application(answer: SlateAnswer, shown: Sequence[ShownItem]) -> SlateAnswer:
    """What the application shows by its own choice, beside which the answer is a shadow."""
    return replace(answer, items=[one.item for one in shown], scores=[0.0] * len(shown), policy=APPLICATION,
                   log_propensities=[one.log_propensity for one in shown], shadows={TFREC: answer.items})


def _asked(request: SlateRequest) -> list[SlateRequest]:
    """What is shown comes first, as one answer or two, and then the shadows."""
    assigned = request.assigned
    shown = [under(request, team) for team in assigned.teams or ()] or [request]
    return [*shown, *(under(request, arm) for arm in assigned.shadows.values())]


def _together(request: SlateRequest, answers: list[SlateAnswer]) -> SlateAnswer:
    if request.assigned.teams:
        shown, others = _interleaved(request, *answers[:2]), answers[2:]
    else:
        shown, others = answers[0], answers[1:]
    return replace(shown, shadows={name: one.items for name, one in zip(request.assigned.shadows, others, strict=True)})


def _interleaved(request: SlateRequest, first: SlateAnswer, second: SlateAnswer) -> SlateAnswer:
    ranks, teams = team_draft(first.items, second.items, request.k, seed=request.seed)
    rows = [(first if team == FIRST else second, rank) for rank, team in zip(ranks, teams, strict=True)]
    return SlateAnswer(
        items=[answer.items[rank] for answer, rank in rows], scores=[answer.scores[rank] for answer, rank in rows],
        version=first.version, label=first.label, policy=f"interleaved({first.policy}, {second.policy})",
        log_propensities=[None] * len(rows),  # the coins of both rankings and of the draft have no closed form together
        fallback=first.fallback or second.fallback, teams=teams,
        is_boosted=first.is_boosted and second.is_boosted)
