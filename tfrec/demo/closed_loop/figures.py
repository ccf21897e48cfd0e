"""Reward per request of the arms, by round and after the drift, with intervals.

In one run people are redrawn, since one person's requests are alike. Over several runs with a seed each, the interval is that of
the mean of the seeds.
"""
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfrec.demo.closed_loop.visits import Seen, together
from tfrec.evaluation.intervals import Interval, UserBootstrap

STATIC, GREEDY, EXPLORING = "static", "greedy", "exploring"
CONTROL_STATIC, CONTROL = "control_static", "control"
ARMS, CONTROLS = (STATIC, GREEDY, EXPLORING), (CONTROL_STATIC, CONTROL)
BESIDE = {GREEDY: STATIC, EXPLORING: STATIC, CONTROL: CONTROL_STATIC}  # which arm differs from one by its retrains alone
BEST = "best"  # the best slates by the truth, for the people of the arm that has most left to be shown


def loop_figures(rounds: Mapping[str, Sequence[Seen]], *, drift: int) -> dict[str, Any]:
    """The figures of one run.

    Args:
        rounds: of each arm, what came of each round's requests.
        drift: rounds before the drift.

    Returns:
        `reward`: of each arm, and of the best slates for the static arm's people, the clicks to expect of a request by round, as
        [mean, low, high]. `gain`: of each arm that is retrained, its share of (best - static) in the rounds after the drift that
        a retrain came before, as [mean, low, high].
    """
    reward = {arm: [_by_person(one.person, one.value) for one in shown] for arm, shown in rounds.items()}
    reward[BEST] = [_by_person(one.person, one.best) for one in rounds[STATIC]]
    gain = {}
    for arm, beside in BESIDE.items():
        if arm in rounds and len(rounds[arm]) > drift + 1:
            ours, static = together(rounds[arm][drift + 1 :]), together(rounds[beside][drift + 1 :])
            share = UserBootstrap(static.person).ratio(np.zeros(len(static.person)), ours.value - static.value,
                                                       static.best - static.value)
            gain[arm] = _listed(share)
    return {"drift": drift, "requests": len(rounds[STATIC][0].person), "reward": reward, "gain": gain}


def over_seeds(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of several runs as one: means, with 95% intervals of 1.96 standard errors over the runs."""
    first = runs[0]
    reward = {arm: [_mean([run["reward"][arm][number][0] for run in runs]) for number in range(len(first["reward"][arm]))]
              for arm in first["reward"]}
    gain = {arm: _mean([run["gain"][arm][0] for run in runs]) for arm in first["gain"]}
    return dict(first) | {"seeds": len(runs), "reward": reward, "gain": gain}


def _by_person(person: Any, value: Any) -> list[float]:
    found = UserBootstrap(person).interval(value)
    return [float("nan")] * 3 if found is None else _listed(found)


def _listed(found: Interval) -> list[float]:
    return [round(number, 4) for number in (found.mean, found.low, found.high)]


def _mean(values: Sequence[float]) -> list[float]:
    half = 1.96 * float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    mean = float(np.mean(values))
    return [round(number, 4) for number in (mean, mean - half, mean + half)]
