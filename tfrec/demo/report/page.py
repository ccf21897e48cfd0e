"""The report as files: report.json, and report.html, a page that needs no network and no script."""
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from tfrec import terminal
from tfrec.data import durable_files
from tfrec.demo.report import charts
from tfrec.demo.report.words import (
    STAGES,
    TOLERANCE,
    Finding,
    Report,
    figure,
    finding,
    hits,
    known,
    later_rounds,
    loop_finding,
    mean,
    milliseconds,
    name_of,
    paired,
    percent,
    pooled,
    seconds,
    signed,
    whole_retrain,
)

MOODS = {
    "better": "retraining helped",
    "same": "no measurable difference",
    "worse": "retraining hurt",
    "rejected": "rejected by the gate",
}
LOOP_MOODS = {"better": "it learns", "same": "no measurable difference", "worse": "learning hurt"}
SIDE_BY_SIDE = ("static", "retrained", "popularity_7d")  # ranked on the same requests
METRICS = {  # columns of the protocol table after HR@10, each left out when no model has it
    "ndcg@10": "NDCG@10",
    "hr@50": "HR@50",
    "cold_hr@10": "cold HR@10",
    "untouched_hr@10": "untouched HR@10",
    "auc": "AUC",
    "coverage@10": "coverage @10",
    "diversity@10": "diversity @10",
}


def write_report(report: Report, directory: Path) -> Path:
    """Write report.json and report.html to `directory`, which is made if needed, and return the path of the page."""
    directory.mkdir(parents=True, exist_ok=True)
    text = terminal.to_json(report)
    page = directory / "report.html"
    for path, content in ((directory / "report.json", text), (page, render_page(json.loads(text)))):
        with durable_files.replacing(path) as file:  # a reader never sees half a page
            file.write(content.encode())
    return page


def render_page(report: Report) -> str:
    """The page as HTML text."""
    replay, rounds, data, loop = finding(report), report["rounds"], report["data"], report.get("closed_loop")
    found, moods = (replay, MOODS) if loop is None else (loop_finding(loop), LOOP_MOODS)
    trained = _training(rounds)
    page = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    return page.substitute(
        title=escape(data["name"]),
        mood=found.mood,
        mood_word=moods[found.mood],
        headline=escape(found.headline),
        detail=escape(found.detail),
        closed_loop="" if loop is None else _closed_loop(loop, replay),
        tiles="".join(_tiles(report)),
        setting=(
            f"{escape(data['name'])}: {data['items']:,} items, {data['users']:,} users, {data['events']:,} events. The first "
            f"model is trained on the oldest four fifths; the rest is replayed as live traffic in {len(rounds)} rounds, through "
            "the gateway and the model server. After each round the model is retrained on what the log holds by then."
        ),
        hit_rate_chart=charts.hit_rate_chart(rounds),
        gain_chart=charts.gain_chart(rounds),
        gain_note=(
            f"bars by round, line summed; in all {hits(rounds, 'retrained'):,} hits against {hits(rounds, 'static'):,} of static "
            f"and {hits(rounds, 'popularity_7d'):,} of 7-day popularity"
        ),
        rounds_table=_rounds_table(rounds),
        models_table=_models_table(report),
        protocol_note=(
            "All models ranked the same events: the last fifth by time, each asked with what was known a second before. The dot "
            f"is HR@10, the band its 95% interval. With {data['items']:,} items, chance is {_chance(data['items'])}."
        ),
        cost_note=(
            f"Training the first model took {seconds(report['train_seconds'])}; training in one retrain took {seconds(trained)} "
            f"on average, {percent(trained / report['train_seconds'])} of that."
        ),
        stages_key="".join(f'<span><i style="--tone: var(--{stage})"></i>{stage}</span>' for stage in (*STAGES, "other")),
        retrain_chart=charts.retrain_chart(rounds),
        steps_chart=charts.steps_chart(report["steps"]),
        taste=_taste(report),
    )


