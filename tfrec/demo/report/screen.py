"""The last screen of `tfrec demo`: what was found, the rounds, the time of each step, and where the page is."""
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tfrec.demo.report.words import (
    STAGES,
    Report,
    clicks,
    figure,
    finding,
    later_rounds,
    loop_finding,
    milliseconds,
    name_of,
    paired,
    pooled,
    seconds,
    signed,
    whole_retrain,
)

TONES = {"better": "bold green", "same": "bold", "worse": "bold red", "rejected": "bold yellow"}


def render_screen(report: Report, page: Path) -> RenderableType:
    """The screen, for rich, in 80 columns. `page` is the path that `write_report` returned."""
    found, loop = finding(report), report.get("closed_loop")
    return Group(
        *(() if loop is None else _closed_loop(loop)),
        "",
        Text(found.headline, style=TONES[found.mood]),
        Text(found.detail, style="dim"),
        "",
        _rounds(report),
        "",
        _costs(report),
        "",
        _ends(report, page),
    )


def _closed_loop(loop: Mapping[str, Any]) -> Iterator[RenderableType]:
    """What learning from its own slates brought, and the reward of each arm by round."""
    found = loop_finding(loop)
    yield from ("", Text(found.headline, style=TONES[found.mood]), Text(found.detail, style="dim"), "")
    arms = [arm for arm in ("static", "greedy", "exploring", "best") if arm in loop["reward"]]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for head in ("round", *map(name_of, arms)):
        table.add_column(head, justify="right", no_wrap=True)
    for number, _ in enumerate(loop["reward"]["static"]):
        table.add_row(str(number + 1), *(clicks(loop["reward"][arm][number][0]) for arm in arms),
                      end_section=number + 1 == loop["drift"])
    yield table
    yield Text(f"expected clicks of a request; tastes drift after round {loop['drift']}", style="dim italic")


def _rounds(report: Report) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for head in ("round", "asked", "static", "retrained", "7-day pop.", "retrain", "then", "version"):
        table.add_column(head, justify="left" if head == "then" else "right", no_wrap=True)
    for entry in report["rounds"]:
        then = Text("swapped in", "green") if entry["promoted"] else Text("rejected", "yellow")
        rates = [figure(entry[who]["hr@10"]) for who in ("static", "retrained", "popularity_7d")]
        spent = seconds(whole_retrain(entry))
        table.add_row(str(entry["round"]), f"{entry['asked']:,}", *rates, spent, then, str(entry.get("version") or "–"))
    later = later_rounds(report)
    if later:
        table.add_section()
        rates = [figure(pooled(later, who)) for who in ("static", "retrained", "popularity_7d")]
        when = f"{later[0]['round']}–{later[-1]['round']}" if len(later) > 1 else str(later[0]["round"])
        table.add_row(when, f"{sum(entry['asked'] for entry in later):,}", *rates, "", "", "", style="bold")
    table.caption = "HR@10 of the same requests"
    table.caption_justify = "left"
    return table


def _costs(report: Report) -> Table:
    """Two lists side by side: the steps of the demo, and the stages of a retrain."""
    steps = [(name, seconds(spent)) for name, spent in report["steps"].items()]
    spent = [entry["retrain_seconds"] for entry in report["rounds"]]
    stages = [(stage, seconds(sum(s.get(stage, 0.0) for s in spent) / len(spent))) for stage in STAGES]
    stages.append(("whole", seconds(sum(map(whole_retrain, report["rounds"])) / len(spent))))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for head in ("step", "took", "", "a retrain, on average", "took"):
        table.add_column(head, justify="right" if head == "took" else "left")
    for i in range(max(len(steps), len(stages))):
        left, right = (some[i] if i < len(some) else ("", "") for some in (steps, stages))
        table.add_row(*left, "", *right)
    return table


def _ends(report: Report, page: Path) -> Table:
    rounds, gap, spent = report["rounds"], paired(report), report["request_ms"]
    asked = sum(entry["asked"] for entry in rounds)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    if gap is not None:
        words = f"{signed(gap['hr@10'])} HR@10, 95% interval [{signed(gap['low'])}, {signed(gap['high'])}]"
        table.add_row("retrained − static", Text(words))
    table.add_row("gate", Text(f"rejected {report['rejected']} of {len(rounds)}"))
    failed = report["failed_requests"]
    latency = f"p50 {milliseconds(spent['p50'])}, p99 {milliseconds(spent['p99'])}"
    table.add_row("requests", Text(f"{asked:,} asked, {failed:,} failed; {latency}", "bold red" if failed else ""))
    table.add_row("report", Text(str(page), "bold", overflow="fold"))
    table.add_row("", Text(str(page.with_name("report.json")), overflow="fold"))
    return table
