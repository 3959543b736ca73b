"""Dataset: arrays that have been checked, and what is done to them whole: splitting, standardizing, a bias."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..engine import exact_math
from ..errors import InputError
from .generators import SPLIT, words

LARGEST_VALUE = 1e15
LARGEST_LABEL = 256  # characters; NumPy gives every label the room of the longest


@dataclass(frozen=True, eq=False)
class Dataset:
    """Inputs and labels as they came, checked (`checked_dataset`), with a test set or without.

    Parameters
    ----------
    X : ndarray (n, d), float64
        Inputs: C-contiguous, finite.
    y : ndarray (n,) or (n, C); int64, float64 or str
        Labels as they came.
    X_test, y_test : ndarray or None
        The same of a test set; both or neither.
    name : str
        The source, also in messages.
    feature_names : tuple of str, optional
        d names.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.datasets.dataset import Dataset
    >>> dataset = Dataset(np.eye(2), np.array([1, -1]), None, None, "two points")
    >>> dataset.sha256[:12]
    '...'
    """

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


def checked_dataset(
    X: Any,
    y: Any,
    X_test: Any = None,
    y_test: Any = None,
    *,
    where: str = "data",
    feature_names: Sequence[str] | None = None,
) -> Dataset:
    """A Dataset of arrays that nobody has checked: X becomes float64, y int64, float64 or str.

    Parameters
    ----------
    X : array (n, d) of numbers
        Inputs; booleans and integers become float64.
    y : array (n,) or (n, C) of numbers or strings
        Labels, or C targets of each example.
    X_test, y_test : array, optional
        The same of a test set; both or neither.
    where : str
        Names the dataset, also in messages.
    feature_names : sequence of str, optional
        d names.

    Raises
    ------
    InputError
        Shapes that do not fit, what is not a number, NaN, infinity and values beyond 1e15.

    Examples
    --------
    >>> from meanfield.datasets.dataset import checked_dataset
    >>> checked_dataset([[1, 0], [0, 1]], ["cat", "dog"], where="pets").X.dtype
    dtype('float64')
    >>> checked_dataset([[1, 0], [0, float("nan")]], [1, -1], where="pets")
    Traceback (most recent call last):
    ...
    meanfield.errors.InputError: pets: X[1, 1] is nan: must be finite
    """
    X, y = _pair(X, y, where, "X", "y")
    if (X_test is None) != (y_test is None):
        raise InputError(f"{where}: has one of X_test and y_test: must have both or neither")
    if X_test is not None:
        X_test, y_test = _pair(X_test, y_test, where, "X_test", "y_test")
        if X_test.shape[1] != X.shape[1] or y_test.shape[1:] != y.shape[1:]:
            raise InputError(
                f"{where}: X_test has shape {X_test.shape}, y_test {y_test.shape}: must match "
                f"X {X.shape}, y {y.shape} but for the number of examples"
            )
    return Dataset(X, y, X_test, y_test, where, None if feature_names is None else tuple(feature_names))


def _pair(X: Any, y: Any, where: str, name_x: str, name_y: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and labels of as many examples, checked."""
    X, y = _inputs(X, f"{where}: {name_x}"), _targets(y, f"{where}: {name_y}")
    if len(X) != len(y):
        raise InputError(
            f"{where}: {name_x} has shape {X.shape} and {name_y} {y.shape}: must be as many examples in both"
        )
    return X, y


def split(dataset: Dataset, section: Any) -> Dataset:
    """Set `test_fraction` of the examples aside, in their old order, unless there is a test set already."""
    n = len(dataset.y)
    n_test = round(section.test_fraction * n)
    if dataset.X_test is not None or n_test == 0:
        return dataset
    if n_test == n:
        raise InputError(f"data.test_fraction = {section.test_fraction}: leaves none of the {n} examples to train on")
    order = np.argsort(words(section, n, SPLIT), kind="stable")
    test, train = np.sort(order[:n_test]), np.sort(order[n_test:])
    X, y = dataset.X, dataset.y
    return replace(dataset, X=X[train], y=y[train], X_test=X[test], y_test=y[test])


def standardized(dataset: Dataset) -> Dataset:
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
        refuse_unusable(X_test, lambda place: f"{dataset.name}: standardized X_test[{place[0]}, {place[1]}]")
    return replace(dataset, X=(X - mean) / scale, X_test=X_test)


def with_bias(dataset: Dataset) -> Dataset:
    """A further feature that is 1 everywhere."""

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
    refuse_unusable(X, lambda place: f"{where}[{place[0]}, {place[1]}]")
    return X


def _targets(y: np.ndarray, where: str) -> np.ndarray:
    y = np.asarray(y)
    if y.dtype.kind == "O" and y.ndim == 1 and y.size and all(isinstance(label, str | bytes) for label in y):
        refuse_long_labels(y, where)
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
    refuse_unusable(numbers, lambda place: f"{where}[{', '.join(map(str, place))}]")
    return numbers if y.dtype.kind == "f" else numbers.astype(np.int64)


def refuse_unusable(values: np.ndarray, name: Callable[[tuple[int, ...]], str]) -> None:
    """InputError at the first value that is not finite or larger than LARGEST_VALUE."""
    bad = ~(np.abs(values) <= LARGEST_VALUE)
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        value = values[place]
        cure = "rescale the data to at most 1e15" if np.isfinite(value) else "must be finite"
        raise InputError(f"{name(place)} is {value}: {cure}")


def refuse_long_labels(labels: Sequence[Any] | np.ndarray, where: str) -> None:
    """InputError for a label above LARGEST_LABEL characters."""
    if max(map(len, labels), default=0) > LARGEST_LABEL:
        raise InputError(f"{where}: a label is longer than {LARGEST_LABEL} characters")