def _closed_loop(loop: Mapping[str, Any], replay: Finding) -> str:
    """The picture of the closed loop and what it is of, then the finding of the replay, which follows."""
    return (
        "<h2>Reward per request, when what is shown matters</h2>"
        f'<p class="note">{loop["people"]} simulated people, whose tastes come from all of their ratings, look at ten of '
        f'{loop["items"]} films a request and click on what they like: {loop["requests"]:,} requests a round and arm, through '
        "the gateway, the model server, the log and the retrain job. All arms begin with one model of each person's first few "
        f"films. After round {loop['drift']}, half of the people take up other tastes, and what is in fashion changes. "
        "<em>Static</em> keeps the first model, and goes on counting what is popular. <em>Greedy</em> shows its best guesses, "
        "<em>exploring</em> draws from them; both are retrained after each round on what their own people did. "
        "<em>Best slates</em> know each person's true tastes. Bands are 95% intervals over people. Of the exploring arm's "
        f"{loop['retrains']['exploring']} retrains, {loop['promoted']['exploring']} went live; the gate asked who is right "
        "about what people chose in the slates.</p>"
        f'<figure class="card"><h3>Expected clicks per request, by round</h3>{charts.reward_chart(loop)}</figure>'
        "<h2>The same system on recorded behaviour</h2>"
        f'<p class="note">A replay: what was shown cannot change what people did. {escape(replay.headline)} '
        f"{escape(replay.detail)}</p>"
    )


def _tiles(report: Report) -> Iterable[str]:
    rounds, later, spent = report["rounds"], later_rounds(report), report["request_ms"]
    asked = sum(entry["asked"] for entry in rounds)
    when = f"rounds {later[0]['round']}–{later[-1]['round']}" if len(later) > 1 else "round 2"
    if later:
        others = " · ".join(f"{name_of(who)} {figure(pooled(later, who))}" for who in ("static", "popularity_7d"))
        yield _tile(f"HR@10, {when}", figure(pooled(later, "retrained")), others)
    if (gap := paired(report)) is not None:
        scale = 1.15 * max(abs(gap["low"]), abs(gap["high"]), TOLERANCE)
        band = _bar(gap["hr@10"], gap["low"], gap["high"], low_end=-scale, high_end=scale, tone="retrained", mark=0.0)
        yield _tile("Retrained − static", signed(gap["hr@10"]), f"95%: {signed(gap['low'])} to {signed(gap['high'])}", band)
    training = f"{seconds(_training(rounds))} of it training; the first model took {seconds(report['train_seconds'])}"
    yield _tile("One retrain", seconds(mean([whole_retrain(entry) for entry in rounds])), training)
    yield _tile("The gate rejected", f"{report['rejected']} of {len(rounds)}", "then the model before goes on serving")
    speed = f"of {asked:,} asked · p50 {milliseconds(spent['p50'])} · p99 {milliseconds(spent['p99'])}"
    yield _tile("Failed requests", f"{report['failed_requests']:,}", speed, bad=report["failed_requests"] > 0)


def _training(rounds: Sequence[Mapping[str, Any]]) -> float:
    """Mean seconds of training in a retrain."""
    return mean([entry["retrain_seconds"].get("train", 0.0) for entry in rounds])


def _tile(what: str, value: str, note: str, extra: str = "", *, bad: bool = False) -> str:
    note = re.sub(r"(?<=\d) (?=(?:ms|min|s)\b)|(?<=p\d\d) ", "\u00a0", note)  # a number and its unit stay on one line
    inside = f'<span class="what">{escape(what)}</span><b>{escape(value)}</b>{extra}<span>{escape(note)}</span>'
    return f'<div class="tile{" bad" if bad else ""}">{inside}</div>'


def _bar(
    value: float, low: float | None, high: float | None, *, low_end: float, high_end: float, tone: str, mark: float | None = None
) -> str:
    """A dot in its interval on a scale from `low_end` to `high_end`, with a line at `mark`."""

    def at(x: float) -> str:
        return f"{100 * (x - low_end) / (high_end - low_end):.2f}%"

    line = "" if mark is None else f'<s style="left: {at(mark)}"></s>'
    band = ""
    if low is not None and high is not None:
        band = f'<i style="left: {at(low)}; right: calc(100% - {at(high)})"></i>'
    return f'<span class="bar" style="--tone: var(--{tone})">{line}{band}<u style="left: {at(value)}"></u></span>'


