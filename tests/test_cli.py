"""The program as a person meets it: in a process of its own, by its exit code and its two streams."""
import subprocess
import sys
from pathlib import Path

import tfrec

ROOT = Path(__file__).parent.parent


def program(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "tfrec", *words], capture_output=True, text=True, cwd=ROOT, timeout=120)


def test_the_version_is_printed():
    found = program("--version")
    assert (found.returncode, found.stdout, found.stderr) == (0, f"{tfrec.__version__}\n", "")


def test_without_a_command_the_help_is_shown():
    assert "Search and recommendation that learns from its own feedback." in program().stdout


def test_an_unknown_command_is_wrong_usage():
    found = program("recommend-everything")
    assert (found.returncode, found.stdout) == (2, "")
    assert "recommend-everything" in found.stderr
