"""Laws of the layout: sizes of folders, files and functions, one meaning for a class name, and no test reads a private name."""
import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = sorted((ROOT / "tfrec").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
FOLDERS = sorted({path.parent for path in (*PACKAGE, *TESTS)})
PATCHES = {"setattr", "delattr", "patch", "object"}  # pytest's and mock's ways of replacing what a name stands for


@cache
def lines_of(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


@cache
def nodes_of(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_a_folder_has_at_most_20_files_and_2500_lines(folder: Path) -> None:
    files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(files) <= 20
    assert sum(map(lines_of, files)) <= 2500


@pytest.mark.parametrize("path", [*PACKAGE, *TESTS], ids=name_of)
def test_a_file_has_at_most_400_lines(path: Path) -> None:
    assert lines_of(path) <= 400


def test_half_of_the_files_have_at_most_130_lines() -> None:
    assert median(map(lines_of, PACKAGE)) <= 130


@pytest.mark.parametrize("path", PACKAGE, ids=name_of)
def test_a_function_has_at_most_60_lines(path: Path) -> None:
    for node in nodes_of(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 60, f"{node.name} at line {node.lineno}"


def test_one_class_name_means_one_thing() -> None:
    names = Counter(node.name for path in PACKAGE for node in nodes_of(path) if isinstance(node, ast.ClassDef))
    assert [name for name, count in names.items() if count > 1] == []


def private_names(path: Path) -> Iterator[str]:
    """What a test takes from inside the package by way of a string or an import; attributes are ruff's business (SLF)."""
    for node in nodes_of(path):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tfrec"):
            yield from (alias.name for alias in node.names if alias.name.startswith("_") and not alias.name.startswith("__"))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from re.findall(r"\btfrec(?:\.\w+)*\._[a-z]\w*", node.value, re.IGNORECASE)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in PATCHES:
            words = [word.value for word in node.args[1:2] if isinstance(word, ast.Constant) and isinstance(word.value, str)]
            yield from (word for word in words if word.startswith("_"))


@pytest.mark.parametrize("path", TESTS, ids=name_of)
def test_no_test_reads_a_private_name(path: Path) -> None:
    assert list(private_names(path)) == []
