"""The last screen fits a terminal of 80 columns and says where the page is."""
import io
from pathlib import Path

from rich.console import Console

from tests.demo.report.sample import loop_sample, sample
from tfrec.demo.report import render_screen


def screen(report) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=80).print(render_screen(report, Path("runs/demo/report.html")))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_screen():
    lines = screen(sample())
    assert lines[1].startswith("Retraining made no difference that can be told from chance")
    assert "    3    993   .0791      .0810       .0263     18 s  rejected          3" in lines
    assert "  2–5  3,974   .0832      .0863       .0239" in lines
    assert "train                 1 min 28 s    export                 2.4 s" in lines
    assert "retrained − static  +.0031 HR@10, 95% interval [−.0019, +.0083]" in lines
    assert "gate                rejected 1 of 5" in lines
    assert "requests            4,965 asked, 0 failed; p50 8.4 ms, p99 31 ms" in lines
    assert "report              runs/demo/report.html" in lines
    assert max(map(len, lines)) <= 80


def test_nothing_to_compare():
    report = sample()
    lines = screen(report | {"rounds": report["rounds"][:1], "paired_difference": None})
    assert not any("interval" in line for line in lines)


def test_the_closed_loop_stands_first():
    lines = screen(sample() | {"closed_loop": loop_sample()})
    assert lines[1].startswith("It learns from its own feedback")
    assert "    3    0.20    0.20       0.25         2.35" in lines
    assert "expected clicks of a request; tastes drift after round 2" in lines
    assert lines.index("    5    0.15    0.40       0.60         2.20") < next(
        at for at, line in enumerate(lines) if line.startswith("Retraining made no difference"))
    assert max(map(len, lines)) <= 80
