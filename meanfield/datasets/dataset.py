"""Dataset: arrays that have been checked, and what is done to them whole: splitting, standardizing, a bias."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..arrays import at, inputs, labels, refuse_unusable
from ..engine import exact_math
from ..errors import InputError
from ..storage.hashing import bytes_of
from .generators import SPLIT, words

_VALUES = 1 << 20  # taken into a digest at a time


@dataclass(frozen=True, eq=False)
class Dataset:
    """Inputs and labels as they came, checked (`checked_dataset`), with a test set or without.

    Parameters
    ----------
    X : ndarray (n, d); uint8, float32 or float64
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
        """Hex digest over the shapes, dtypes and bytes of the four arrays, the inputs as float64."""
        digest = hashlib.sha256()
        for values, dtype in ((self.X, "<f8"), (self.y, None), (self.X_test, "<f8"), (self.y_test, None)):
            if values is None:
                digest.update(b"none;")
                continue
            digest.update(f"{values.shape} {dtype or values.dtype.str};".encode())
            flat = np.ascontiguousarray(values).reshape(-1)
            for start in range(0, len(flat), _VALUES):
                digest.update(bytes_of(flat[start : start + _VALUES].astype(dtype or flat.dtype, copy=False)))
        return digest.hexdigest()


def checked_dataset(
    X: Any,
    y: Any,
    X_test: Any = None,
    y_test: Any = None,
    *,
    where: str = "data",
    feature_names: Sequence[str] | None = None,
    gaps: bool = False,
) -> Dataset:
    """A Dataset of arrays that nobody has checked: X stays uint8 or float32, else is float64; y int64, float64 or str.

    Parameters
    ----------
    X : array (n, d) of numbers
        Inputs.
    y : array (n,) or (n, C) of numbers or strings
        Labels, or C targets of each example.
    X_test, y_test : array, optional
        The same of a test set; both or neither.
    where : str
        Names the dataset, also in messages.
    feature_names : sequence of str, optional
        d names.
    gaps : bool
        Whether NaN in X and y stands for a value that is missing.

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
    X, y = _pair(X, y, where, "", gaps)
    if (X_test is None) != (y_test is None):
        raise InputError(f"{where}: has one of X_test and y_test: must have both or neither")
    if X_test is not None:
        X_test, y_test = _pair(X_test, y_test, where, "_test", gaps)
        if X_test.shape[1] != X.shape[1] or y_test.shape[1:] != y.shape[1:]:
            raise InputError(
                f"{where}: X_test has shape {X_test.shape}, y_test {y_test.shape}: must match "
                f"X {X.shape}, y {y.shape} but for the number of examples"
            )
    return Dataset(X, y, X_test, y_test, where, None if feature_names is None else tuple(feature_names))


def _pair(X: Any, y: Any, where: str, end: str, gaps: bool) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and labels of as many examples, checked."""
    X, y = inputs(X, f"{where}: X{end}", gaps=gaps), _targets(y, f"{where}: y{end}", gaps)
    if len(X) != len(y):
        raise InputError(f"{where}: X{end} has shape {X.shape} and y{end} {y.shape}: must be as many examples in both")
    return X, y


def split(dataset: Dataset, section: Any, *, by_class: bool = False) -> Dataset:
    """Set `test_fraction` of the examples aside, in their old order, unless there is a test set already.

    With `by_class`, as near as can be the same share of every class, where y (n,) is text or whole numbers: the k-th of
    the K examples of a class, in a random order, comes up at (k + ½)/K, and those go that come up first. Classes of one
    example each are split as if there were none.
    """
    n, y = len(dataset.y), dataset.y
    n_test = round(section.test_fraction * n)
    if dataset.X_test is not None or n_test == 0:
        return dataset
    if n_test == n:
        raise InputError(f"data.test_fraction = {section.test_fraction}: leaves none of the {n} examples to train on")
    order = np.argsort(words(section, n, SPLIT), kind="stable")
    if by_class and y.ndim == 1 and (y.dtype.kind == "U" or np.all(y == np.rint(y))):
        order = order[np.argsort(_turns(y[order]), kind="stable")]
    test, train = np.sort(order[:n_test]), np.sort(order[n_test:])
    lost = sorted({*y[test].tolist()} - {*y[train].tolist()}) if y.ndim == 1 and y.dtype.kind == "U" else []
    if lost:
        raise InputError(
            f"{dataset.name}: the split by data.test_fraction = {section.test_fraction} leaves no example of "
            f"{lost[0]!r} to train on: must be smaller"
        )
    return replace(dataset, X=dataset.X[train], y=y[train], X_test=dataset.X[test], y_test=y[test])


