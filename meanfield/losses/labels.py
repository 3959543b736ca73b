"""From labels as users have them to targets: what a loss of each kind can read, and what it says of the rest."""

from __future__ import annotations

import numpy as np

from ..errors import InputError


def read_labels(y: np.ndarray, where: str) -> np.ndarray:
    """Labels (n,) or (n, 1) as int64, float64 (only if some are not whole) or str. InputError: other shapes, types."""
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or y.size == 0:
        raise InputError(f"{where} has shape {y.shape}: labels must be (n,), and not empty")
    if y.dtype.kind == "S":
        return np.char.decode(y, "utf-8", "replace")
    if y.dtype.kind not in "biufU":
        raise InputError(f"{where} has dtype {y.dtype}: labels must be numbers or strings")
    if y.dtype.kind == "f":
        refuse_non_finite(y, where)
        if not np.all((y == np.rint(y)) & (np.abs(y) < 2**53)):
            return y.astype(np.float64)
    return y if y.dtype.kind == "U" else y.astype(np.int64)


def numbered(labels: np.ndarray, classes: np.ndarray, where: str) -> np.ndarray:
    """The place (n,) int64 of each label among the sorted classes. InputError: a label that is none of them."""
    classes = np.asarray(classes)
    known = (
        np.isin(labels, classes)
        if (labels.dtype.kind == "U") == (classes.dtype.kind == "U")
        else np.zeros(len(labels), bool)
    )
    if not known.all():
        first = int(np.argmin(known))
        raise InputError(
            f"{where}[{first}] is {labels[first].item()!r}, a label that the training set lacks "
            f"(it has {_listed(classes)}); if a split did it, data.test_fraction must be smaller"
        )
    return np.searchsorted(classes, labels).astype(np.int64)


def refuse_non_finite(y: np.ndarray, where: str) -> None:
    """InputError: NaN or inf, with its place."""
    bad = np.argwhere(~np.isfinite(y))
    if len(bad):
        raise InputError(f"{where}[{int(bad[0][0])}] is {y[tuple(bad[0])]}: must be finite")


def described(distinct: np.ndarray) -> str:
    """How many distinct labels there are, and the first of them, for a message."""
    return f"found {len(distinct)} distinct label{'s' * (len(distinct) != 1)}: {_listed(distinct)}"


def suited_loss(distinct: np.ndarray) -> str:
    """Which loss would suit labels that are not two classes, for a message."""
    if len(distinct) == 1:
        return "add examples of the other class"
    names = {"f": '"squared"', "U": '"cross_entropy"'}
    return "set loss = " + names.get(distinct.dtype.kind, '"cross_entropy" for classes, "squared" for regression')


def _listed(labels: np.ndarray) -> str:
    shown = ", ".join(repr(value) for value in labels[:5].tolist())
    return shown + (", ..." if len(labels) > 5 else "")
