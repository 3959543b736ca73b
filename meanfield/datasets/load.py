"""Dataset, and where it comes from: the paper's generators, scikit-learn's toy sets, the user's files."""

from __future__ import annotations

import csv
import difflib
import hashlib
import math
import struct
import zipfile
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..engine import exact_algebra, exact_math, noise
from ..errors import InputError

LARGEST_VALUE = 1e15
LARGEST_BYTES = 64 * 2**30
LARGEST_LABEL = 256  # characters; NumPy gives every label the room of the longest
_LARGEST_LINE = 2**26
_DEFLATE_RATIO = 1100  # deflate packs at most about 1032 : 1
# Streams of random numbers, next to the seed; none is 0, for SeedSequence takes trailing zeros for nothing.
TRAIN, TEST, TEACHER, SPLIT = 1, 2, 3, 4


@dataclass(frozen=True, eq=False)
class Dataset:
    """X (n, d) float64, C-contiguous, finite; raw labels y (n,) or (n, C), int64, float64 or str; test set or None."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray | None
    y_test: np.ndarray | None
    name: str
    feature_names: tuple[str, ...] | None = None

    @cached_property
    def sha256(self) -> str:
        """Hex digest over the shapes, dtypes and bytes of the four arrays."""
        digest = hashlib.sha256()
        for values in (self.X, self.y, self.X_test, self.y_test):
            digest.update(b"none;" if values is None else f"{values.shape} {values.dtype.str};".encode())
            if values is not None:
                digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()


def load_dataset(section: Any) -> Dataset:
    """The dataset that a configuration's data section asks for.

    Generated sets are independent streams of `data.seed` for training and test, and the first n examples of a longer
    set are the set of n (except for "line", which is evenly spaced). Other sources without a test set lose
    `test_fraction` of their examples to one, chosen by `data.seed`. Raises InputError for whatever cannot be used.
    """
    if section.source in GENERATORS:
        dataset = _generated(section)
    elif section.source.startswith("sklearn:"):
        dataset = _split(_from_sklearn(section.source.removeprefix("sklearn:")), section)
    else:
        dataset = _split(_from_file(section.source, section.label), section)
    if section.standardize:
        dataset = _standardized(dataset)
    return _with_bias(dataset) if section.bias else dataset


# Generators: (section, n, split) -> X (n, d) float64, y (n,)


def _words(section: Any, count: int, stream: int, part: int = 1) -> np.ndarray:
    """Random uint64 (count,). Of NumPy's random numbers only these words of PCG64 are promised to stay as they are."""
    return np.random.PCG64([section.seed, stream, part]).random_raw(count)


