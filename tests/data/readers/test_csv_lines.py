"""CSV as cells: what is written is read back, and a quote that is left open loses no row without a word."""
import csv
import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrec.data.readers.csv_lines import csv_lines, is_plain
from tfrec.errors import DataError

CELLS = st.text(st.sampled_from('ab ,"\n\r;é'), max_size=6)
TABLES = st.lists(st.lists(CELLS, min_size=2, max_size=2), min_size=1, max_size=6)
WORDS = st.text(st.sampled_from("abc "), min_size=1, max_size=4)


def read(text):
    return list(csv_lines(io.StringIO(text, newline=""), name="f.csv"))


@given(TABLES, st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC]), st.sampled_from(["\n", "\r\n", "\r"]))
def test_what_csv_writes_is_read_back(table, quoting, end):
    if quoting == csv.QUOTE_MINIMAL and sys.version_info < (3, 13):  # whose writer quotes no line end but its own
        table = [[cell.translate({10: " ", 13: " "}) for cell in row] for row in table]
    out = io.StringIO(newline="")
    csv.writer(out, quoting=quoting, lineterminator=end).writerows(table)
    lines = read(out.getvalue())
    assert [line.cells for line in lines] == table
    assert not any(line.fault for line in lines)


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=8), st.data())
def test_an_open_quote_is_named_by_the_line_where_the_value_begins_and_no_other_row_is_lost(rows, data):
    quoted = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    broken = data.draw(st.integers(0, len(rows) - 1))
    lines = [f'"{a}","{b}"\n' if q else f"{a},{b}\n" for (a, b), q in zip(rows, quoted, strict=True)]
    lines[broken] = f'{rows[broken][0]},"{rows[broken][1]}\n'
    if any(quoted[broken + 1 :]):  # the next quote closes it, in the middle of a row
        found = read("".join(lines))
        assert [line.number for line in found if line.fault] == [broken + 1]
        assert [tuple(line.cells) for line in found if not line.fault] == rows[:broken] + rows[broken + 1 :]
    else:
        with pytest.raises(DataError, match=rf"f.csv line {broken + 1}: a quoted value begins here and is never closed"):
            read("".join(lines))


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ('a,b\n1,"x\n2,y\n', 2, "never closed: the file ends inside it"),
        ('a,b\n1,"two\nlines"\n2,"x\n3,y\n', 4, "never closed"),
        ('a,"b\n1,x\n', 1, "never closed"),
    ],
)
def test_a_quote_open_to_the_end_of_the_file_is_an_error(text, line, said):
    with pytest.raises(DataError, match=rf"f\.csv line {line}: .*{said}.*copy the file again"):
        read(text)


def test_a_quote_that_closes_in_the_middle_of_a_later_row_costs_its_own_row_only():
    found = read('1,"Ball\n2,Bat\n3,"Glove"\n4,Shoe\n5,"5"" nail"x\n6,Hat\n')
    assert [(line.number, line.cells) for line in found if not line.fault] == [
        (2, ["2", "Bat"]), (3, ["3", "Glove"]), (4, ["4", "Shoe"]), (6, ["6", "Hat"])]
    assert [(line.number, line.cells) for line in found if line.fault] == [(1, ['1,"Ball']), (5, ['5,"5"" nail"x'])]
    assert "the quote in line 3 that closes it is followed by no comma" in found[0].fault
    assert "another quote is followed by no comma" in found[4].fault


def test_a_value_may_be_long_but_not_endless(monkeypatch):
    assert len(read("x" * 200_000)[0].cells[0]) == 200_000
    old = csv.field_size_limit(100)
    try:
        [bad, good] = read("y" * 200 + ",1\na,b\n")
        assert (bad.number, good.cells) == (1, ["a", "b"])
        assert "longer than" in bad.fault
        with pytest.raises(DataError, match=r"line 1: a quoted value begins here and is never closed: it is longer than"):
            read('a,"b\n' + "c,d\n" * 100)
    finally:
        csv.field_size_limit(old)


@pytest.mark.parametrize(
    ("line", "plain"),
    [(b'a,"b",c\n', True), (b'"a,b"\r\n', True), (b'"a ""b"""', True), (b'5" nail,b\n', True), (b'a,"b\n', False),
     (b'a,"b"c\n', False), (b'"two\n', False), (b",,\n", True)],
)
def test_a_plain_line_is_one_that_every_reader_reads_alike(line, plain):
    assert is_plain([line]) is plain
