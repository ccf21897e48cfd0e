"""How the files beside this one were made: python make.py PEERS.py

`interactions.csv` and `items.csv` are drawn here; `expected.json` is what PEERS.py, the reference implementation of the quality
protocol, prints for them, with all digits. The log has baskets of one second, repeats, rows out of order, items that appear
only in the last fifth, items without any event and a person with a single second. The reference ranks items with the same
training users by the rounding of its matrix inverse, which another processor need not share; with this seed no such item that
is asked comes above rank 54.
"""
import contextlib
import io
import json
import re
import sys
import warnings
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
DAY = 86_400
NUMBER = r"(nan|[-+0-9.e]+)"
KEYS = ["hr@10", "ndcg@10", "low", "high", "hr@50", "cold_hr@10", "untouched_hr@10"]


def draw(seed: int) -> tuple[list[str], list[str]]:
    """Rows of interactions.csv and of items.csv."""
    rng = np.random.default_rng(seed)
    n_items, n_users = 160, 48
    born = np.where(rng.random(n_items) < 0.75, 0, rng.integers(0, 90 * DAY, n_items))
    appeal = rng.pareto(1.2, n_items) + 0.3
    rows = []
    for user in range(n_users):
        joined, size = rng.integers(0, 70 * DAY), rng.integers(6, 50)
        second = joined
        for _ in range(size):
            second += int(rng.integers(1, 3 * DAY)) if rng.random() < 0.7 else 0  # else the same basket
            there = np.flatnonzero((born <= second) & (np.arange(n_items) < 155))
            weight = appeal[there] * np.where(there % 4 == user % 4, 4, 1) / (1 + (second - born[there]) / (20 * DAY))
            item = rng.choice(there, p=weight / weight.sum())
            rows.append(f"u{user},i{item},{1_400_000_000 + second}")
    rows += [f"loner,i{item},{1_400_000_000 + 95 * DAY}" for item in (3, 5)]
    rng.shuffle(rows)
    return ["user,item,time", *rows], ["item,text", *(f"i{k},Item number {k}" for k in range(n_items))]


def reference(baselines: Path, *files: str) -> dict[str, object]:
    """What peers.py prints, as numbers."""
    source = baselines.read_text().replace(".4f", ".17g").replace(".3f", ".17g")
    space: dict[str, object] = {"__name__": "peers"}
    exec(compile(source, str(baselines), "exec"), space)
    out = io.StringIO()
    with contextlib.redirect_stdout(out), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        space["main"](*files)  # type: ignore[operator]
    head, *rows = out.getvalue().strip().splitlines()
    totals = r"(\d+) events, (\d+) users, (\d+) items; asked (\d+) events of (\d+) users; "
    counts = re.match(rf"{totals}cold {NUMBER}, untouched {NUMBER}", head).groups()
    names = ["events", "users", "items", "asked", "asked_users"]
    found: dict[str, object] = dict(zip(names, map(int, counts[:5]), strict=True))
    found |= {"cold": float(counts[5]), "untouched": float(counts[6]), "baselines": {}}
    columns = rf"HR@10 {NUMBER}  NDCG@10 {NUMBER} \[{NUMBER}, {NUMBER}\]  HR@50 {NUMBER}  "
    columns += rf"cold HR@10 {NUMBER}  untouched HR@10 {NUMBER}"
    for row in rows:
        name, *values = re.match(rf"(.{{20}}) {columns}", row).groups()
        found["baselines"][name.strip()] = dict(zip(KEYS, map(float, values), strict=True))  # type: ignore[index]
    return found


if __name__ == "__main__":
    interactions, items = HERE / "interactions.csv", HERE / "items.csv"
    for path, lines in zip([interactions, items], draw(seed=3), strict=True):
        path.write_text("\n".join(lines) + "\n")
    expected = {
        "with items": reference(Path(sys.argv[1]), str(interactions), str(items)),
        "without items": reference(Path(sys.argv[1]), str(interactions)),
    }
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
