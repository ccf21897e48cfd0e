"""The write-ahead file over restarts, cuts, damaged lines and a disk that refuses."""
import errno
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrec.data import durable_files
from tfrec.data.feedback_log.wal_lines import Entry
from tfrec.data.feedback_log.write_ahead_log import WriteAheadFile
from tfrec.errors import DataError, UsageError


def opened(directory, **options):
    """The file of writer "g", with little room so that it is made quickly."""
    return WriteAheadFile(directory, "g", room_bytes=100, **options)


def content(wal):
    """What the file holds, without the zeros behind it."""
    return wal.path.read_bytes().rstrip(b"\0")


def test_entries_come_back_after_a_restart(tmp_path):
    first = opened(tmp_path)
    assert first.append("outcomes", ["a", "b"]) == 2
    assert first.append("impressions", ["c"]) == 3
    assert first.pending(1) == [Entry(2, "outcomes", "b"), Entry(3, "impressions", "c")]
    first.close()
    again = opened(tmp_path)
    assert again.pending(0) == [Entry(1, "outcomes", "a"), Entry(2, "outcomes", "b"), Entry(3, "impressions", "c")]
    assert again.append("outcomes", ["d"]) == 4
    again.close()


def test_numbers_go_on_when_everything_was_forgotten(tmp_path):
    first = opened(tmp_path)
    first.append("outcomes", ["a", "b"])
    first.truncate(2)
    assert first.pending(0) == []
    first.close()
    again = opened(tmp_path)
    assert (again.last_seq, again.append("outcomes", ["c"])) == (2, 3)
    again.skip_to(10)
    again.skip_to(5)
    assert again.append("outcomes", ["d"]) == 11
    again.close()


def test_the_file_shrinks_once_enough_was_forgotten(tmp_path):
    wal = opened(tmp_path, rewrite_bytes=1000)
    wal.append("outcomes", ["x" * 600] * 3)
    wal.truncate(2)
    assert wal.path.stat().st_size < 1000
    assert wal.append("outcomes", ["y"]) == 4
    assert [e.payload[0] for e in wal.pending(0)] == ["x", "y"]
    wal.close()


PAYLOAD = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=9)


@settings(max_examples=12, deadline=None)
@given(st.lists(PAYLOAD, max_size=4), st.integers(0, 200), st.booleans())
def test_a_file_cut_anywhere_keeps_every_whole_line(tmp_path_factory, payloads, anywhere, over_zeros):
    directory = tmp_path_factory.mktemp("wal")
    wal = opened(directory)
    header = len(content(wal))
    ends = []
    for payload in payloads:
        wal.append("outcomes", [payload])
        ends.append(len(content(wal)))
    raw = content(wal)
    wal.close()
    cuts = {header + anywhere, *(end - short for end in ends for short in (0, 1, 2))}  # at a line's end it matters to a byte
    for size in (min(cut, len(raw)) for cut in sorted(cuts)):
        (directory / "g.wal").write_bytes(raw[:size] + bytes(60 * over_zeros))
        again = opened(directory)
        kept = [entry.payload for entry in again.pending(0)]
        # at the end of the file a line is whole without its line break
        assert kept == [payload for payload, end in zip(payloads, ends, strict=True) if end - (not over_zeros) <= size]
        assert again.append("outcomes", ["next"]) == len(kept) + 1
        assert [e.payload for e in again.pending(0)] == [*kept, "next"]
        again.close()


def test_calls_from_many_threads_get_numbers_of_their_own(tmp_path):
    wal = opened(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        seqs = list(pool.map(lambda k: wal.append("outcomes", [f"p{k}"]), range(100)))
    assert sorted(seqs) == list(range(1, 101))
    assert {entry.seq: entry.payload for entry in wal.pending(0)} == {seq: f"p{k}" for k, seq in enumerate(seqs)}
    wal.close()


def test_one_process_per_writer(tmp_path):
    wal = opened(tmp_path)
    with pytest.raises(UsageError, match="writer 'g' is in use by another process"):
        opened(tmp_path)
    WriteAheadFile(tmp_path, "h").close()
    wal.close()
    opened(tmp_path).close()


@pytest.mark.parametrize("writer", ["", "../x", "a b", "x" * 65])
def test_names_that_are_no_file_names(tmp_path, writer):
    with pytest.raises(UsageError, match="writer must be 1-64 letters"):
        WriteAheadFile(tmp_path, writer)


def test_a_payload_is_one_line(tmp_path):
    wal = opened(tmp_path)
    with pytest.raises(UsageError, match="one line"):
        wal.append("outcomes", ["a\nb"])
    wal.close()
    with pytest.raises(UsageError, match="is closed"):
        wal.append("outcomes", ["a"])


def test_a_full_disk_is_no_acknowledgement(tmp_path, monkeypatch):
    wal = opened(tmp_path)
    wal.append("outcomes", ["a"])

    def half(file, data):
        file.write(b"half a li")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(durable_files, "write_all", half)
        with pytest.raises(DataError, match=r"cannot be written .*No space left.*Free disk space"):
            wal.append("outcomes", ["b"])
    assert wal.append("outcomes", ["c"]) == 2
    wal.close()
    again = opened(tmp_path)
    assert [entry.payload for entry in again.pending(0)] == ["a", "c"]
    again.close()


def test_after_a_failed_sync_nothing_is_promised(tmp_path, monkeypatch):
    wal = opened(tmp_path)

    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(DataError, match="sync failed"):
            wal.append("outcomes", ["a"])
    with pytest.raises(DataError, match="start the writer again"):
        wal.append("outcomes", ["b"])
    assert wal.pending(0) == []
    wal.close()


def test_a_flipped_bit_is_set_aside_with_a_word(tmp_path):
    wal = opened(tmp_path)
    wal.append("outcomes", ["aaaa", "bbbb"])
    wal.close()
    raw = bytearray(wal.path.read_bytes())
    raw[raw.index(b"aaaa")] ^= 1
    wal.path.write_bytes(raw)
    again = opened(tmp_path)
    assert ([entry.payload for entry in again.pending(0)], again.quarantined) == (["bbbb"], 1)
    assert "does not fit its checksum" in again.quarantine.read_text()
    again.close()
