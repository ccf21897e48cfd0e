"""Drift of the catalogue against dated samples: shapes of catalogues, and which samples are kept."""
from pathlib import Path

import pyarrow as pa
import pytest

from tfrec.config import MonitorsConfig
from tfrec.monitors.catalogue import SAMPLE, catalogue_findings
from tfrec.monitors.windows import LookWindows

HOUR, DAY = 3600, 86_400
WISH = MonitorsConfig()


def items(n: int = 200, *, tags: tuple[str, ...] = ("a", "b"), price: float | None = 10.0) -> pa.Table:
    numbers = [None if price is None else {"price": price + row % 10} for row in range(n)]
    kinds = pa.struct([("price", pa.float64())])
    return pa.table({"id": [f"i{row}" for row in range(n)], "tags": pa.array([[tags[row % len(tags)]] if tags else None
                     for row in range(n)], pa.list_(pa.string())), "numeric": pa.array(numbers, kinds)})


def looked(directory: Path, table: pa.Table, day: float):
    found = catalogue_findings(table, directory, WISH, LookWindows.of(WISH, now=int(1_000 * DAY + day * DAY)))
    return {name: one.state for name, one in found.items()}


def after_days(directory: Path, table: pa.Table, days: int = 5) -> None:
    for day in range(days):
        looked(directory, table, day)


def test_samples_are_one_a_window_and_the_old_ones_go(tmp_path: Path) -> None:
    for hour in range(0, 24 * 12, 8):
        looked(tmp_path, items(), hour / 24)
    kept = sorted(int(path.stem) for path in tmp_path.glob("*.parquet"))
    assert len(kept) == WISH.windows + 3
    assert {later - earlier for earlier, later in zip(kept, kept[1:], strict=False)} == {DAY}


@pytest.mark.parametrize("table", [items(0), items(60, tags=()), items(60, price=None), items(60).select(["id", "tags"])])
def test_catalogues_that_lack_something_are_unknown_or_ok(tmp_path: Path, table: pa.Table) -> None:
    after_days(tmp_path, table)
    assert set(looked(tmp_path, table, 5).values()) <= {"ok", "unknown"}


def test_a_small_tag_that_is_gone_is_named(tmp_path: Path) -> None:
    """Two items of a hundred: the index of all tags hardly moves."""
    many = tuple(["big"] * 49 + ["small"])
    after_days(tmp_path, items(500, tags=many))
    windows = LookWindows.of(WISH, now=1_005 * DAY)
    found = catalogue_findings(items(500, tags=("big",)), tmp_path, WISH, windows)["catalogue_tags"]
    assert (found.state, "'small'" in found.why) == ("alarm", True)


def test_numbers_that_are_gone_or_new_are_drift(tmp_path: Path) -> None:
    after_days(tmp_path, items())
    assert looked(tmp_path, items(price=None), 5)["catalogue_numbers"] == "alarm"
    assert looked(tmp_path, items(price=70.0), 5.01)["catalogue_numbers"] == "alarm"
    assert looked(tmp_path, items(), 5.02) == {"catalogue_tags": "ok", "catalogue_numbers": "ok"}


def test_of_a_large_catalogue_the_same_items_are_compared(tmp_path: Path) -> None:
    after_days(tmp_path, items(3 * SAMPLE))
    assert looked(tmp_path, items(3 * SAMPLE + 500), 5) == {"catalogue_tags": "ok", "catalogue_numbers": "ok"}
