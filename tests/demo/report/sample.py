"""A report as the demo writes it, with figures of a likely size."""
from typing import Any


def scores(hr10: float, ndcg10: float, hr50: float, **more: Any) -> dict[str, Any]:
    width = 0.012
    intervals = {"hr@10": [hr10 - width, hr10 + width], "ndcg@10": [ndcg10 - width / 2, ndcg10 + width / 2]}
    return {"hr@10": hr10, "ndcg@10": ndcg10, "hr@50": hr50, "intervals": intervals, **more}


def a_round(number: int, static: float, retrained: float, popular: float, *, promoted: bool, verdict: str) -> dict[str, Any]:
    def three(rate: float) -> dict[str, float]:
        return {"hr@10": rate, "ndcg@10": 0.53 * rate, "hr@50": 2.9 * rate}

    return {
        "round": number,
        "events": 4_000,
        "asked": 990 + number,
        "static": three(static),
        "retrained": three(retrained),
        "popularity_7d": three(popular),
        "retrain_seconds": {"train": 4.2 + number / 5, "evaluate": 3.1, "export": 2.4, "verify": 5.9, "total": 17.0 + number / 5},
        "verdict": verdict,
        "promoted": promoted,
        "version": f"{number + promoted}",
    }


def sample() -> dict[str, Any]:
    """A fresh report, to be changed at will."""
    better = (
        "challenger HR@10 .0843 is .0031 above the champion's .0812 (paired interval [-.0010, .0072]) and .0601 above 7-day "
        "popularity's .0242 (paired interval [.0411, .0790]), on 2,118 events"
    )
    worse = (
        "challenger HR@10 .0731 is .0064 below the champion's .0795 (paired interval [-.0119, -.0009]) and the margin is .0050, "
        "on 1,987 events"
    )
    more = {"cold_hr@10": 0.031, "untouched_hr@10": 0.0118, "auc": 0.874, "coverage@10": 0.214, "diversity@10": 0.611}
    return {
        "data": {"users": 671, "items": 9_066, "events": 100_004, "name": "MovieLens"},
        "train_seconds": 88.4,
        "baselines": {
            "popularity": scores(0.0373, 0.0196, 0.1249),
            "popularity_7d": scores(0.0242, 0.0111, 0.0794),
            "item-kNN": scores(0.0707, 0.0374, 0.1922),
            "EASE": scores(0.0797, 0.0432, 0.2081),
        },
        "static": scores(0.0834, 0.0451, 0.2304, **more),
        "frozen": scores(0.0791, 0.0420, 0.2251, **{**more, "untouched_hr@10": None}),
        "rounds": [
            a_round(1, 0.0808, 0.0808, 0.0254, promoted=True, verdict=better),
            a_round(2, 0.0846, 0.0877, 0.0212, promoted=True, verdict=better),
            a_round(3, 0.0791, 0.0810, 0.0263, promoted=False, verdict=worse),
            a_round(4, 0.0862, 0.0914, 0.0231, promoted=True, verdict=better),
            a_round(5, 0.0829, 0.0851, 0.0248, promoted=True, verdict=better),
        ],
        "paired_difference": {"hr@10": 0.0031, "low": -0.0019, "high": 0.0083},
        "rejected": 1,
        "failed_requests": 0,
        "request_ms": {"p50": 8.4, "p99": 31.0},
        "steps": {
            "read the data": 1.3,
            "encode the texts": 38.6,
            "train": 88.4,
            "score with baselines": 24.9,
            "export and publish": 9.8,
            "5 rounds of traffic": 61.2,
            "5 retrains": 86.0,
        },
        "neighbours": [
            {"item": "Toy Story (1995)", "similar": ["Toy Story 2 (1999)", "Monsters, Inc. (2001)", "A Bug's Life (1998)"]},
            {"item": "Heat (1995)", "similar": ["Casino (1995)", "Ronin (1998)", "Collateral (2004)"]},
            {"item": "Amélie (2001)", "similar": ["Delicatessen (1991)", "A Very Long Engagement (2004)", "Chocolat (2000)"]},
            {"item": "Alien (1979)", "similar": ["Aliens (1986)", "The Thing (1982)", "Blade Runner (1982)"]},
        ],
        "examples": [
            {"query": "space opera", "answers": ["Star Wars: Episode IV - A New Hope (1977)", "Serenity (2005)", "Dune (1984)"]},
            {"query": "romance in paris", "answers": ["Before Sunset (2004)", "Amélie (2001)", "Sabrina (1995)"]},
            {"query": "animated film for children", "answers": ["Toy Story (1995)", "Finding Nemo (2003)", "Shrek (2001)"]},
        ],
    }


def loop_sample() -> dict[str, Any]:
    """The figures of a closed loop, whose tastes drift after round 2 of 5."""
    reward = {
        "static": [0.9, 0.7, 0.2, 0.15, 0.15], "greedy": [0.9, 0.85, 0.2, 0.3, 0.4], "exploring": [0.85, 0.8, 0.25, 0.4, 0.6],
        "best": [1.9, 1.8, 2.35, 2.3, 2.2],
    }
    return {
        "drift": 2, "requests": 1_500, "people": 300, "items": 453,
        "reward": {arm: [[mean, mean - 0.05, mean + 0.05] for mean in means] for arm, means in reward.items()},
        "gain": {"greedy": [0.095, 0.08, 0.11], "exploring": [0.167, 0.15, 0.19]},
        "retrains": {"greedy": 4, "exploring": 4}, "promoted": {"greedy": 4, "exploring": 3},
    }
