"""Tables in text, as people pass them on: with a header or without, and whatever stands between the fields."""

from __future__ import annotations

import csv
import sys
from array import array
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from itertools import chain, islice

import numpy as np

from ..arrays import MISSING
from ..errors import InputError
from .opened import readable, text_lines
from .table import Table

_DELIMITERS = (";", "\t", "|", ",", " ")  # a space is any number of spaces and tabs
_LOOKED_AT = (200, 2**22)  # lines, and characters, by which delimiter and header are known
_ROW_NAMES = ("", "Unnamed: 0", "rownames")  # what R and pandas call a first column that only names the rows


def read_text_table(source: str, header: bool | None, delimiter: str | None) -> Table:
    """The table in a text: one example a line; lines that begin with # and lines without any value are left out.

    Parameters
    ----------
    source : str
        A path; unpacked where it ends in .gz, .bz2 or .xz.
    header : bool, optional
        Whether the first line names the columns. By default it does if its cells differ in kind from those below, text
        over numbers say, or are texts of which none comes again; names are 0, 1, 2, ... where there is no header.
    delimiter : str, optional
        One character; " " stands for any number of spaces and tabs. By default that of
        ; tab | , and space which divides all lines into as many fields, and most of them.

    Returns
    -------
    Table

    Raises
    ------
    InputError
        What cannot be read, lines with more or fewer fields than the first, and a first line that may be either.

    Examples
    --------
    >>> import os, tempfile
    >>> from meanfield.datasets.text_table import read_text_table
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "iris.data")
    ...     _ = open(path, "w").write("5.1,3.5,setosa\\n4.9,3.0,setosa\\n")
    ...     table = read_text_table(path, None, None)
    >>> table.names, len(table.values)
    (['0', '1', '2'], 2)
    """
    with readable(source):
        lines = _Lines(source)
        try:
            return _read(lines, header, delimiter)
        except csv.Error as error:
            raise InputError(
                f"{source}: line {lines.number}: {error}: must be a table, one example a line, every quote closed"
            ) from None
        except UnicodeDecodeError:
            raise InputError(f"{source}: not UTF-8 text after line {lines.number}: must be saved as UTF-8") from None


class _Lines:
    """The lines that are no comments, one after the other; `number` is that of the last one, from 1 on."""

    def __init__(self, source: str) -> None:
        self.source, self.number = source, 0
        self._all = ((k, line) for k, line in enumerate(text_lines(source), 1) if not line.startswith("#"))
        self._ahead: deque[tuple[int, str]] = deque()

    def peek(self, count: int, size: int) -> list[str]:
        """The next lines, which will come again: so many, or fewer if they are longer, but two."""
        for one in islice(self._all, count):
            self._ahead.append(one)
            size -= len(one[1])
            if size < 0 and len(self._ahead) > 1:
                break
        return [line for _, line in self._ahead]

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.number, line = self._ahead.popleft() if self._ahead else next(self._all)
        return line


def _read(lines: _Lines, header: bool | None, delimiter: str | None) -> Table:
    sample = lines.peek(*_LOOKED_AT)
    delimiter = delimiter or _delimiter(sample)
    numbered = ((lines.number, row) for row in _fields(lines, delimiter) if any(row))
    ahead = list(islice(numbered, len(sample)))
    if not ahead:
        raise InputError(f"{lines.source}: is empty: must hold a table, one example a line")
    rows = [row for _, row in ahead]
    first_line, names = ahead[0][0], [str(j) for j in range(max(len(_trimmed(row)) for row in rows))]
    has = _has_header(rows, f"{lines.source}: line {first_line}") if header is None else header
    if has:
        names = _names(rows, delimiter, lines.source)
        ahead = ahead[1:]
    if len(names) < 2:
        raise InputError(
            f"{lines.source}: one column only, {rows[0][0][:40]!r}: must be features and a label, with data.delimiter "
            "between them"
        )
    found = _Cells(lines.source, names, f"between {delimiter!r}: must be {len(names)}, as in line {first_line}")
    for line, row in chain(ahead, numbered):
        found.append(row, line)
    return found.table(named_rows=has and names[0] in _ROW_NAMES)


def _fields(lines: Iterable[str], delimiter: str, strict: bool = True) -> Iterator[list[str]]:
    """The rows' fields, without the blanks around them; none of a blank line."""
    if delimiter == " ":
        lines = (line.replace("\t", " ").strip() for line in lines)
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=delimiter == " ", strict=strict)
    return ([cell.strip() for cell in row] for row in reader)


def _delimiter(sample: list[str]) -> str:
    """What divides every line into as many fields, and finds most numbers; else what divides the first line."""
    even, first = {}, {}
    for one in _DELIMITERS:
        try:
            rows = [row for row in _fields(sample, one, strict=False) if any(row)] or [[""]]
        except csv.Error:
            continue
        numbers = sum(kind_of(cell) == "number" for row in rows[:20] for cell in row)
        if len(rows[0]) > 1:
            first[one] = len(rows[0])
        if len(rows[-1]) > 1 and len(set(_but_row_names([len(row) for row in rows], one))) == 1:
            even[one] = (numbers, len(rows[-1]))
    return next((max(found, key=found.__getitem__) for found in (even, first) if found), ",")  # type: ignore[attr-defined]