def _turns(y: np.ndarray) -> np.ndarray:
    """(k + ½)/K for the k-th of K equal labels."""
    _, inverse, counts = np.unique(y, return_inverse=True, return_counts=True)
    together = np.argsort(inverse, kind="stable")
    k = np.empty(len(y))
    k[together] = np.arange(len(y)) - np.repeat(np.cumsum(counts) - counts, counts)
    return (k + 0.5) / counts[inverse]


def refuse_gaps(X: np.ndarray, name: str | Callable[[tuple[int, ...]], str]) -> None:
    """InputError at the first value that is missing, NaN, with their number; `name` as of `refuse_unusable`."""
    gaps = np.isnan(X)
    if gaps.any():
        place = tuple(int(i) for i in np.argwhere(gaps)[0])
        count, features = int(gaps.sum()), int(gaps.any(axis=0).sum())
        raise InputError(
            f"{at(name, place)} is nan or missing ({count} in all, of {features} feature{'s' * (features > 1)}): "
            'must be finite; data.missing = "drop" leaves such examples out, "mean" takes the mean'
        )


def without_gaps(dataset: Dataset) -> Dataset:
    """The examples of which no value and no label is missing. InputError: there are none."""

    def whole(X: np.ndarray | None, y: np.ndarray | None) -> tuple[np.ndarray | None, np.ndarray | None]:
        if X is None or y is None:
            return X, y
        kept = ~np.isnan(X).any(axis=1)
        if y.dtype.kind == "f":
            kept &= ~np.isnan(y).reshape(len(y), -1).any(axis=1)
        return X[kept], y[kept]

    (X, y), (X_test, y_test) = whole(dataset.X, dataset.y), whole(dataset.X_test, dataset.y_test)
    if not len(X) or (X_test is not None and not len(X_test)):  # type: ignore[arg-type]
        raise InputError(f'{dataset.name}: data.missing = "drop": every example lacks a value; "mean" keeps them')
    return replace(dataset, X=X, y=y, X_test=X_test, y_test=y_test)  # type: ignore[arg-type]


def filled(dataset: Dataset) -> Dataset:
    """With the mean of a feature over the training set where a value is missing. InputError: it has none."""
    gaps = np.isnan(dataset.X)
    if not gaps.any() and (dataset.X_test is None or not np.isnan(dataset.X_test).any()):
        return dataset
    there = len(gaps) - gaps.sum(axis=0)
    if not there.all():
        column = int(np.argmin(there))
        name = repr(dataset.feature_names[column]) if dataset.feature_names else str(column)
        raise InputError(
            f"{dataset.name}: feature {name} has no value in the training set: must be left out by data.drop"
        )
    mean = exact_math.column_sums(np.where(gaps, 0.0, dataset.X)) / there

    def whole(X: np.ndarray) -> np.ndarray:
        return np.where(np.isnan(X), mean, X)

    return replace(dataset, X=whole(dataset.X), X_test=None if dataset.X_test is None else whole(dataset.X_test))


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
        refuse_unusable(X_test, f"{dataset.name}: standardized X_test")
    return replace(dataset, X=(X - mean) / scale, X_test=X_test)


def with_bias(dataset: Dataset) -> Dataset:
    """A further feature that is 1 everywhere."""

    def extended(X: np.ndarray) -> np.ndarray:
        return np.column_stack([X, np.ones(len(X), X.dtype)])

    names = None if dataset.feature_names is None else (*dataset.feature_names, "1")
    X_test = None if dataset.X_test is None else extended(dataset.X_test)
    return replace(dataset, X=extended(dataset.X), X_test=X_test, feature_names=names)


def _targets(y: Any, where: str, gaps: bool) -> np.ndarray:
    y = labels(y, where)
    if y.ndim not in (1, 2) or y.size == 0:
        raise InputError(f"{where} has shape {y.shape}: must be (n,) or (n, C), and not empty")
    if y.dtype.kind == "U":
        return np.array(y.tolist())  # no wider than its longest label, as a run file keeps it
    if y.dtype.kind not in "biuf":
        raise InputError(f"{where} has dtype {y.dtype}: must be numbers or strings")
    values = np.ascontiguousarray(y, dtype=np.float64)
    refuse_unusable(np.where(np.isnan(values), 0.0, values) if gaps else values, where)
    return values if y.dtype.kind == "f" else values.astype(np.int64)