def _rounds_table(rounds: Sequence[Mapping[str, Any]]) -> str:
    heads = ["round", "events", "asked", *[name_of(who) for who in SIDE_BY_SIDE] * 2, "retrain took", "then", "version"]
    group = "".join(f'<th class="group" colspan="3">{word}</th>' for word in ("", "HR@10", "NDCG@10"))
    rows = []
    for entry in rounds:
        then = '<span class="yes">swapped in</span>' if entry["promoted"] else '<span class="no">rejected</span>'
        cells = [f"{entry['round']}", f"{entry['events']:,}", f"{entry['asked']:,}"]
        cells += [figure(entry[who].get(key)) for key in ("hr@10", "ndcg@10") for who in SIDE_BY_SIDE]
        cells += [seconds(whole_retrain(entry)), then, escape(str(entry.get("version") or "–"))]
        rows.append(f'<tr class="said">{_cells(cells)}</tr>')
        rows.append(f'<tr class="why"><td></td><td colspan="{len(heads) - 1}">{escape(str(entry["verdict"]))}</td></tr>')
    return _table(heads, rows, group=group)


def _models_table(report: Report) -> str:
    """Static, frozen and the baselines, the best first."""
    models = {name: report[name] for name in ("static", "frozen")} | report["baselines"]
    models = dict(sorted(models.items(), key=lambda named: -(named[1].get("hr@10") or 0.0)))
    keys = [key for key in METRICS if any(row.get(key) is not None for row in models.values())]
    bands = {name: (row.get("intervals") or {}).get("hr@10") or (None, None) for name, row in models.items()}
    ends = [x for name, row in models.items() for x in (row.get("hr@10"), *bands[name]) if x is not None]
    scale = 1.06 * max(ends, default=0.0) or 1.0
    rows = []
    for name, row in models.items():
        low, high = bands[name]
        tone = {"static": "retrained", "frozen": "retrained", "popularity_7d": "popularity-7d"}.get(name, "static")
        bar = _bar(row["hr@10"], low, high, low_end=0.0, high_end=scale, tone=tone) if known(row.get("hr@10")) else ""
        called = f"tfrec, {name_of(name)}" if name in ("static", "frozen") else name_of(name)
        cells = [escape(called), figure(row.get("hr@10")), bar, *(figure(row.get(key)) for key in keys)]
        rows.append(f'<tr class="{"ours" if name == "static" else ""}">{_cells(cells)}</tr>')
    return _table(["model", "HR@10", "", *(METRICS[key] for key in keys)], rows)


def _cells(cells: Iterable[str]) -> str:
    return "".join(f"<td>{cell}</td>" for cell in cells)


def _table(heads: Iterable[str], rows: Iterable[str], *, group: str = "") -> str:
    head = "".join(f"<th>{word}</th>" for word in heads)
    return f"<table><thead><tr>{group}</tr><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _chance(items: int) -> str:
    return figure(10 / items) if items else "–"


def _taste(report: Report) -> str:
    """Similar items, and answers to searches: what a person can judge without a table."""
    parts = []
    for title, note, entries, name, answers in (
        ("What it thinks is alike", "the items nearest to one item", report.get("neighbours"), "item", "similar"),
        ("What it answers", "to a text, for a person with no history; items without any text are left out",
         report.get("examples"), "query", "answers"),
    ):
        if entries:
            cards = "".join(
                f'<div class="card"><h3 class="{name}">{escape(entry[name])}</h3>'
                f"<ol>{''.join(f'<li>{escape(answer)}</li>' for answer in entry[answers])}</ol></div>"
                for entry in entries
            )
            parts.append(f'<h2>{title}</h2><p class="note">{note}</p><div class="cards">{cards}</div>')
    return "\n".join(parts)
