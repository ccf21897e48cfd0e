"""Files of behaviour: both ways of reading agree, and a time that is none says what was expected."""
import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrec.data.readers.event_files import FileEvent, read_events
from tfrec.data.readers.quarantine import Quarantine
from tfrec.data.readers.validation import read_records
from tfrec.errors import DataError

IDS = st.sampled_from(["a", '"a"', '"a', 'a"b', 'a"', " 10", "10.0", "", '"x,y"', '"x\ny"', '"a""b"', "é", "nan", "a\0b", '"" '])
TIMES = st.sampled_from(["5", '"5"', " 5", "+5", "5.0", "1e3", "-1", "", "1_0", "５", "05", "99999999999", "100000000000"])
VALUES = st.sampled_from(["1", "1.5", "", " 2", "1e3", "nan", "inf", '"3"', "-1", "1_0", ".5"])


@given(st.lists(st.tuples(IDS, IDS, TIMES, IDS, VALUES), min_size=1, max_size=2))
def test_column_by_column_reads_what_row_by_row_does(rows):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "e.csv"
        path.write_text("user,item,time,action,value\n" + "".join(",".join(row) + "\n" for row in rows))

        def outcome(read):
            try:
                return read()
            except DataError as error:
                return str(error)

        fast = outcome(lambda: read_events(path, None).to_pylist())
        slow = outcome(lambda: [event.model_dump() for event in read_records(path, FileEvent, quarantine=None)])
    assert fast == slow


@pytest.mark.parametrize(
    ("time", "said"),
    [
        ("1700000000000", r"seem to be milliseconds \(divide by 1,000\)"),
        ("978300760000", r"seem to be milliseconds \(divide by 1,000\)"),  # of 2001: below any limit of a counter
        ("1700000000000000", "seem to be microseconds"),
        ("1700000000000000000", "seem to be nanoseconds"),
        ("2023-11-14T22:13:20Z", "1700000000 for this date, got"),
        ("2023-11-14 22:13:20", "1700000000 for this date, if it is in UTC"),
        ("2023-11-14", "1699920000 for this date, if it is in UTC"),
        ("1700000000.25", r"\(cut the fraction off: 1700000000\)"),
        ("-5", "expected whole seconds since 1970 UTC, got"),
        ("yesterday", "expected whole seconds since 1970 UTC, got"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_time_that_is_none_says_seconds_since_1970_and_the_likely_unit(tmp_path, suffix, time, said):
    path = tmp_path / f"e.{suffix}"
    value = time if any(c in time for c in ":T y") or time.count("-") > 1 else json.loads(time)
    row = json.dumps({"user": "u", "item": "i", "time": value})
    path.write_text(f"user,item,time\nu,i,{time}\n" if suffix == "csv" else f"{row}\n")
    with pytest.raises(DataError, match=rf'"time": .*expected whole seconds since 1970 UTC.*{said}'.replace(
            ".*expected whole seconds since 1970 UTC, got", ", got")):
        read_events(path, None)


def test_a_timestamp_of_parquet_says_its_seconds(tmp_path):
    pq.write_table(pa.table({"user": ["u"], "item": ["i"], "time": pa.array([1_700_000_000_000], pa.timestamp("ms"))}),
                   tmp_path / "e.parquet")
    with pytest.raises(DataError, match="line 1.*seconds since 1970 UTC, 1700000000 for this date"):
        read_events(tmp_path / "e.parquet", None)


@pytest.mark.parametrize("bad", [3, 2])
def test_a_quarantine_takes_some_rows_with_a_word_and_never_all(tmp_path, caplog, bad):
    path = tmp_path / "e.csv"
    path.write_text("user,item,time\n" + "u,i,1700000000000\n" * bad + "u,i,5\n" * (3 - bad))
    quarantine = Quarantine(tmp_path / "bad.jsonl")
    if bad == 3:
        with pytest.raises(DataError, match=r"e\.csv: no row is good, 3 are bad; 3 times: .*milliseconds.*bad\.jsonl"):
            read_events(path, quarantine)
    else:
        assert read_events(path, quarantine).num_rows == 1
        assert "most rows are bad: 2 of 3; 2 times:" in caplog.text


KINDS = [pa.string(), pa.large_string(), pa.int64(), pa.float64(), pa.dictionary(pa.int32(), pa.string())]


@pytest.mark.parametrize("kind", KINDS)
def test_ids_of_any_type_are_the_same_text(tmp_path, kind):
    ids = pa.array(["10", "11"]).cast(kind) if not pa.types.is_dictionary(kind) else pa.array(["10", "11"]).dictionary_encode()
    pq.write_table(pa.table({"user": ids, "item": ids, "time": [1, 2]}), tmp_path / "e.parquet")
    assert read_events(tmp_path / "e.parquet", None)["item"].to_pylist() == ["10", "11"]
