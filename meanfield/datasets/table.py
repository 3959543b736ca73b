"""A table of named columns, and the examples in it: the label's column, those left out, texts as features."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..arrays import refuse_long_labels, refuse_unusable
from ..errors import InputError, did_you_mean
from .dataset import Dataset, refuse_gaps

_MOST_TEXTS = 256  # that one column makes features of
_DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+")


@dataclass(frozen=True, eq=False)
class Table:
    """Cells that are numbers, texts or missing.

    Parameters
    ----------
    source : str
        Where it is from, in messages.
    names : sequence of str
        k names, one a column.
    values : ndarray (n, k), float64
        NaN where a cell is missing, or a text.
    texts : dict
        column -> row -> text, of the cells that are texts.
    lines : sequence of int
        The line of each row, if it has one.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.datasets.table import Table
    >>> table = Table(
    ...     "pets.csv", ["legs", "kind"], np.array([[4, np.nan], [2, np.nan]]), {1: {0: "cat", 1: "hen"}}, [2, 3]
    ... )
    >>> table.place(1, 1)
    "pets.csv: line 3, column 'kind'"
    """

    source: str
    names: Sequence[str]
    values: np.ndarray
    texts: dict[int, dict[int, str]] = field(default_factory=dict)
    lines: Sequence[int] = ()

    def place(self, row: int, column: int) -> str:
        """Where a cell is, for a message."""
        line = f"line {self.lines[row]}" if len(self.lines) else f"row {row}"
        return f"{self.source}: {line}, column {self.names[column]!r}"

    def column(self, name: str | int, key: str) -> int:
        """The column that a setting means, by name, or by its place from 0 on, from -1 backwards."""
        if isinstance(name, int) and -len(self.names) <= name < len(self.names):
            return name % len(self.names)
        if str(name) in self.names:
            return list(self.names).index(str(name))
        hint = did_you_mean(
            name, self.names, f"there are {', '.join(self.names[:12])}{', ...' * (len(self.names) > 12)}"
        )
        raise InputError(f"{self.source}: {key} = {name!r}: no such column{hint}")

    def missing(self, column: int) -> np.ndarray:
        """Which rows (n,) have nothing in that column."""
        empty = np.isnan(self.values[:, column])
        empty[list(self.texts.get(column, ()))] = False
        return empty

    def refuse_comma(self, column: int) -> None:
        """InputError: a number with a comma in it, which may stand for the point or for thousands."""
        for row, text in self.texts.get(column, {}).items():
            if _DECIMAL_COMMA.fullmatch(text):
                raise InputError(f"{self.place(row, column)} is {text[:40]!r}: must be a number with a decimal point")

    def cells(self, column: int) -> list[str]:
        """The column as texts, numbers as briefly as they can be written."""
        texts = self.texts.get(column, {})
        return [texts.get(i) or _written(value) for i, value in enumerate(self.values[:, column].tolist())]

    def rows(self, kept: np.ndarray) -> Table:
        """The table of the rows in which `kept` (n,) is true."""
        place = np.cumsum(kept) - 1
        texts = {j: {int(place[i]): text for i, text in own.items() if kept[i]} for j, own in self.texts.items()}
        lines = [line for line, keep in zip(self.lines, kept, strict=False) if keep]  # or none, of a file without lines
        return Table(self.source, self.names, self.values[kept], texts, lines)


def examples(table: Table, section: Any) -> Dataset:
    """Inputs and labels of a table, as a configuration's data section asks for them.

    Parameters
    ----------
    table : Table
        At least two columns.
    section : object
        With `label`, `drop`, `one_hot` and `missing`.

    Returns
    -------
    Dataset
        With NaN in X where a value is missing, unless that is refused.

    Raises
    ------
    InputError
        A column that is not there, a label that is missing, a text among the features that is not asked for.

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> from meanfield.datasets.table import Table, examples
    >>> table = Table("a", ["sex", "age", "y"], np.array([[np.nan, 3, 0], [np.nan, 4, 1]]), {0: {0: "f", 1: "m"}})
    >>> section = SimpleNamespace(label=None, drop=["age"], one_hot=True, missing="refuse")
    >>> dataset = examples(table, section)
    >>> dataset.feature_names, dataset.X.tolist(), dataset.y.tolist()
    (('sex=f', 'sex=m'), [[1.0, 0.0], [0.0, 1.0]], [0, 1])
    """
    dropped = {table.column(name, "data.drop") for name in section.drop}
    left = [j for j in range(len(table.names)) if j not in dropped]
    label = (left or [0])[-1] if section.label is None else table.column(section.label, "data.label")
    features = [j for j in left if j != label]
    if label in dropped or not features:
        raise InputError(f"{table.source}: data.drop leaves no features, or no label: must leave both")
    if section.missing == "drop":
        table = table.rows(~np.any([table.missing(j) for j in (label, *features)], axis=0))
    _refuse_no_labels(table, label)
    many = isinstance(section.one_hot, list)
    spread = {table.column(name, "data.one_hot") for name in section.one_hot} if many else set()
    parts = [_feature(table, j, j in spread, section.one_hot is True) for j in features]
    X = np.column_stack([columns for columns, _ in parts])
    names = [name for _, own in parts for name in own]
    owners = [j for j, (_, own) in zip(features, parts, strict=True) for _ in own]
    refuse_unusable(np.where(np.isnan(X), 0.0, X), lambda at: table.place(at[0], owners[at[1]]))
    if section.missing == "refuse":
        refuse_gaps(X, lambda at: table.place(at[0], owners[at[1]]))
    return Dataset(X, _labels(table, label), None, None, table.source, tuple(names))


def _refuse_no_labels(table: Table, label: int) -> None:
    """InputError: a row without a label, or no row at all."""
    if not len(table.values):
        raise InputError(f'{table.source}: data.missing = "drop": every example lacks a value; "mean" keeps them')
    none = table.missing(label)
    if none.any():
        raise InputError(
            f"{table.place(int(np.argmax(none)), label)} is nan or missing ({int(none.sum())} in all): "
            'must be a label; data.missing = "drop" leaves such examples out'
        )


def _labels(table: Table, label: int) -> np.ndarray:
    """Text if any label is, else int64 if all are whole numbers, else float64."""
    table.refuse_comma(label)
    texts, numbers = table.texts.get(label, {}), table.values[:, label]
    if texts and np.any(numbers != np.rint(numbers), where=~np.isnan(numbers)):
        raise InputError(
            f"{table.place(min(texts), label)} is {texts[min(texts)][:40]!r} among numbers: must be a number"
        )
    if texts:
        cells = table.cells(label)
        refuse_long_labels(cells, f"{table.source}: column {table.names[label]!r}")
        return np.array(cells)
    y = numbers.copy()
    refuse_unusable(y, lambda at: table.place(at[0], label))
    return y.astype(np.int64) if np.all(y == np.rint(y)) else y


def _feature(table: Table, column: int, asked: bool, texts_too: bool) -> tuple[np.ndarray, list[str]]:
    """The feature that a column of numbers is, or those that its texts make: arrays (n,) or (n, texts), and names."""
    texts, values, name = table.texts.get(column, {}), table.values[:, column], table.names[column]
    missing = table.missing(column)
    if not texts and (not asked or missing.all()):
        return values, [name]
    if not asked:
        table.refuse_comma(column)
    pure = len(texts) + int(missing.sum()) == len(values)
    if not (asked or (texts_too and pure)):
        raise InputError(
            f"{table.place(min(texts), column)} is {texts[min(texts)][:40]!r}{'' if pure else ' among numbers'}: "
            f"must be a number; data.one_hot = [{name!r}] makes a feature of each text, data.drop leaves it out"
        )
    kinds = [*map(_written, np.unique(values[~np.isnan(values)]).tolist()), *sorted({*texts.values()})]
    if len(kinds) > _MOST_TEXTS:
        raise InputError(
            f"{table.source}: column {name!r} holds {len(kinds)} different values: must be at most {_MOST_TEXTS} to "
            f"make a feature of each; data.drop = [{name!r}] leaves it out"
        )
    number = {kind: k for k, kind in enumerate(kinds)} | {"nan": 0}
    spread = np.eye(len(kinds))[[number[cell] for cell in table.cells(column)]]
    spread[missing] = np.nan
    return spread, [f"{name}={kind}" for kind in kinds]


def _written(value: float) -> str:
    return repr(value + 0.0).removesuffix(".0")  # -0.0 as 0
