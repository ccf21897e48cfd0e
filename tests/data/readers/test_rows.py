import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.readers.rows_of_path import read_rows
from tfrec.data.readers.quarantine import Quarantine
from tfrec.data.readers.validation import read_records
from tfrec.data.records import Outcome
from tfrec.errors import DataError

GOOD = {"event_id": "e1", "user": "u", "item": "i", "action": "click", "time": 7}


def lines(path, *rows):
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


def test_the_three_formats_give_the_same_rows(tmp_path):
    rows = [{"user": "a", "n": 1}, {"user": "b", "n": 2}]
    lines(tmp_path / "r.jsonl", *rows)
    (tmp_path / "r.csv").write_text("user,n\na,1\nb,2\n")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "r.parquet")
    assert list(read_rows(tmp_path / "r.jsonl", quarantine=None)) == [(1, rows[0]), (2, rows[1])]
    assert list(read_rows(tmp_path / "r.parquet", quarantine=None)) == [(1, rows[0]), (2, rows[1])]
    assert list(read_rows(tmp_path / "r.csv", quarantine=None)) == [(2, {"user": "a", "n": "1"}), (3, {"user": "b", "n": "2"})]


@pytest.mark.parametrize("name", ["r.jsonl.gz", "r.csv.gz"])
def test_gzip_is_read_and_a_truncated_one_refused(tmp_path, name):
    text = '{"a": "x"}\n' * 1000 if "jsonl" in name else "a\n" + "x\n" * 1000
    packed = gzip.compress(text.encode())
    (tmp_path / name).write_bytes(packed)
    assert [row for _, row in read_rows(tmp_path / name, quarantine=None)] == [{"a": "x"}] * 1000
    (tmp_path / name).write_bytes(packed[:-9])
    with pytest.raises(DataError, match=f"{name}: truncated or damaged"):
        list(read_rows(tmp_path / name, quarantine=None))


def test_empty_cells_and_nulls_are_absent(tmp_path):
    (tmp_path / "r.csv").write_text("a,b\n,2\n\n3,\n")
    assert list(read_rows(tmp_path / "r.csv", quarantine=None)) == [(2, {"b": "2"}), (4, {"a": "3"})]
    lines(tmp_path / "r.jsonl", {"a": None, "b": 0}, "\n", {"a": False})
    assert list(read_rows(tmp_path / "r.jsonl", quarantine=None)) == [(1, {"b": 0}), (3, {"a": False})]


def test_a_quoted_line_break_keeps_the_line_count(tmp_path):
    (tmp_path / "r.csv").write_text('\ufeffa,b\n"two\nlines",1\nx,2\n', encoding="utf-8")
    assert list(read_rows(tmp_path / "r.csv", quarantine=None)) == [(3, {"a": "two\nlines", "b": "1"}), (4, {"a": "x", "b": "2"})]


def test_a_text_of_200_000_characters_is_read(tmp_path):
    (tmp_path / "r.csv").write_text("a\n" + "x" * 200_000 + "\n")
    [(_, row)] = read_rows(tmp_path / "r.csv", quarantine=None)
    assert len(row["a"]) == 200_000


def test_a_bad_row_is_named_with_file_line_field_and_value(tmp_path):
    path = lines(tmp_path / "log.jsonl", GOOD, GOOD | {"time": "yesterday"})
    with pytest.raises(DataError, match=r'log.jsonl line 2: "time": .*valid integer.*got "yesterday". Fix the row'):
        list(read_records(path, Outcome, quarantine=None))


def test_bad_rows_are_set_aside_and_the_rest_used(tmp_path):
    missing = {k: v for k, v in GOOD.items() if k != "user"}
    endless, second = GOOD | {"value": "NaN"}, GOOD | {"event_id": "e2"}
    path = lines(tmp_path / "log.jsonl", GOOD, missing, '{"event_id": \n', "[1]\n", endless, second)
    quarantine = Quarantine(tmp_path / "run" / "bad.jsonl")
    good = list(read_records(path, Outcome, quarantine=quarantine))
    bad = [json.loads(line) for line in quarantine.path.read_text().splitlines()]
    assert [o.event_id for o in good] == ["e1", "e2"]
    assert [b["line"] for b in bad] == [2, 3, 4, 5]
    assert {b["file"] for b in bad} == {str(path)}
    assert bad[0]["reason"] == '"user": field required'
    assert bad[0]["row"] == missing
    assert "not JSON" in bad[1]["reason"]
    assert "expected a JSON object, got [1]" in bad[2]["reason"]
    assert '"value"' in bad[3]["reason"]
    assert quarantine.count == 4
    assert quarantine.summary() == f"4 bad rows set aside in {quarantine.path}, each with its file, line and reason"


def test_a_quarantine_starts_empty(tmp_path):
    first = Quarantine(tmp_path / "bad.jsonl")
    first.add("f", 1, reason="r", row=None)
    assert first.path.exists()
    again = Quarantine(tmp_path / "bad.jsonl")
    assert not again.path.exists()
    assert again.summary() == "no rows set aside"


def test_csv_rows_of_the_wrong_width(tmp_path):
    (tmp_path / "r.csv").write_text("a,b\n1\n1,2,3\n1,2\n")
    quarantine = Quarantine(tmp_path / "bad.jsonl")
    assert [line for line, _ in read_rows(tmp_path / "r.csv", quarantine=quarantine)] == [4]
    assert quarantine.count == 2
    assert "expected 2 columns (a,b), got 1" in quarantine.path.read_text()


@pytest.mark.parametrize("text", [b"\xff\xfe\x00a", b"a\n\xff\n"])
def test_a_file_that_is_not_utf8(tmp_path, text):
    (tmp_path / "r.csv").write_bytes(text)
    with pytest.raises(DataError, match=r"r.csv: not UTF-8 .*Save it as UTF-8"):
        list(read_rows(tmp_path / "r.csv", quarantine=None))


def test_a_truncated_parquet_file_is_named(tmp_path):
    path = tmp_path / "r.parquet"
    pq.write_table(pa.table({"a": list(range(1000))}), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"r.parquet: truncated or damaged"):
        list(read_rows(path, quarantine=Quarantine(tmp_path / "bad.jsonl")))


@pytest.mark.parametrize(("name", "message"), [("absent.csv", "no such file"), ("r.xlsx", "unknown format '.xlsx'")])
def test_files_that_cannot_be_read(tmp_path, name, message):
    (tmp_path / "r.xlsx").write_text("")
    with pytest.raises(DataError, match=message):
        list(read_rows(tmp_path / name, quarantine=None))


def test_an_empty_csv_has_no_header(tmp_path):
    (tmp_path / "r.csv").write_text("")
    with pytest.raises(DataError, match="Expected a header line"):
        list(read_rows(tmp_path / "r.csv", quarantine=None))