def _choices(section: Any, bits: int, shape: tuple[int, ...], stream: int, part: int = 1) -> np.ndarray:
    """Uniform int64 below 2^bits: the first bits of the words' halves, low halves first."""
    count = math.prod(shape)
    words = _words(section, -(-count // 2), stream, part)
    halves = np.stack([words & np.uint64(0xFFFFFFFF), words >> np.uint64(32)], axis=1).reshape(-1)[:count]
    return (halves >> np.uint64(32 - bits)).astype(np.int64).reshape(shape)


def _normals(seed: int, stream: int, first: int, count: int, components: int) -> np.ndarray:
    """Standard normals (count, components), those of the examples from `first` on."""
    return noise.normals(seed, noise.Purpose.DATA, stream, count, components, first=first, dtype="float64")


def _xor(section: Any, n: int, split: int) -> tuple[np.ndarray, np.ndarray]:
    """The distribution D of Wei et al. (arXiv 1810.05369): |x₁| - |x₂| = y, the other coordinates are fair ±1 noise."""
    X = np.zeros((n, section.d))
    corner = _choices(section, 2, (n,), split, 1)
    X[np.arange(n), corner // 2] = 1.0 - 2.0 * (corner % 2)
    X[:, 2:] = 2.0 * _choices(section, 1, (n, section.d - 2), split, 2) - 1.0
    return X, 1 - 2 * (corner // 2)


def teacher_units(seed: int, d: int, hidden: int) -> tuple[np.ndarray, np.ndarray]:
    """u (hidden, d) and w (hidden,) of the teacher: u_j, |w_j| standard normal, the signs of w_j alternate."""
    units = _normals(seed, TEACHER, 0, hidden, d + 1)
    return units[:, :d], np.abs(units[:, d]) * (1 - 2 * (np.arange(hidden) % 2))


def _teacher(section: Any, n: int, split: int) -> tuple[np.ndarray, np.ndarray]:
    """A random network g(x) = Σ_j w_j relu(u_j·x), j < `hidden`, on x ~ N(0, I_d); our own choice of constants.

    u_j and |w_j| are standard normal and the signs of w_j alternate, so that both classes occur. Regression: y = g(x),
    without noise. Classification: y = sign g(x), keeping only inputs with |g(x)| >= `margin` and g(x) != 0.
    """
    classes = section.task == "classification"
    if classes and section.hidden < 2:
        raise InputError("data.hidden = 1: a teacher of two classes needs at least 2 units")
    u, w = teacher_units(section.seed, section.d, section.hidden)
    kept, drawn, chunk = [np.empty((0, section.d))], 0, 1024
    outputs = [np.empty(0)]
    while sum(map(len, kept)) < n:
        X = _normals(section.seed, split, drawn, chunk, section.d)
        g = exact_algebra.product(np.maximum(exact_algebra.product(X, u.T), 0.0), w[:, None])[:, 0]
        keep = (np.abs(g) >= section.margin) & (g != 0.0) if classes else np.full(chunk, True)
        kept.append(X[keep])
        outputs.append(g[keep])
        drawn += chunk
        if drawn >= 1000 * n + 100_000:
            raise InputError(
                f"data.margin = {section.margin}: fewer than one input in a thousand reaches it: must be smaller"
            )
    y = np.concatenate(outputs)[:n]
    return np.concatenate(kept)[:n], np.sign(y).astype(np.int64) if classes else y


def _parity(section: Any, n: int, split: int) -> tuple[np.ndarray, np.ndarray]:
    """x uniform on {-1, 1}^d, y = x₁ … x_k."""
    X = 2.0 * _choices(section, 1, (n, section.d), split) - 1.0
    return X, X[:, : section.k].prod(axis=1).astype(np.int64)


def _line(section: Any, n: int, split: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (x, 1) with x in [-1, 1] cut into six equal intervals of alternating class, +1 first.

    Training: the middles of n equal cells. Test: uniform at random.
    """
    if split == TRAIN:
        x: np.ndarray = (2.0 * np.arange(n) + 1.0) / n - 1.0
    else:
        x = 2.0 * ((_words(section, n, split) >> np.uint64(11)) * 2.0**-53) - 1.0
    interval = np.minimum(np.floor(3.0 * (x + 1.0)), 5.0).astype(np.int64)
    return np.column_stack([x, np.ones(n)]), 1 - 2 * (interval % 2)


GENERATORS: dict[str, Callable[[Any, int, int], tuple[np.ndarray, np.ndarray]]] = {
    "xor": _xor,
    "teacher": _teacher,
    "parity": _parity,
    "line": _line,
}


def _generated(section: Any) -> Dataset:
    needed = {"n": 1, "d": 2 if section.source in ("xor", "line") else 1, "n_test": 0}
    for key, least in needed.items():
        if getattr(section, key) < least:
            raise InputError(f"data.{key} = {getattr(section, key)}: must be at least {least}")
    size = 8 * section.d * (section.n + section.n_test)
    if size > LARGEST_BYTES:
        raise InputError(
            f"data.n = {section.n}, data.n_test = {section.n_test}, data.d = {section.d}: "
            f"{size / 2**30:.0f} GiB of inputs: must be at most 64 GiB"
        )
    make = GENERATORS[section.source]
    X, y = make(section, section.n, TRAIN)
    X_test, y_test = make(section, section.n_test, TEST) if section.n_test else (None, None)
    return Dataset(X, y, X_test, y_test, section.source)


# Whole sets, and what is done to them


def _from_sklearn(name: str) -> Dataset:
    from sklearn import datasets  # type: ignore[import-untyped]

    loaders = {
        "digits": datasets.load_digits,
        "breast_cancer": datasets.load_breast_cancer,
        "diabetes": datasets.load_diabetes,
    }
    if name not in loaders:
        raise InputError(
            f"data.source = 'sklearn:{name}': must be one of {', '.join(f'sklearn:{known}' for known in loaders)}"
        )
    bunch = loaders[name]()
    names = tuple(map(str, bunch.feature_names))
    return checked_dataset(bunch.data, bunch.target, where=f"sklearn:{name}", feature_names=names)


def checked_dataset(
    X: np.ndarray,
    y: np.ndarray,
    X_test: np.ndarray | None = None,
    y_test: np.ndarray | None = None,
    *,
    where: str = "data",
    feature_names: Sequence[str] | None = None,
) -> Dataset:
    """A Dataset of arrays that nobody has checked; `where` names it, also in messages.

    Raises InputError for shapes that do not fit, what is not a number, NaN, infinity and values beyond 1e15.
    """
    X, y = _inputs(X, f"{where}: X"), _targets(y, f"{where}: y")
    if len(X) != len(y):
        raise InputError(f"{where}: X has shape {X.shape} and y {y.shape}: must be as many examples in both")
    if (X_test is None) != (y_test is None):
        raise InputError(f"{where}: has one of X_test and y_test: must have both or neither")
    if X_test is not None and y_test is not None:
        X_test, y_test = _inputs(X_test, f"{where}: X_test"), _targets(y_test, f"{where}: y_test")
        if len(X_test) != len(y_test):
            raise InputError(
                f"{where}: X_test has shape {X_test.shape} and y_test {y_test.shape}: must be as many examples in both"
            )
        if X_test.shape[1] != X.shape[1] or y_test.shape[1:] != y.shape[1:]:
            raise InputError(
                f"{where}: X_test has shape {X_test.shape}, y_test {y_test.shape}: must match "
                f"X {X.shape}, y {y.shape} but for the number of examples"
            )
    return Dataset(X, y, X_test, y_test, where, None if feature_names is None else tuple(feature_names))


def _split(dataset: Dataset, section: Any) -> Dataset:
    """Set `test_fraction` of the examples aside, in their old order, unless there is a test set already."""
    n = len(dataset.y)
    n_test = round(section.test_fraction * n)
    if dataset.X_test is not None or n_test == 0:
        return dataset
    if n_test == n:
        raise InputError(f"data.test_fraction = {section.test_fraction}: leaves none of the {n} examples to train on")
    order = np.argsort(_words(section, n, SPLIT), kind="stable")
    test, train = np.sort(order[:n_test]), np.sort(order[n_test:])
    X, y = dataset.X, dataset.y
    return replace(dataset, X=X[train], y=y[train], X_test=X[test], y_test=y[test])


def _standardized(dataset: Dataset) -> Dataset:
    """Mean 0 and standard deviation 1 over the training set; a constant column only loses its mean."""
    X = dataset.X
    mean = exact_math.column_sums(X) / len(X)
    scale = np.sqrt(exact_math.column_sums((X - mean) * (X - mean)) / len(X))
    constant = X.min(axis=0) == X.max(axis=0)
    mean[constant], scale[constant] = X[0, constant], 1.0
    scale[scale == 0.0] = 1.0
    X_test = None
    if dataset.X_test is not None:
        with np.errstate(over="ignore"):
            X_test = (dataset.X_test - mean) / scale
        _refuse_unusable(X_test, lambda place: f"{dataset.name}: standardized X_test[{place[0]}, {place[1]}]")
    return replace(dataset, X=(X - mean) / scale, X_test=X_test)


def _with_bias(dataset: Dataset) -> Dataset:
    def extended(X: np.ndarray) -> np.ndarray:
        return np.column_stack([X, np.ones(len(X))])

    names = None if dataset.feature_names is None else (*dataset.feature_names, "1")
    X_test = None if dataset.X_test is None else extended(dataset.X_test)
    return replace(dataset, X=extended(dataset.X), X_test=X_test, feature_names=names)


def _inputs(X: np.ndarray, where: str) -> np.ndarray:
    X = np.asarray(X)
    if X.ndim != 2 or X.size == 0:
        raise InputError(f"{where} has shape {X.shape}: must be (n, d), and not empty")
    if X.dtype.kind not in "biuf":
        raise InputError(f"{where} has dtype {X.dtype}: must be numbers")
    X = np.ascontiguousarray(X, dtype=np.float64)
    _refuse_unusable(X, lambda place: f"{where}[{place[0]}, {place[1]}]")
    return X


def _targets(y: np.ndarray, where: str) -> np.ndarray:
    y = np.asarray(y)
    if y.dtype.kind == "O" and y.ndim == 1 and y.size and all(isinstance(label, str | bytes) for label in y):
        _refuse_long_labels(y, where)
        y = np.array([label.decode("utf-8", "replace") if isinstance(label, bytes) else label for label in y])
    if y.ndim not in (1, 2) or y.size == 0:
        raise InputError(f"{where} has shape {y.shape}: must be (n,) or (n, C), and not empty")
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8", "replace")
    if y.dtype.kind == "U":
        return np.array(y.tolist())  # no wider than its longest label, as a run file keeps it
    if y.dtype.kind not in "biuf":
        raise InputError(f"{where} has dtype {y.dtype}: must be numbers or strings")
    numbers = np.ascontiguousarray(y, dtype=np.float64)
    _refuse_unusable(numbers, lambda place: f"{where}[{', '.join(map(str, place))}]")
    return numbers if y.dtype.kind == "f" else numbers.astype(np.int64)


def _refuse_unusable(values: np.ndarray, name: Callable[[tuple[int, ...]], str]) -> None:
    """InputError at the first value that is not finite or larger than LARGEST_VALUE."""
    bad = ~(np.abs(values) <= LARGEST_VALUE)
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        value = values[place]
        cure = "rescale the data to at most 1e15" if np.isfinite(value) else "must be finite"
        raise InputError(f"{name(place)} is {value}: {cure}")


def _refuse_long_labels(labels: Sequence[Any] | np.ndarray, where: str) -> None:
    if max(map(len, labels), default=0) > LARGEST_LABEL:
        raise InputError(f"{where}: a label is longer than {LARGEST_LABEL} characters")


# Files


def _from_file(source: str, label: str | None) -> Dataset:
    if source.endswith(".csv"):
        with _readable(source):
            return _read_csv(source, label)
    found = read_arrays(source, ("X", "y", "X_test", "y_test"))
    for name in ("X", "y"):
        if name not in found:
            raise InputError(f"{source}: has no array {name!r}: must hold X (n, d) and y (n,)")
    return checked_dataset(**found, where=source)  # type: ignore[arg-type]


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
    _refuse_unusable(X, lambda place: f"{source}: line {lines[place[0]]}, column {names[place[1]]!r}")
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
        near = difflib.get_close_matches(label, header, n=1) or header[-1:]
        raise InputError(f"{source}: data.label = {label!r}: no such column; did you mean {near[0]!r}?")
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
        _refuse_long_labels(labels, f"{where}column {column!r}")
        return np.array(labels)
    y = np.array(labels, dtype=np.float64)
    _refuse_unusable(y, lambda place: f"{where}line {lines[place[0]]}, column {column!r}")
    return y.astype(np.int64) if np.all(y == np.rint(y)) else y
