"""What is kept of a file of behaviour is what would be read, and is read anew when anything that it depends on has changed."""
import logging
import os
import signal
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrec.config import RewardConfig
from tfrec.data.behaviour import kept_preferences as module
from tfrec.data.behaviour.interaction_files import read_preferences
from tfrec.data.behaviour.kept_preferences import kept_preferences
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.labels.pair_rewards import rename_users
from tfrec.data.readers.quarantine import Quarantine
from tfrec.data.records import Item
from tfrec.errors import DataError

NOW = 1_000_000
ROWS = "u,a,10,click\nu,b,20,click\nv,a,30,buy\n"


def rule_of(*items: str, length: float = 10.0, **weights: float) -> LabelRule:
    items = items or ("a", "b")
    reward = RewardConfig(weights=weights or {"click": 1.0, "buy": 2.0, "play": 1.0}, lengths={"play": "seconds"})
    return LabelRule.of_rewards(reward, Catalogue([Item(id=item, numeric={"seconds": length}) for item in items]))


def pseudonym(user: str) -> str:
    return f"p{user}"


class Reader:
    """Reads one file, and counts how often it is really read."""

    def __init__(self, directory: Path, rows: str = ROWS) -> None:
        self.file, self.kept, self.directory = directory / "past.csv", directory / "run" / "kept.parquet", directory
        self.write(rows)
        self.reads = 0

    def write(self, rows: str) -> None:
        self.file.write_text("user,item,time,action\n" + rows)

    def __call__(self, rule: LabelRule | None = None, *, now: int = NOW, name=pseudonym,
                 quarantine: Quarantine | None = None) -> pa.Table:
        rule, quarantine = rule or rule_of(), quarantine or Quarantine(self.directory / "bad.jsonl")
        with mock.patch.object(module, "read_preferences", wraps=read_preferences) as read:
            found = kept_preferences(self.file, rule, quarantine=quarantine, now=now, pseudonym=name, kept=self.kept)
        self.reads += read.call_count
        anew = read_preferences(self.file, rule, quarantine=Quarantine(self.directory / "other.jsonl"), now=now)
        assert found.equals(rename_users(anew, name))
        return found


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


def test_it_is_read_once(reader: Reader) -> None:
    for _ in range(3):
        assert reader()["user"].to_pylist() == ["pu", "pu", "pv"]
    assert reader.reads == 1
    assert reader.kept.stat().st_mode & 0o777 == 0o600


@given(st.lists(st.tuples(st.sampled_from("uvw"), st.sampled_from("abc"), st.integers(1, 50), st.sampled_from(["click", "buy"])),
                min_size=1))
def test_it_holds_what_would_be_read(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, int, str]]) -> None:
    reader = Reader(tmp_path_factory.mktemp("kept"), "".join(",".join(map(str, row)) + "\n" for row in rows))
    for _ in range(2):
        reader()  # compares
    assert reader.reads == 1


def test_what_it_depends_on_is_another(reader: Reader) -> None:
    reader()
    reader.write(ROWS + "v,b,40,click\n")
    reader()
    reader()
    assert reader.reads == 2
    for asked in (lambda: reader(rule_of(click=1.0, buy=3.0, play=1.0)), lambda: reader(rule_of("a")),
                  lambda: reader(rule_of(length=20.0)), lambda: reader(name=lambda user: f"q{user}")):
        before = reader.reads
        asked()
        asked()
        assert reader.reads == before + 1
    reader()
    before = reader.reads
    with mock.patch.object(module, "tfrec_version", "another"):
        reader()
    assert reader.reads == before + 1


