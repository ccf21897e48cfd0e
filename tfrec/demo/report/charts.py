"""Charts for the page: SVG that matplotlib draws and the page colours.

Each colour is drawn as a rare placeholder, which is then replaced by the name of a CSS variable. Text stays text in the page's
own font. So a chart follows the reader's light or dark scheme.
"""
import io
import itertools
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tfrec.demo.report.words import STAGES, clicks, figure, hits_gained, name_of, seconds, whole_retrain

logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells of the font cache that it builds when it is new

import matplotlib as mpl  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import FuncFormatter, MaxNLocator  # noqa: E402

Rounds = Sequence[Mapping[str, Any]]

VARIABLES = ["ink", "muted", "line", "surface", "retrained", "static", "popularity_7d", "greedy", *STAGES, "other"]
COLOUR = {name: f"#0b0c{i:02x}" for i, name in enumerate(VARIABLES)}
FEW = 6  # rounds, between which there is room for a word
MODELS = {  # how a model's line is drawn, so that it is known without its colour
    "popularity_7d": {"linestyle": (0, (1, 1.6)), "marker": "^", "markersize": 8},
    "static": {"linestyle": (0, (4, 2)), "marker": "s", "markersize": 7},
    "retrained": {"linestyle": "-", "marker": "o", "markersize": 9},
}
ARMS: Mapping[str, dict[str, Any]] = {  # of the closed loop, in the same way
    "best": {"color": "ink", "linestyle": (0, (1, 1.6))},
    "exploring": {"color": "retrained", "marker": "o", "markersize": 9},
    "greedy": {"color": "greedy", "marker": "D", "markersize": 7},
    "static": {"color": "static", "linestyle": (0, (4, 2)), "marker": "s", "markersize": 7},
}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tfrec",  # the same report gives the same page
    "text.parse_math": False,  # a dollar in a name is a dollar
    "font.size": 11,
    "text.color": COLOUR["ink"],
    "axes.edgecolor": COLOUR["line"],
    "axes.labelcolor": COLOUR["muted"],
    "xtick.color": COLOUR["muted"],
    "ytick.color": COLOUR["muted"],
    "grid.color": COLOUR["line"],
}


def reward_chart(loop: Mapping[str, Any]) -> str:
    """Reward per request of the closed loop by round: a line and a 95% band for each arm; the drift between two rounds."""
    with mpl.rc_context(STYLE):
        chart, axes = _axes(9.6, 4.2)
        reward = {arm: loop["reward"][arm] for arm in ARMS if arm in loop["reward"]}
        at = list(range(1, len(loop["reward"]["static"]) + 1))
        for arm, found in reward.items():
            look = ARMS[arm] | {"color": COLOUR[ARMS[arm]["color"]]}
            mean, low, high = zip(*found, strict=True)
            axes.fill_between(at, low, high, color=look["color"], alpha=0.14, linewidth=0)
            axes.plot(at, mean, linewidth=2.2, markeredgecolor=COLOUR["surface"], markeredgewidth=1.4, **look)
        axes.set_xticks(at, [str(number) for number in at])
        axes.set_xlabel("round")
        axes.set_xlim(at[0] - 0.2, at[-1] + 0.2)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.1f}"))
        _label_ends(axes, {arm: found[-1][0] for arm, found in reward.items()}, clicks,
                    {arm: COLOUR[ARMS[arm]["color"]] for arm in reward})
        if 0 < loop["drift"] < len(at):
            axes.axvline(loop["drift"] + 0.5, color=COLOUR["muted"], linewidth=1.2, linestyle=(0, (2, 2)))
            axes.annotate("tastes drift", (loop["drift"] + 0.5, 1), (6, -4), xycoords=("data", "axes fraction"),
                          textcoords="offset points", va="top", color=COLOUR["muted"], fontsize=9.5)
        return _svg(chart, "Clicks per request by round of the arms of the closed loop, and of the best slates")


def hit_rate_chart(rounds: Rounds) -> str:
    """HR@10 by round, with a line for each model. Below, the outcome of the retrain between two rounds."""
    with mpl.rc_context(STYLE):
        chart, axes = _axes(5.7, 3.3)
        at = [entry["round"] for entry in rounds]
        series = {who: [entry[who]["hr@10"] for entry in rounds] for who in MODELS}
        for who, values in series.items():
            axes.plot(at, values, **_look(who))
        axes.set_xticks(at, [str(i) for i in at])
        axes.set_xlabel("round")
        axes.set_xlim(at[0] - 0.2, at[-1] + 0.2)
        low, high = min(map(min, series.values())), max(map(max, series.values()))
        room = (high - low) or high or 0.01
        axes.set_ylim(low - 0.24 * room, high + 0.14 * room)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3f}".replace("0.", ".", 1)))
        _label_ends(axes, {who: values[-1] for who, values in series.items()}, figure, COLOUR)
        for entry in rounds[:-1]:
            came = "rejected" if not entry["promoted"] else "swapped" if len(rounds) <= FEW else ""
            axes.annotate(
                came, (entry["round"] + 0.5, 0), (0, 5), ha="center", color=COLOUR["muted"],
                fontsize=9.5, xycoords=("data", "axes fraction"), textcoords="offset points",
            )
        return _svg(chart, "HR@10 by round of the retrained and the static model and of 7-day popularity")


