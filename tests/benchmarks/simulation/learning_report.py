"""What the runs of learning.py gave: values by arm, round and seed in, shares with intervals and a picture out."""
import json
from pathlib import Path
from typing import Any

import numpy as np

PERIODS = {"all rounds": slice(1, None), "before the drift": slice(1, 10), "after it": slice(11, None)}
DRAWN = {
    "pointwise, greedy": "#1b6ca8", "q_learning, greedy": "#2a9d8f", "sarsa, greedy": "#8ab17d", "reinforce, greedy": "#d1495b",
    "softmax, greedy": "#edae49", "ppo, greedy": "#9c89b8", "thompson": "#6d597a", "linucb": "#b56576", "greedy_day0": "#777777",
}


def report(found: list[dict[str, Any]], picture: Path | None) -> None:
    """Print the shares of all arms by period; draw them by round."""
    figures: dict[str, Any] = {"seeds": len(found), "ess": {}}
    for title, rounds in PERIODS.items():
        figures[title] = {arm: [round(v, 4) for v in share] for arm, share in shares(found, rounds).items()}
        print(title)
        for arm, (mean, low, high) in figures[title].items():
            print(f"  {arm:22} {mean:+.3f} [{low:+.3f}, {high:+.3f}]")
    print("all rounds, beyond the best guesses of day 0")
    beyond = [arm for arm in found[0]["value"] if "greedy" in arm or arm in ("thompson", "linucb")]
    for title in ("all rounds", "after it"):
        figures[f"beyond greedy_day0, {title}"] = {
            arm: [round(v, 4) for v in difference(found, arm, "greedy_day0", PERIODS[title])] for arm in beyond}
    for arm, (mean, low, high) in figures["beyond greedy_day0, all rounds"].items():
        print(f"  {arm:22} {mean:+.3f} [{low:+.3f}, {high:+.3f}]")
    pairs = {"explore_retrained - greedy_retrained": ("explore_retrained", "greedy_retrained"),
             "reinforce - reinforce_k1": ("reinforce", "reinforce_k1"),
             "reinforce - reinforce_k1, greedy": ("reinforce, greedy", "reinforce_k1, greedy")}
    for name, (one, other) in pairs.items():
        if one in found[0]["value"] and other in found[0]["value"]:
            figures[name] = [round(v, 4) for v in difference(found, one, other, PERIODS["after it"])]
            print(name, "after the drift:", figures[name])
    for arm in found[0]["ess"]:
        figures["ess"][arm] = round(float(np.mean([one["ess"][arm] for one in found])), 3)
    print("effective sample size of first places, mean over rounds and seeds:", figures["ess"])
    if picture is None:
        return
    import matplotlib
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "learning"  # the same figures, the same file
    import matplotlib.pyplot as plt
    figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    rounds = range(len(found[0]["value"]["logger"]))
    for arm, colour in DRAWN.items():
        if arm in found[0]["value"]:
            curve = [shares(found, slice(r, r + 1))[arm][0] for r in rounds]
            axes.plot(rounds, curve, "--" if arm == "greedy_day0" else "-", color=colour, label=arm)
    axes.set_xticks(range(0, len(rounds), 2))
    axes.axvline(10, color="#bbbbbb", linewidth=1)
    axes.text(10.1, axes.get_ylim()[1], "drift", va="top", color="#777777", fontsize=8)
    axes.set_xlabel("round of 5,000 requests")
    axes.set_ylabel("share of (oracle - logger)")
    axes.legend(fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    figure.savefig(picture, metadata={"Date": None})
    picture.with_suffix(".json").write_text(json.dumps(figures, indent=1))


def shares(found: list[dict[str, Any]], rounds: slice) -> dict[str, tuple[float, float, float]]:
    """What each arm earns beyond the logger."""
    return {arm: difference(found, arm, "logger", rounds) for arm in found[0]["value"]}


def difference(found: list[dict[str, Any]], one: str, other: str, rounds: slice) -> tuple[float, float, float]:
    """Of two arms' values as a share of (oracle - logger), over seeds: mean and a 95% interval (1.96 standard errors)."""
    each = []
    for seed in found:
        mean = {name: float(np.mean(values[rounds])) for name, values in seed["value"].items()}
        each.append((mean[one] - mean[other]) / (mean["oracle"] - mean["logger"]))
    half = 1.96 * np.std(each, ddof=1) / np.sqrt(len(each)) if len(each) > 1 else float("nan")
    return float(np.mean(each)), float(np.mean(each) - half), float(np.mean(each) + half)
