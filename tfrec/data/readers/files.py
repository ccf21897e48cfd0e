"""Finds the files behind a path, and checks that each is what its name says before any row is read.

A path is one file, or a directory whose files are read in the order of their names, as Spark and pyarrow write them: names that
begin with `_` or `.` are not data, and a folder `action=click` is a column. A file that is empty, compressed otherwise than its
name says, or not UTF-8 is refused here with advice, because the errors of its rows would not show the cause.
"""
import gzip
import hashlib
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TextIO, cast

from tfrec.errors import DataError

FORMATS = (".jsonl", ".csv", ".parquet")
EXPECTED = f"Expected {', '.join(FORMATS)} (text also as .gz), or a directory of such files"
_ABSENT = "__HIVE_DEFAULT_PARTITION__"  # a folder's value where the column is null
_ADVICE = {  # for names of other formats
    ".json": "A JSON array becomes lines by: jq -c '.[]' in.json > out.jsonl.",
    ".ndjson": "It is the format of .jsonl: rename it.",
    ".tsv": "Save it with commas, as .csv.",
    ".txt": "Save it with commas and a header line, as .csv.",
    ".dat": "Save it with commas and a header line, as .csv.",
    ".xlsx": "Save the sheet as CSV UTF-8.",
    ".xls": "Save the sheet as CSV UTF-8.",
    ".feather": "Write it as Parquet.",
    ".arrow": "Write it as Parquet.",
    ".parq": "Rename it to .parquet.",
    ".zip": "Unpack it, or pack it by gzip.",
    ".bz2": "Unpack it, or pack it by gzip.",
    ".zst": "Unpack it, or pack it by gzip.",
}
EMPTY = {
    ".csv": "Expected a header line with column names, then one line a row.",
    ".jsonl": "Expected one JSON object a line.",
    ".parquet": "Expected a Parquet file.",
}


@dataclass(frozen=True)
class DataFile:
    """A file: its path, its format (of `FORMATS`), whether it is gzipped, and the columns that its folders name."""

    path: Path
    format: str
    packed: bool = False
    folders: dict[str, str | None] = field(default_factory=dict)

    def lines(self) -> IO[bytes]:
        """Open the uncompressed bytes."""
        return cast(IO[bytes], gzip.open(self.path, "rb")) if self.packed else self.path.open("rb")

    def text(self) -> TextIO:
        """Open the text, with line ends unchanged as `csv` needs them."""
        if self.packed:
            return cast(TextIO, gzip.open(self.path, "rt", encoding="utf-8-sig", newline=""))
        return self.path.open(encoding="utf-8-sig", newline="")


def data_files(path: str | Path) -> list[DataFile]:
    """The file, or the files of the directory and of the directories in it.

    Raises:
        DataError: there is no file, a format is unknown, a file is not what its name says, or a directory mixes formats.
    """
    path = Path(path)
    found = [named(path)] if path.is_file() else _of_directory(path) if path.is_dir() else []
    if not found:
        raise DataError(f"{path}: no such file. {EXPECTED}.")
    for file in found:
        check_content(file)
    return found


def contents_digest(path: str | Path) -> str:
    """Equal for files, or directories of files, of which the same rows are read, whatever they are called.

    Raises:
        DataError: as of `data_files`.
    """
    whole = hashlib.sha256()
    for file in data_files(path):
        with file.path.open("rb") as raw:
            contents = hashlib.file_digest(raw, "sha256").hexdigest()
        whole.update(repr((file.format, file.packed, sorted(file.folders.items()), contents)).encode())
    return whole.hexdigest()


def visible_files(directory: Path) -> list[Path]:
    """The files of a directory and of the directories in it, by name, without the markers and checksums of other programs."""
    def hidden(path: Path) -> bool:
        return any(part[0] in "._" for part in path.relative_to(directory).parts)

    return sorted(path for path in directory.rglob("*") if path.is_file() and not hidden(path))


def named(path: Path, *, default: str | None = None) -> DataFile:
    """The file by its name, whose ending may be in capitals, or of the format `default` whatever its name is.

    Raises:
        DataError: the name is of no known format.
    """
    name, packed = path.name.lower(), path.name.lower().endswith(".gz")
    ending = Path(name.removesuffix(".gz")).suffix
    if ending not in FORMATS or (packed and ending == ".parquet"):
        if default is not None:
            return DataFile(path, default, packed)
        shown = "".join(path.suffixes[-2:]) if packed else path.suffix
        advice = _ADVICE.get(ending, "")
        raise DataError(f"{path}: unknown format {shown!r}. {EXPECTED}.{' ' + advice if advice else ''}")
    return DataFile(path, ending, packed)


