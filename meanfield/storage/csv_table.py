"""Ledger: a CSV file that only grows, a row at a time, each on the disk once it is written.

Comment lines (#) come first and wherever the software changed: what the file is, and what computed the rows below.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from ..errors import InputError
from .atomic import replace_whole

Value = str | int | float | bool
Key = tuple[str, ...]


class Ledger:
    """`header`, `rows` (key -> name -> text), `made` (key -> the comment on its software), as the disk has them.

    A row's key is its texts in `columns`, with which the header must begin (without columns: the whole row). A torn
    last line does not count and the next append takes its place; lines with a wrong number of fields are left out and
    counted in `damaged`. InputError: a file with another title or other columns.
    """

    def __init__(self, path: Path, title: str, columns: Sequence[str] = ()) -> None:
        self.path, self.title, self._cells = path, f"# {title}\n", f"# a cell is {', '.join(columns)}\n"
        self.header: list[str] = []
        self.rows: dict[Key, dict[str, str]] = {}
        self.made: dict[Key, str] = {}
        self.damaged = 0
        self._told = self._note = ""  # what a cell is, and the software of the last rows
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: is no file: move it away to compute anew")
        content = path.read_bytes() if path.exists() else b""
        self._size = content.rfind(b"\n") + 1  # beyond it a torn line
        if not self._size and not self.title.encode().startswith(content.rstrip(b"\0")):  # torn, before its data came
            raise InputError(f"{path}: holds something else, not {title}: move it away to compute anew")
        self._read(content[: self._size].decode("utf-8", errors="replace"), columns)
        if not self.header:
            self._size, self._note = 0, ""

    def _read(self, text: str, columns: Sequence[str]) -> None:
        all_lines = [f"{line}\n" for line in text.split("\n") if line]
        comments = [line for line in all_lines if line.startswith("#")]
        if all_lines and comments[:1] != [self.title]:
            found, expected = (one.strip("# \n") for one in [*(comments or ["something else"])[:1], self.title])
            raise InputError(f"{self.path}: holds {found}, not {expected}: move it away to compute anew")
        self._told = next((line for line in comments if line.startswith("# a cell is ")), "")
        body = [line for line in all_lines[1:] if line != self._told]
        self.header = next((_fields(line) for line in body if not line.startswith("#")), [])
        fits = self.header[: len(columns)] == list(columns) and self._told in ("", self._cells)
        if columns and self.header and not fits:
            raise InputError(
                f"{self.path}: its columns are {', '.join(self.header)}, a cell now is "
                f"{', '.join(columns)}: move it away to compute anew"
            )
        for before, line in zip(["", *body], body, strict=False):
            fields = _fields(line)
            if line.startswith("#"):
                self._note = self._note + line if before.startswith("#") else line
            elif len(fields) != len(self.header):
                self.damaged += 1
            elif fields != self.header:
                key = tuple(fields[: len(columns) or None])
                self.rows[key], self.made[key] = dict(zip(self.header, fields, strict=True)), self._note

    def append(self, key: Key, row: Mapping[str, str], note: str) -> None:
        """Write a row, below `note`; on the disk when this returns. OSError: the disk is full."""
        new_header = [] if self.header else list(row)
        head = [self.title, self._cells] if new_header else []
        text = "".join([*head, *([note] if note != self._note else []), *lines(new_header, [row])])
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            os.ftruncate(descriptor, self._size)
            content, written = text.encode(), 0
            while written < len(content):
                written += os.pwrite(descriptor, content[written:], self._size + written)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._size += len(content)
        self.header, self.rows[key] = self.header or new_header, dict(row)
        self.made[key] = self._note = note

    def rewrite(self, rows: Iterable[tuple[Mapping[str, str], str]]) -> None:
        """Replace the file by these rows, each below its comment on the software, atomically.

        StorageError: it cannot be written; the old one stands.
        """
        parts = [self.title, self._told]
        for k, (note, group) in enumerate(groupby(rows, itemgetter(1))):
            parts += [note, *lines([] if k else self.header, (row for row, _ in group))]
        content = "".join(parts).encode()

        def write(temporary: Path) -> None:
            temporary.write_bytes(content)

        replace_whole(self.path, write)


def _fields(line: str) -> list[str]:
    """The fields of one line; none of a line that `lines` cannot have written."""
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return []


def lines(header: Sequence[str], rows: Iterable[Mapping[str, str]]) -> list[str]:
    """CSV lines, the header first if there is one."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([*([header] if header else []), *(row.values() for row in rows)])
    return out.getvalue().splitlines(keepends=True)


def text_of(value: Any) -> str:
    """A value as it stands in the file; floats keep every bit. ValueError: no number, no bool, no one line of text."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, str) and value.isprintable() and not value.startswith("#"):
        return value
    if isinstance(value, bool | int | float):
        return repr(value)
    raise ValueError(f"{value!r}: must be a number, a bool or one line of text")


def parse(text: str) -> Value:
    """The value of a text in the file."""
    if text in ("True", "False"):
        return text == "True"
    if not re.search(r"\d|nan|inf", text) or "_" in text:  # words, and what Python alone takes for numbers
        return text
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text
