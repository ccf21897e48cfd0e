"""Files that are not what their names say, and directories of files."""
import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.readers.rows_of_path import read_rows
from tfrec.data.items.catalogue import read_catalogue
from tfrec.data.readers.event_files import read_events
from tfrec.data.readers.files import contents_digest, data_files
from tfrec.errors import DataError

CSV = "id,title\n1,Ball\n"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", CSV.encode("utf-16"), "UTF-16 by its first bytes. Save it as UTF-8: iconv -f UTF-16 "),
        ("a.csv", CSV.encode("utf-16-le"), "UTF-16 by its zero bytes. Save it as UTF-8: iconv -f UTF-16LE"),
        ("a.jsonl", '{"id": 1}\n'.encode("utf-16-be"), "UTF-16 by its zero bytes. Save it as UTF-8: iconv -f UTF-16BE"),
        ("a.csv", "id,title\n1,Ball\n2,Caf\u00e9\n".encode("latin-1"), r"not UTF-8 \(line 3, byte 0xe9\).*iconv -f WINDOWS-1252"),
        ("a.csv", gzip.compress(CSV.encode(), mtime=0), "packed by gzip, but its name does not say so. Rename it to a.csv.gz"),
        ("a.csv.gz", CSV.encode(), "expected gzip by its name, but it is not packed"),
        ("a.csv.gz", gzip.compress(CSV.encode() * 100, mtime=0)[:-12], "truncated or damaged"),
        ("a.csv.gz", gzip.compress(b"", mtime=0), "empty. Expected a header line"),
        ("a.csv", b"", "empty. Expected a header line"),
        ("a.jsonl", b"", "empty. Expected one JSON object a line"),
        ("a.parquet", b"", "empty. Expected a Parquet file"),
        ("a.parquet", CSV.encode() * 9, "truncated or damaged"),
        ("a.csv", b"PK\x03\x04rest", "zip archive or an Excel sheet"),
        ("a.csv", b"PAR1rest", "a Parquet file. Rename it to a.parquet"),
        ("a.json", b"[]", r"unknown format '.json'. .*jq -c '.\[\]'"),
        ("a.TSV", b"x", "unknown format '.TSV'. .*Save it with commas"),
        ("a.parquet.gz", b"x", "unknown format '.parquet.gz'"),
        ("a.xlsx", b"x", "Save the sheet as CSV UTF-8"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused_with_what_to_do(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: .*{said}"):
        list(read_rows(tmp_path / name, quarantine=None))
    with pytest.raises(DataError, match=rf"{name}: .*{said}"):
        read_events(tmp_path / name, None)


@pytest.mark.parametrize("name", ["A.CSV", "a.Csv", "A.CSV.GZ"])
def test_capitals_in_the_ending_are_the_same_format(tmp_path, name):
    content = CSV.encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("GZ") else content)
    assert read_catalogue(tmp_path / name).texts == ["Ball"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_a_byte_order_mark_change_nothing(tmp_path, mark, end):
    (tmp_path / "i.csv").write_bytes((mark + CSV.replace("\n", end)).encode())
    (tmp_path / "i.jsonl").write_bytes((mark + '{"id": 1, "title": "Ball"}\n{"id": 2}\n'.replace("\n", end)).encode())
    (tmp_path / "e.csv").write_bytes((mark + "user,item,time\nu,1,5\n".replace("\n", end)).encode())
    assert read_catalogue(tmp_path / "i.csv").texts == ["Ball"]
    assert read_catalogue(tmp_path / "i.jsonl").texts == ["Ball", ""]
    assert read_events(tmp_path / "e.csv", None).to_pylist() == [
        {"user": "u", "item": "1", "time": 5, "action": "view", "value": 1.0}]


def part(path, suffix, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path.with_suffix(".parquet"))
    else:
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        path.with_suffix(".csv").write_text("\n".join(lines))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_directory_is_read_as_its_files_in_order(tmp_path, suffix):
    for number in (2, 1):
        part(tmp_path / "items" / f"part-{number}", suffix, [{"id": f"i{number}", "title": f"thing {number}"}])
        event = {"user": "u", "item": f"i{number}", "time": number}
        part(tmp_path / "events" / f"action=click{number}" / "part-0", suffix, [event])
    for directory in ("items", "events"):
        (tmp_path / directory / "_SUCCESS").write_text("")
        (tmp_path / directory / ".part-1.crc").write_text("x")
    catalogue, events = read_catalogue(tmp_path / "items"), read_events(tmp_path / "events", None)
    assert catalogue.texts == ["thing 1", "thing 2"]
    assert events["item"].to_pylist() == ["i1", "i2"]
    assert events["action"].to_pylist() == ["click1", "click2"]  # a column that the folders say


def test_a_directory_names_the_file_of_a_bad_row(tmp_path):
    part(tmp_path / "d" / "a", "csv", [{"user": "u", "item": "i", "time": 1}])
    part(tmp_path / "d" / "b", "csv", [{"user": "u", "item": "i", "time": "soon"}])
    with pytest.raises(DataError, match=r"d/b\.csv line 2: \"time\""):
        read_events(tmp_path / "d", None)


def test_a_directory_without_files_or_with_several_formats_is_refused(tmp_path):
    (tmp_path / "d").mkdir()
    with pytest.raises(DataError, match="the directory holds no file"):
        data_files(tmp_path / "d")
    part(tmp_path / "d" / "a", "csv", [{"id": "1"}])
    part(tmp_path / "d" / "b", "parquet", [{"id": "1"}])
    with pytest.raises(DataError, match=r"files of one format, got a\.csv, b\.parquet"):
        data_files(tmp_path / "d")
    with pytest.raises(DataError, match="no such file"):
        data_files(tmp_path / "absent.csv")


def test_the_digest_is_of_the_contents_and_of_what_names_say(tmp_path: Path) -> None:
    def written(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    one = contents_digest(written("a.csv", "user,item\nu,i\n"))
    assert contents_digest(written("b.csv", "user,item\nu,i\n")) == one
    assert contents_digest(written("c.CSV", "user,item\nu,i\n")) == one
    assert contents_digest(written("a.csv", "user,item\nu,j\n")) != one
    assert contents_digest(written("d.jsonl", "user,item\nu,i\n")) != one
    written("folder/action=click/a.csv", "user,item\nu,i\n")
    clicks = contents_digest(tmp_path / "folder")
    written("folder/.hidden", "not data")
    assert contents_digest(tmp_path / "folder") == clicks != one
    (tmp_path / "folder/action=click").rename(tmp_path / "folder/action=buy")
    bought = contents_digest(tmp_path / "folder")
    written("folder/action=buy/b.csv", "user,item\nu,i\n")
    assert len({clicks, bought, contents_digest(tmp_path / "folder")}) == 3
    with pytest.raises(DataError, match="e.csv: empty"):
        contents_digest(written("e.csv", ""))