def gain_chart(rounds: Rounds) -> str:
    """Hits that the retrained model has more than the static one: a bar for each round, and a line for their sum so far."""
    with mpl.rc_context(STYLE):
        chart, axes = _axes(5.7, 3.3)
        at = [entry["round"] for entry in rounds]
        gains = hits_gained(rounds)
        so_far = list(itertools.accumulate(gains))
        axes.bar(at, gains, 0.5, color=COLOUR["retrained"], alpha=0.3)
        axes.plot(at, so_far, **_look("retrained"))
        axes.axhline(0, color=COLOUR["static"], linewidth=1.6)
        axes.set_xticks(at, [str(i) for i in at])
        axes.set_xlabel("round")
        axes.set_xlim(at[0] - 0.4, at[-1] + 0.4)
        axes.margins(y=0.16)
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+,.0f}".replace("-", "−") if value else "0"))
        axes.annotate(
            f"{so_far[-1]:+,.0f}\nso far".replace("-", "−"), (1, so_far[-1]), (4, 0), xycoords=("axes fraction", "data"),
            textcoords="offset points", va="center", color=COLOUR["retrained"], fontweight="bold", fontsize=10.5,
        )
        return _svg(chart, "Hits of the retrained model above the static one, by round and summed")


def retrain_chart(rounds: Rounds) -> str:
    """Seconds of each retrain, by stage."""
    with mpl.rc_context(STYLE):
        chart, axes = _axes(5.7, 3.6, grid="x")
        ends = [0.0] * len(rounds)
        totals = [whole_retrain(entry) for entry in rounds]
        for stage in (*STAGES, "other"):
            spent = [
                max(total - end, 0.0) if stage == "other" else entry["retrain_seconds"].get(stage, 0.0)
                for entry, total, end in zip(rounds, totals, ends, strict=True)
            ]
            axes.barh(range(len(rounds)), spent, 0.6, ends, color=COLOUR[stage], edgecolor=COLOUR["surface"], linewidth=0.8)
            ends = [end + more for end, more in zip(ends, spent, strict=True)]
        _name_bars(axes, [f"round {entry['round']}" for entry in rounds], ends)
        return _svg(chart, "Seconds of each retrain by stage: " + ", ".join(STAGES))


def steps_chart(steps: Mapping[str, float]) -> str:
    """Seconds of each step of the demo."""
    with mpl.rc_context(STYLE):
        chart, axes = _axes(5.7, 3.6, grid="x")
        axes.barh(range(len(steps)), list(steps.values()), 0.6, color=COLOUR["train"])
        _name_bars(axes, list(steps), list(steps.values()))
        return _svg(chart, "Seconds of each step of the demo")


def _axes(width: float, height: float, *, grid: str = "y") -> tuple[Figure, Axes]:
    chart = Figure(figsize=(width, height), layout="constrained")
    axes = chart.add_subplot()
    axes.spines[:].set_visible(False)
    axes.grid(axis="y" if grid == "y" else "x", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    return chart, axes


def _look(who: str) -> dict[str, Any]:
    return {"color": COLOUR[who], "linewidth": 2.2, "markeredgecolor": COLOUR["surface"], "markeredgewidth": 1.4, **MODELS[who]}


def _name_bars(axes: Axes, names: Sequence[str], ends: Sequence[float]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", labelcolor=COLOUR["ink"])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("seconds")
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    for row, end in enumerate(ends):
        axes.annotate(seconds(end), (end, row), (5, 0), textcoords="offset points", va="center", color=COLOUR["ink"])


def _label_ends(axes: Axes, ends: Mapping[str, float], worded: Any, colour: Mapping[str, str]) -> None:
    """Write the name and value of each line at its right end, moved apart where they would touch."""
    low, high = axes.get_ylim()
    least = (high - low) * 0.095
    places: list[float] = []
    order = sorted(ends, key=ends.__getitem__)
    for who in order:
        places.append(max(ends[who], places[-1] + least) if places else ends[who])
    spread = sum(places) / len(places) - sum(ends.values()) / len(ends)  # half of it up, half of it down
    for who, place in zip(order, places, strict=True):
        axes.annotate(
            f"{name_of(who)} {worded(ends[who])}", (1, place - spread), (4, 0), xycoords=("axes fraction", "data"),
            textcoords="offset points", va="center", color=colour[who], fontweight="bold", fontsize=10.5,
        )


def _svg(chart: Figure, title: str) -> str:
    out = io.StringIO()
    chart.savefig(out, format="svg", transparent=True, metadata=dict.fromkeys(["Creator", "Date", "Format", "Type"]))
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', rf'<svg viewBox="\1" role="img" aria-label="{title}">', text, count=1)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # the same names stand in every chart
    text = re.sub(r"font: (?:(bold|\d+) )?([\d.]+px)[^;\"]*", lambda m: f"font-weight: {m[1] or 400}; font-size: {m[2]}", text)
    text = re.sub(r"font-family: [^;\"]*;?", "", text)
    for name, colour in COLOUR.items():
        text = text.replace(colour, f"var(--{name.replace('_', '-')})")
    return text
