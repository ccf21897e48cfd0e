"""A file of items is read again only when it has changed, or has rows to complain of."""
from pathlib import Path

from tfrec.data.items.catalogue_cache import KEPT, cached_catalogue
from tfrec.data.readers.quarantine import Quarantine


def write(path: Path, *texts: str) -> Path:
    path.write_text("".join(f'{{"id": "i{n}", "text": "{text}"}}\n' for n, text in enumerate(texts)))
    return path


def test_the_same_contents_are_read_once_whatever_the_file_is_called(tmp_path: Path) -> None:
    first = cached_catalogue(write(tmp_path / "a.jsonl", "red", "blue"))
    assert cached_catalogue(write(tmp_path / "b.jsonl", "red", "blue")) is first
    changed = cached_catalogue(write(tmp_path / "a.jsonl", "red", "green"))
    assert changed.texts == ["red", "green"]
    assert cached_catalogue(tmp_path / "a.jsonl", kinds={"text": "text", "year": "numeric"}) is not changed
    assert cached_catalogue(tmp_path / "b.jsonl") is first
    for n in range(KEPT):
        cached_catalogue(write(tmp_path / "c.jsonl", f"text {n}"))
    assert cached_catalogue(tmp_path / "b.jsonl") is not first
    assert cached_catalogue(tmp_path / "b.jsonl").items == first.items


def test_bad_rows_are_set_aside_each_time(tmp_path: Path) -> None:
    items = write(tmp_path / "a.jsonl", "red", "blue")
    items.write_text(items.read_text() + '{"id": "i0", "text": "again"}\n')
    for count in (1, 2):
        quarantine = Quarantine(tmp_path / f"bad{count}.jsonl")
        assert len(cached_catalogue(items, quarantine)) == 2
        assert quarantine.count == 1
