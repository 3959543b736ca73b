"""Users' files: .npz, .h5 and .csv, which may be damaged, enormous, or mean harm."""

from __future__ import annotations

import csv
import math
import struct
import zipfile
import zlib
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import refuse_long_labels, refuse_unusable
from ..errors import InputError, did_you_mean
from .dataset import Dataset, checked_dataset
from .generators import LARGEST_BYTES

_LARGEST_LINE = 2**26
_DEFLATE_RATIO = 1100  # deflate packs at most about 1032 : 1


def from_file(source: str, label: str | None) -> Dataset:
    """The dataset in an .npz, .h5 or .csv file; `label` names the label's column of a .csv (by default the last)."""
    if source.endswith(".csv"):
        with _readable(source):
            return _read_csv(source, label)
    arrays = read_arrays(source, ("X", "y", "X_test", "y_test"))
    for name in ("X", "y"):
        if name not in arrays:
            raise InputError(f"{source}: has no array {name!r}: must hold X (n, d) and y (n,)")
    return checked_dataset(**arrays, where=source)  # type: ignore[arg-type]


@contextmanager
def _readable(source: str) -> Iterator[None]:
    """InputError for a path that the system cannot open or read."""
    if "\0" in source:
        raise InputError(f"{source!r}: cannot be read: a path cannot hold the character NUL")
    try:
        yield
    except OSError as error:
        raise InputError(f"{source}: cannot be read: {error.strerror or error}") from None


def read_arrays(source: str | Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Those arrays of an .npz or .h5 file that are there; InputError for a file that is not what it says."""
    if str(source).endswith(".h5"):
        from .hdf5_subprocess import read_arrays as read_h5

        with _readable(str(source)):
            return read_h5(source, names)
    try:
        with _readable(str(source)), zipfile.ZipFile(source) as archive:
            present = set(archive.namelist())
            return {name: _read_npy(archive, name, str(source)) for name in names if f"{name}.npy" in present}
    except (
        zipfile.BadZipFile,
        EOFError,
        NotImplementedError,
        RuntimeError,
        UnicodeDecodeError,
        struct.error,
        zlib.error,
    ) as error:
        raise InputError(
            f"{source}: not a readable .npz file ({error or 'it ends early'}): must be written by numpy.savez"
        ) from None


def _read_npy(archive: zipfile.ZipFile, name: str, source: str) -> np.ndarray:
    """One member, its declared size held against what the file can contain before any room is made for it."""
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as file:
        try:
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = header(file)
        except (zipfile.BadZipFile, zlib.error):
            raise
        except Exception as error:  # NumPy hands the text to Python's parser, which fails in many ways
            raise InputError(f"{source}: array {name!r} has a damaged header: {_one_line(error)}") from None
        content = info.file_size - file.tell()
    if dtype.hasobject:
        raise InputError(f"{source}: array {name!r} holds pickled objects: must be plain numbers or strings")
    declared = math.prod(shape) * max(dtype.itemsize, 1)
    possible = _DEFLATE_RATIO * info.compress_size + 4096
    if min(shape, default=0) < 0 or declared != content or declared > min(LARGEST_BYTES, possible):
        raise InputError(
            f"{source}: array {name!r} declares shape {shape}, {declared} bytes: "
            f"must be the {content} that the file holds, and at most 64 GiB"
        )
    with archive.open(info) as file:
        try:
            return np.lib.format.read_array(file, allow_pickle=False)
        except ValueError as error:
            raise InputError(f"{source}: array {name!r} cannot be read: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _read_csv(source: str, label: str | None) -> Dataset:
    """A header of distinct names, then one example a row; blank lines are skipped."""
    values, labels, lines = array("d"), [], array("q")
    with open(source, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(_short_lines(file, source), strict=True)  # or an open quote swallows the rest
        try:
            header, column = _header(next(reader, None), label, source)
            names = header[:column] + header[column + 1 :]
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise InputError(
                        f"{source}: line {reader.line_num}: {len(row)} fields: must be {len(header)}, as in the header"
                    )
                labels.append(row.pop(column).strip())
                values.extend(_numbers(row, names, source, reader.line_num))
                lines.append(reader.line_num)
        except csv.Error as error:
            raise InputError(
                f"{source}: line {reader.line_num}: {error}: must be comma-separated values, every quote closed"
            ) from None
        except UnicodeDecodeError:
            raise InputError(f"{source}: not UTF-8 text after line {reader.line_num}: must be saved as UTF-8") from None
    if not labels:
        raise InputError(f"{source}: no rows under the header: must hold at least one example")
    X = np.array(values).reshape(len(labels), len(names))
    refuse_unusable(X, lambda place: f"{source}: line {lines[place[0]]}, column {names[place[1]]!r}")
    y = _csv_labels(labels, lines, f"{source}: ", header[column])
    return checked_dataset(X, y, where=source, feature_names=names)


def _short_lines(file: Any, source: str) -> Iterator[str]:
    while line := file.readline(_LARGEST_LINE):
        if len(line) == _LARGEST_LINE:
            raise InputError(f"{source}: a line is longer than 64 MiB: must be a table of comma-separated values")
        yield line


def _header(row: list[str] | None, label: str | None, source: str) -> tuple[list[str], int]:
    """The column names and the index of the label's."""
    if row is None or not any(cell.strip() for cell in row):
        raise InputError(f"{source}: no header: the first line must name the columns")
    header = [cell.strip() for cell in row]
    if all(map(_is_number, header)):
        raise InputError(f"{source}: no header: the first line holds numbers, but must name the columns")
    for name, times in Counter(header).items():
        if not name or times > 1:
            what = f"column name {name!r} appears {times} times" if name else "a column has no name"
            raise InputError(f"{source}: {what}: names must be given and distinct")
    if len(header) < 2:
        raise InputError(f"{source}: one column only, {header[0]!r}: must be features and a label, comma-separated")
    if label is None:
        return header, len(header) - 1
    if label not in header:
        hint = did_you_mean(label, header, f"did you mean {header[-1]}?")
        raise InputError(f"{source}: data.label = {label!r}: no such column{hint}")
    return header, header.index(label)


def _numbers(row: list[str], names: list[str], source: str, line: int) -> list[float]:
    try:
        if "_" in "".join(row):  # Python would read 1_0 as 10
            raise ValueError
        return [float(cell) for cell in row]
    except ValueError:
        place = next(i for i, cell in enumerate(row) if not _is_number(cell))
    what = repr(row[place][:40]) if row[place].strip() else "empty"
    raise InputError(f"{source}: line {line}, column {names[place]!r} is {what}: must be a number")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def _csv_labels(labels: list[str], lines: array, where: str, column: str) -> np.ndarray:
    """Labels as int64 if all are whole numbers, else float64 if all are numbers, else text."""
    for line, label in zip(lines, labels, strict=True):
        if not label:
            raise InputError(f"{where}line {line}, column {column!r} is empty: must be a label")
    if not all(map(_is_number, labels)):
        refuse_long_labels(labels, f"{where}column {column!r}")
        return np.array(labels)
    y = np.array(labels, dtype=np.float64)
    refuse_unusable(y, lambda place: f"{where}line {lines[place[0]]}, column {column!r}")
    return y.astype(np.int64) if np.all(y == np.rint(y)) else y
