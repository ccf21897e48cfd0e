"""Splits the lines of a CSV file into cells, strictly: an unclosed quote must not make the rest of the file one value.

Python's reader accepts such a file and, where a later quote closes the value by chance, silently loses the rows between. Here a
faulty value is reported with the line in which it begins, and reading continues on the next line.
"""
import csv
import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tfrec.errors import DataError

LONGEST = 1 << 26  # characters of a value; the default, 131,072, is less than one long article
csv.field_size_limit(LONGEST)

# without possessive quantifiers: those of Python 3.11.0 to 3.11.4 match an unclosed quote (python/cpython#106052)
_QUOTED = re.compile(r'"[^"]*(?:""[^"]*)*"')
_END = re.compile(r"[,\r\n]")
_TWICE = 'a quote inside a value is written twice ("")'
# a line whose quoted values all begin and end in it, so that all readers agree on it
_VALUE = rb'(?:"[^"]*(?:""[^"]*)*"|[^",\r\n][^,\r\n]*)?'
_PLAIN = re.compile(_VALUE + rb"(?:," + _VALUE + rb")*\r?\n?")


class CsvLine(NamedTuple):
    """The cells of a row and the line in which it ends; for a faulty row its first line, its text in `cells`, and the fault."""

    number: int
    cells: list[str]
    fault: str = ""


class _Lines:
    """An iterator of lines that remembers those of the present row, and can read some of them again."""

    def __init__(self, text: Iterable[str]) -> None:
        self._text, self._again = iter(text), deque[str]()
        self.number, self.row = 0, list[str]()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._text)
        self.row.append(line)
        self.number += 1
        return line

    def read_again(self, n: int) -> None:
        """Return the last `n` lines of the row once more."""
        if n:
            self._again.extendleft(reversed(self.row[-n:]))
            self.number -= n


def csv_lines(text: Iterable[str], *, name: str) -> Iterator[CsvLine]:
    """Yield the rows, faulty ones included, without empty lines.

    Raises:
        DataError: a quoted value is never closed; the message names the line in which it begins.
    """
    lines = _Lines(text)
    rows = csv.reader(lines, strict=True)
    while True:
        lines.row.clear()
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            last, begin = lines.number, _faulty(lines.row)
            first = last - len(lines.row) + 1 + begin
            unclosed = "unexpected end" in str(error)
            if unclosed or ("field limit" in str(error) and len(lines.row) > 1):
                where = "the file ends inside it" if unclosed else f"it is longer than {LONGEST:,} characters"
                raise DataError(f"{name} line {first}: a quoted value begins here and is never closed: {where}. Close the quote "
                                f"({_TWICE}), or copy the file again if it was cut off.") from None
            if "field limit" in str(error):
                fault = f"a value is longer than {LONGEST:,} characters"
            else:
                where = "another quote" if first == last else f"the quote in line {last} that closes it"
                fault = f"a quoted value begins here, and {where} is followed by no comma; {_TWICE}"
            lost = lines.row[: begin + 1]
            lines.read_again(len(lines.row) - len(lost))
            yield CsvLine(first, ["".join(lost).rstrip("\r\n")], fault)
            rows = csv.reader(lines, strict=True)
            continue
        if cells:
            yield CsvLine(lines.number, cells)


def is_plain(lines: Iterable[bytes]) -> bool:
    """Whether every quoted value ends in its line, followed by a comma or the end: all CSV readers read such lines alike."""
    return all(_PLAIN.fullmatch(line) is not None for line in lines if b'"' in line)


def _faulty(row: list[str]) -> int:
    """The index of the line of the row in which the faulty quoted value begins."""
    text, at, begin = "".join(row), 0, 0
    while at < len(text):
        if text[at] == '"':
            begin = at
            if (value := _QUOTED.match(text, at)) is None:
                break
            at = value.end()
            if at < len(text) and text[at] not in ",\r\n":
                break
        elif (end := _END.search(text, at)) is not None:
            at = end.start()
        else:
            break
        at += 1
    for number, line in enumerate(row):
        if begin < len(line):
            return number
        begin -= len(line)
    return 0