def test_a_file_of_the_same_size_and_time_but_other_rows_is_read(reader: Reader) -> None:
    reader()
    before = reader.file.stat()
    reader.write(ROWS.replace("v,a", "w,a"))
    os.utime(reader.file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert reader.file.stat().st_size == before.st_size
    assert reader()["user"].to_pylist() == ["pu", "pu", "pw"]


def test_bad_rows_are_set_aside_each_time(reader: Reader) -> None:
    reader()
    reader.write(ROWS + ",a,10,click\n")
    for n in range(2):
        quarantine = Quarantine(reader.directory / f"bad{n}.jsonl")
        reader(quarantine=quarantine)
        assert quarantine.count == 1
        assert "user" in quarantine.path.read_text()
        assert not reader.kept.exists()  # rows that have left the file leave here too


@pytest.mark.parametrize(("rows", "words"), [
    (f"u,a,{NOW + 5},click\n", "claim to be later than now"), ("u,a,0,click\n", "have the time 0"),
    ("nan,a,5,click\n", "stand for a missing one"), ("u,a,5,clck\n", "count nothing"),
])
def test_warnings_are_given_each_time(reader: Reader, caplog: pytest.LogCaptureFixture, rows: str, words: str) -> None:
    reader.write(ROWS + rows)
    for _ in range(2):
        caplog.clear()
        with mock.patch.object(module, "read_preferences", wraps=read_preferences) as read:
            kept_preferences(reader.file, rule_of(), quarantine=Quarantine(reader.directory / "bad.jsonl"), now=NOW,
                             pseudonym=pseudonym, kept=reader.kept)
        assert read.call_count == 1
        assert words in caplog.text


def test_at_an_earlier_time_it_is_read_anew(reader: Reader) -> None:
    reader(now=100)
    assert reader(now=25)["time"].to_pylist() == [10, 20, 20]
    assert reader.reads == 2
    assert reader(now=100)["time"].to_pylist() == [10, 20, 30]


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "text", "other columns", "no key", "directory"])
def test_a_damaged_one_is_named_and_made_again(reader: Reader, caplog: pytest.LogCaptureFixture, damage: str) -> None:
    reader()
    whole = reader.kept.read_bytes()
    at = whole.index(b"PAR1", 0) + 40
    if damage == "directory":
        reader.kept.unlink()
        reader.kept.mkdir()
    elif damage in ("other columns", "no key"):
        kept = pq.read_table(reader.kept)
        other = kept.rename_columns([f"x{name}" for name in kept.column_names]).replace_schema_metadata(kept.schema.metadata)
        pq.write_table(other if damage == "other columns" else kept.replace_schema_metadata(), reader.kept)
    else:
        reader.kept.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"no such thing",
                                 "flipped": whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :]}[damage])
    caplog.clear()
    reader()
    assert "kept.parquet: damaged" in caplog.text
    assert reader.reads == 2
    if damage != "directory":
        reader()
        assert reader.reads == 2


def test_a_write_that_is_killed_leaves_the_old_one_and_what_it_left_is_swept(reader: Reader) -> None:
    reader()
    before = reader.kept.read_bytes()
    reader.write(ROWS + "v,b,40,click\n")
    if not (child := os.fork()):
        with mock.patch("os.replace", side_effect=lambda *_: os.kill(os.getpid(), signal.SIGKILL)):
            reader()
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert reader.kept.read_bytes() == before
    assert len(list(reader.kept.parent.iterdir())) == 2
    reader()
    assert list(reader.kept.parent.iterdir()) == [reader.kept]


def test_a_file_that_changes_while_it_is_read_is_not_kept(reader: Reader) -> None:
    def changed(*words: object, **named: object) -> pa.Table:
        found = read_preferences(*words, **named)
        reader.write(ROWS + "v,b,40,click\n")
        return found

    with mock.patch.object(module, "read_preferences", changed):
        kept_preferences(reader.file, rule_of(), quarantine=Quarantine(reader.directory / "bad.jsonl"), now=NOW,
                         pseudonym=pseudonym, kept=reader.kept)
    assert not reader.kept.exists()
    reader()


def test_on_a_full_disk_it_is_told_and_the_run_goes_on(reader: Reader, caplog: pytest.LogCaptureFixture) -> None:
    with mock.patch.object(module.durable_files, "replace", side_effect=OSError(28, "No space left on device")):
        reader()
    assert "kept.parquet: cannot be written (No space left on device)" in caplog.text


def test_a_file_that_cannot_be_used_is_an_error_each_time(reader: Reader) -> None:
    reader()
    for text, words in (("", "past.csv: empty"), ("a\n1\n", "past.csv")):
        reader.file.write_text(text)
        with pytest.raises(DataError, match=words):
            reader()
    reader.file.unlink()
    with pytest.raises(DataError, match="no such file"):
        reader()


def test_nobody_hears_of_it_where_nothing_listens(reader: Reader) -> None:
    handlers = list(logging.getLogger("tfrec").handlers)
    reader()
    assert logging.getLogger("tfrec").handlers == handlers
