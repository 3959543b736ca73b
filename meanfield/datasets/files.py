"""Users' files of every kind, each by the reader that its name's ending asks for."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from ..arrays import refuse_unusable
from ..errors import InputError
from .array_files import read_examples
from .dataset import Dataset, checked_dataset, refuse_gaps, without_gaps
from .endings import TABLES, TEXT, ending
from .opened import readable, refuse_bomb
from .table import Table, examples
from .text_table import kind_of, read_text_table


def from_file(section: Any) -> Dataset:
    """The dataset in a user's file, as a configuration's data section asks for it.

    Parameters
    ----------
    section : object
        With `source`, a path; `missing`; and what tables need of `label`, `header`, `delimiter`, `drop`, `one_hot`.

    Returns
    -------
    Dataset
        With NaN in X where a value is missing, if `missing` is "mean".

    Raises
    ------
    InputError
        What cannot be read or used.

    Examples
    --------
    >>> import os, tempfile
    >>> from meanfield.datasets.files import from_file
    >>> from meanfield.simulation.config import Data
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "points.csv")
    ...     _ = open(path, "w").write("x,z,y\\n1,?,no\\n2,3,yes\\n")
    ...     from_file(Data(source=path, missing="drop")).X.tolist()
    [[2.0, 3.0]]
    """
    source = section.source
    if ending(source) in TABLES:
        dataset = examples(_table(section), section)
    else:
        arrays = _read_svm(source) if ending(source) in (".svm", ".libsvm") else read_examples(source)
        dataset = checked_dataset(**arrays, where=source, gaps=True)  # type: ignore[arg-type]
        for name in arrays if section.missing != "drop" else ():
            values = getattr(dataset, name)
            if name.startswith("y") and values.dtype.kind == "f":
                refuse_unusable(values, f"{source}: {name}")
            elif name.startswith("X") and section.missing == "refuse":
                refuse_gaps(values, f"{source}: {name}")
    return without_gaps(dataset) if section.missing == "drop" else dataset


def _table(section: Any) -> Table:
    if ending(section.source) in TEXT:
        return read_text_table(section.source, section.header, section.delimiter)
    return _read_arff(section.source) if ending(section.source) == ".arff" else _read_parquet(section.source)


def _read_arff(source: str) -> Table:
    from scipy.io import arff  # type: ignore[import-untyped]

    with readable(source):
        try:
            data, meta = arff.loadarff(source)
        except (InputError, OSError):
            raise
        except Exception as error:  # what SciPy's parser stumbles over, as any type
            raise InputError(
                f"{source}: not a readable ARFF file: {(str(error).splitlines() or ['damaged'])[0]}"
            ) from None
    return _of_columns(source, {name: data[name] for name in meta.names()})


def _read_parquet(source: str) -> Table:
    try:
        import pandas
    except ImportError:
        raise InputError(f"{source}: needs pandas: pip install 'meanfield-networks[parquet]'") from None
    with readable(source):
        try:
            frame = pandas.read_parquet(source)
        except ImportError:
            raise InputError(f"{source}: needs pyarrow: pip install 'meanfield-networks[parquet]'") from None
        except (InputError, OSError):
            raise
        except Exception as error:  # of pyarrow's own types
            raise InputError(
                f"{source}: not a readable Parquet file: {(str(error).splitlines() or ['damaged'])[0]}"
            ) from None
    return _of_columns(source, {str(name): frame[name].to_numpy() for name in frame.columns})


def _of_columns(source: str, columns: dict[str, np.ndarray]) -> Table:
    """A table of columns that are numbers, bytes, or objects of which some may be missing."""
    names = list(columns)
    if len(names) < 2 or not len(columns[names[0]]):
        raise InputError(f"{source}: must hold at least one example, of features and a label")
    texts: dict[int, dict[int, str]] = {}
    values = np.full((len(columns[names[0]]), len(names)), np.nan)
    for j, column in enumerate(columns.values()):
        if column.dtype.kind in "biuf":
            values[:, j] = column
            continue
        for i, cell in enumerate(column.tolist()):
            text = cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell)
            if kind_of(text) == "number":
                values[i, j] = float(text)
            elif kind_of(text) == "text":
                texts.setdefault(j, {})[i] = text
    return Table(source, names, values, texts)


def _read_svm(source: str) -> dict[str, np.ndarray]:
    """The label and `index:value` pairs of each line, as dense arrays."""
    from sklearn.datasets import load_svmlight_file  # type: ignore[import-untyped]

    with readable(source):
        try:
            X, y = load_svmlight_file(source)
        except (ValueError, UnicodeDecodeError, OverflowError) as error:
            raise InputError(
                f"{source}: not a readable LIBSVM file: {(str(error).splitlines() or ['damaged'])[0]}"
            ) from None
        refuse_bomb(source, 8 * X.shape[0] * X.shape[1], os.path.getsize(source))
    return {"X": X.toarray(), "y": y}