def _but_row_names(counts: list[int], delimiter: str) -> list[int]:
    """The numbers of fields without that of a header which gives the rows' names none of their own, as R writes it."""
    return counts[1:] if delimiter in "\t " and len(counts) > 1 and counts[0] == counts[1] - 1 else counts


def _names(rows: list[list[str]], delimiter: str, source: str) -> list[str]:
    """The names in the first row, "" for the rows' own."""
    names = _trimmed(rows[0])
    if len(rows) > 1 and delimiter in "\t " and len(names) == len(rows[1]) - 1:
        names = ["", *names]
    for name, times in Counter(names[1:] if names[0] in _ROW_NAMES else names).items():
        if not name or times > 1:
            what = f"column name {name!r} appears {times} times" if name else "a column has no name"
            raise InputError(f"{source}: {what}: names must be given and distinct")
    return names


def _trimmed(row: list[str]) -> list[str]:
    """Without the empty cells at its end."""
    end = len(row)
    while end and not row[end - 1]:
        end -= 1
    return row[:end]


def kind_of(cell: str) -> str:
    """Whether a cell is a "number", a "text" or "missing".

    Parameters
    ----------
    cell : str
        Without blanks around it.

    Returns
    -------
    str

    Examples
    --------
    >>> from meanfield.datasets.text_table import kind_of
    >>> kind_of("1e-3"), kind_of("NA"), kind_of("yes")
    ('number', 'missing', 'text')
    """
    try:
        number = float(cell)
    except ValueError:
        return "missing" if cell in MISSING else "text"
    return "text" if "_" in cell else "number" if number == number else "missing"  # Python would read 1_0 as 10


def _has_header(rows: list[list[str]], where: str) -> bool:
    """Whether the first row names the columns, by what stands below. InputError: it may, or not."""
    first = rows[0]
    below = [[row[j] for row in rows[1:] if j < len(row)] for j in range(len(first))]
    kinds = [(kind_of(cell), {*map(kind_of, column)} - {"missing"}) for cell, column in zip(first, below, strict=True)]
    other = sum(kind in (("text", {"number"}), ("number", {"text"})) for kind in kinds)
    counted = _counted(first)
    alike = sum(kind in (("number", {"number"}), ("number", set())) for kind in kinds) if counted is None else 0
    over = [(cell, column) for cell, column, kind in zip(first, below, kinds, strict=True) if kind[0] == "text"]
    again = sum(cell in column for cell, column in over)
    new = sum(cell not in column and len({*column}) < len(column) for cell, column in over)
    named = over and not again and (counted is None or counted > (1 if new else 2))
    if other > alike or (named and not other and not alike):
        return True
    if not other and again >= (new if alike else max(1, len(over) - again)):
        return False
    raise InputError(
        f"{where} may name the columns or be an example ({', '.join(first[:4])}, ...): set data.header = true or false"
    )


def _counted(row: list[str]) -> int | None:
    """How many columns 0, 1, 2, ... the row names, as pandas does; 0 if its numbers count from elsewhere; else None."""
    numbers = [(j, cell) for j, cell in enumerate(row) if kind_of(cell) == "number"]
    offsets = {int(cell) - j if cell.isdecimal() else None for j, cell in numbers}
    if len(offsets) != 1 or not offsets <= {-1, 0, 1}:
        return None
    return len(numbers) if numbers[0][1] == "0" else 0


class _Cells:
    """A table that grows row by row."""

    def __init__(self, source: str, names: list[str], width: str) -> None:
        self._source, self._names, self._width = source, names, width
        self._values, self._lines = array("d"), array("q")
        self._texts: dict[int, dict[int, str]] = {}

    def append(self, row: list[str], line: int) -> None:
        """A row's fields."""
        if len(row) > len(self._names):
            row = [*row[: len(self._names)], *_trimmed(row[len(self._names) :])]
        if len(row) != len(self._names):
            raise InputError(f"{self._source}: line {line}: {len(row)} fields {self._width}")
        self._values.extend([self._value(cell, column) for column, cell in enumerate(row)])
        self._lines.append(line)

    def _value(self, cell: str, column: int) -> float:
        try:
            number = float(cell)
            if "_" not in cell:
                return number
        except ValueError:
            if cell in MISSING:
                return np.nan
        self._texts.setdefault(column, {})[len(self._lines)] = sys.intern(cell)
        return np.nan

    def table(self, named_rows: bool) -> Table:
        """The whole, without a first column that only names the rows. InputError: it may be more than that."""
        if not self._lines:
            raise InputError(f"{self._source}: no rows under the header: must hold at least one example")
        values = np.array(self._values).reshape(len(self._lines), len(self._names))
        whole = Table(self._source, self._names, values, self._texts, self._lines)
        if not named_rows:
            return whole
        measured = np.any(values[:, 0] != np.rint(values[:, 0]), where=~np.isnan(values[:, 0]))
        if measured or whole.missing(0).any() or len({*whole.cells(0)}) < len(values):
            raise InputError(f"{self._source}: the first column has no name, and does not name the rows: must have one")
        texts = {j - 1: own for j, own in self._texts.items() if j}
        return Table(self._source, self._names[1:], values[:, 1:], texts, self._lines)