def folders_of(path: Path) -> dict[str, str | None]:
    """The columns that the folders of a relative path name, as `action=click` does."""
    return dict(_folders(path))


def unreadable(path: str | Path, error: Exception | str, *, advice: str = "Copy or write the file again") -> DataError:
    """The error for a file that ends in the middle or is not what its name says."""
    detail = " ".join(str(error).split())[:200]
    return DataError(f"{path}: truncated or damaged ({detail}). {advice}; nothing of it has been used.")


def not_utf8(file: DataFile, error: UnicodeDecodeError) -> DataError:
    """The error for a text file in another encoding. Looks for the line, as a decoder only knows the offset in a block."""
    where, byte = "", error.object[error.start]
    with file.lines() as lines:
        for number, raw in enumerate(lines, start=1):
            try:
                raw.decode()
            except UnicodeDecodeError as exact:
                where, byte = f"line {number}, ", raw[exact.start]
                break
    return DataError(f"{file.path}: not UTF-8 ({where}byte 0x{byte:02x}). Save it as UTF-8. If it is Windows-1252 or Latin-1: "
                     f"iconv -f WINDOWS-1252 -t UTF-8.")


def _of_directory(directory: Path) -> list[DataFile]:
    """The files of a directory, which must be of one format."""
    every = visible_files(directory)
    if not every:
        raise DataError(f"{directory}: the directory holds no file. {EXPECTED}.")
    found = [named(path) for path in every]
    formats = {file.format: file.path for file in found}
    if len(formats) > 1:
        mixed = ", ".join(str(path.relative_to(directory)) for path in formats.values())
        raise DataError(f"{directory}: expected files of one format, got {mixed}. Keep those of one.")
    return [DataFile(file.path, file.format, file.packed, folders_of(file.path.relative_to(directory))) for file in found]


def _folders(path: Path) -> Iterator[tuple[str, str | None]]:
    for part in path.parts[:-1]:
        name, equals, value = part.partition("=")
        if equals and name:
            yield urllib.parse.unquote(name), None if value == _ABSENT else urllib.parse.unquote(value)


def check_content(file: DataFile) -> None:
    """Check that a file's first bytes are what its name says.

    Raises:
        DataError: the file is empty, or something else.
    """
    path = file.path
    try:
        with path.open("rb") as raw:
            first = raw.read(4)
        if not first:
            raise DataError(f"{path}: empty. {EMPTY[file.format]}")
        is_gzip = first[:2] == b"\x1f\x8b"
        if file.packed and not is_gzip:
            raise DataError(f"{path}: expected gzip by its name, but it is not packed. Pack it, or take .gz from its name.")
        if is_gzip and not file.packed:
            raise DataError(f"{path}: it is packed by gzip, but its name does not say so. "
                            f"{'Unpack it' if file.format == '.parquet' else f'Rename it to {path.name}.gz'}.")
        if file.format == ".parquet":
            return
        with file.lines() as lines:
            head = lines.read(4096)
    except (EOFError, OSError) as error:
        raise unreadable(path, error) from error
    if not head:
        raise DataError(f"{path}: empty. {EMPTY[file.format]}")
    if head[:4] == b"PAR1":
        raise DataError(f"{path}: by its content it is a Parquet file. Rename it to {path.stem}.parquet.")
    if head[:4] == b"PK\x03\x04":
        raise DataError(f"{path}: by its content it is a zip archive or an Excel sheet. Unpack it, or save it as CSV UTF-8.")
    marked = head[:2] in (b"\xff\xfe", b"\xfe\xff")
    even, odd = head[::2].count(0), head[1::2].count(0)
    if marked or (min(even, odd) == 0 and max(even, odd) > len(head) // 4):
        raise DataError(f"{path}: not UTF-8 but UTF-16 by its {'first bytes' if marked else 'zero bytes'}. Save it as UTF-8: "
                        f"iconv -f UTF-16{'' if marked else 'LE' if odd else 'BE'} -t UTF-8.")
