"""Drift of the catalogue: tags and numbers of the newest version's items against dated samples of those before.

The log has neither tags nor prices. So each look keeps a sample of the catalogue, at most one a window: the 5,000 items whose ids
have the smallest hashes, which are the same items as long as they exist.
"""
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tfrec.config import MonitorsConfig
from tfrec.data import durable_files
from tfrec.data.feedback_log.duckdb_view import connected
from tfrec.monitors.estimates import GROUPS, MonitorFinding, compared, psi, ratio_change, unknown, worst
from tfrec.monitors.windows import LookWindows

SAMPLE = 5_000
_LEAST = 50  # items
_GONE = 0.9  # of the items of a tag
_TAGS, _RARE = 50, 0.01  # tags that are told apart, and the share of items below which they are not looked at alone


def catalogue_findings(items: pa.Table, directory: Path, config: MonitorsConfig,
                       windows: LookWindows) -> dict[str, MonitorFinding]:
    """Compare the items of a version with the samples in a directory, and keep a sample of them.

    Args:
        items: Columns `id`, `tags`, and maybe `numeric`.
        directory: Of the samples; it is created.
        config: What is compared.
        windows: Of the look; the oldest sample that is kept is one window older.
    """
    newest = _sample(items)
    kept = sorted(int(path.stem) for path in directory.glob("[0-9]*.parquet"))
    earlier = [one for one in kept if windows.start - windows.length <= one <= windows.end - windows.length // 2]
    tables = [*(pq.read_table(directory / f"{one}.parquet") for one in earlier[-config.windows:]), newest]
    found = {"catalogue_tags": _tags(tables, config), "catalogue_numbers": _numbers(tables, config)}
    if not kept or kept[-1] <= windows.end - windows.length:
        directory.mkdir(parents=True, exist_ok=True)
        sink = pa.BufferOutputStream()
        pq.write_table(newest, sink)
        durable_files.replace(directory / f"{windows.end}.parquet", sink.getvalue().to_pybytes())
        for one in kept:
            if one < windows.start - windows.length:
                (directory / f"{one}.parquet").unlink(missing_ok=True)
    return found


def _sample(items: pa.Table) -> pa.Table:
    """Some items, each with the group `grp` it is counted in; their texts and ids are not kept."""
    columns = ", ".join(name for name in ("tags", "numeric") if name in items.column_names)
    with connected() as db:
        db.register("items", items)
        found: pa.Table = db.sql(f"SELECT CAST(md5_number_lower(id) % {GROUPS} AS INTEGER) AS grp, {columns} FROM items "
                          f"ORDER BY md5_number_lower(id) LIMIT {SAMPLE}").to_arrow_table()
        return found


def _tags(tables: list[pa.Table], config: MonitorsConfig) -> MonitorFinding:
    """The tag of which most is gone, or the drift of all."""
    flat = [_flat(table) for table in tables]
    counted = pc.value_counts(pa.chunked_array([tags for _, tags in flat], pa.string()).combine_chunks())
    order = np.argsort(-counted.field("counts").to_numpy(), kind="stable")[:_TAGS]
    names = counted.field("values").take(pa.array(order))
    if not len(names):
        return unknown("no item has a tag")
    sums = np.zeros((GROUPS, len(tables), len(names) + 1))
    for number, (groups, tags) in enumerate(flat):
        np.add.at(sums[:, number], (groups, pc.index_in(tags, value_set=names).fill_null(len(names)).to_numpy()), 1.0)
    items = np.array([table.num_rows for table in tables], np.float64)
    of_groups = np.stack([np.bincount(table["grp"].to_numpy(), minlength=GROUPS) for table in tables], axis=1).astype(np.float64)
    look = partial(compared, unit="items", counts=items, least=_LEAST, level=config.level / (len(names) + 1))
    found = [look(psi, sums, margin=config.psi, side="rise", of="tags of items")]
    share = sums[:, :-1].sum(axis=(0, 1)) / max(items[:-1].sum(), 1)
    for at in np.flatnonzero(share[:-1] > _RARE):
        found.append(look(ratio_change, np.stack([sums[..., at], of_groups], axis=-1), margin=_GONE, side="fall",
                          of=f"items with the tag {names[int(at)].as_py()!r}"))
    return worst(found, none="no item has a tag")


def _numbers(tables: list[pa.Table], config: MonitorsConfig) -> MonitorFinding:
    """The numeric column that drifted most, by tenths of what its numbers were."""
    types = [table.schema.field("numeric").type if "numeric" in table.column_names else pa.struct([]) for table in tables]
    names = sorted({field.name for one in types for field in one})
    found = []
    for name in names:
        values = [_column(table, name) for table in tables]
        before = np.concatenate(values[:-1]) if len(values) > 1 else values[-1]
        known = before[~np.isnan(before)]
        edges = np.unique(np.quantile(known, np.linspace(0.1, 0.9, 9))) if len(known) else np.zeros(0)
        sums = np.zeros((GROUPS, len(tables), len(edges) + 2))  # the last is of items without a number
        for number, (table, column) in enumerate(zip(tables, values, strict=True)):
            part = np.where(np.isnan(column), len(edges) + 1, np.searchsorted(edges, column, side="left"))
            np.add.at(sums[:, number], (table["grp"].to_numpy(), part), 1.0)
        found.append(compared(psi, sums, counts=sums.sum(axis=(0, 2)), least=_LEAST, margin=config.psi, side="rise",
                              level=config.level / len(names), unit="items",
                              of=f"numbers of the column {name!r}"))
    return worst(found, none="the catalogue has no numbers")


def _column(table: pa.Table, name: str) -> np.ndarray:
    if "numeric" not in table.column_names or table.schema.field("numeric").type.get_field_index(name) < 0:
        return np.full(table.num_rows, np.nan)
    values = pc.struct_field(table["numeric"].combine_chunks(), name)
    return np.asarray(values.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)


def _flat(table: pa.Table) -> tuple[np.ndarray, pa.Array]:
    """The group and the tag of each tag of each item."""
    tags = table["tags"].combine_chunks()
    if isinstance(tags, pa.ChunkedArray):
        tags = pa.array([], tags.type)
    return table["grp"].to_numpy()[pc.list_parent_indices(tags).to_numpy()], pc.list_flatten(tags)
