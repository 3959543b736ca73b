"""Arrays from .npz and .npy, which may be damaged, enormous, or mean harm; those of .h5 come from another process."""

from __future__ import annotations

import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import InputError
from .opened import readable, refuse_bomb

_NAMES = {  # what the four arrays are called, the first that is there
    "X": ("X", "x", "X_train", "x_train", "train_images", "data", "features", "images"),
    "y": ("y", "Y", "y_train", "Y_train", "train_labels", "target", "targets", "labels", "label"),
    "X_test": ("X_test", "x_test", "test_images"),
    "y_test": ("y_test", "Y_test", "test_labels"),
}


def read_examples(source: str) -> dict[str, np.ndarray]:
    """X, y and perhaps X_test, y_test of a file under any of their usual names; images become rows.

    Parameters
    ----------
    source : str
        A path ending .npz, .h5, or .npy: X.npy, with its labels in y.npy beside it.

    Returns
    -------
    dict of ndarray

    Raises
    ------
    InputError
        What cannot be read, and a file without inputs or labels, with the arrays that it has.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from meanfield.datasets.array_files import read_examples
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "mnist.npz")
    ...     np.savez(path, x_train=np.zeros((5, 28, 28)), y_train=np.arange(5))
    ...     {name: array.shape for name, array in read_examples(path).items()}
    {'X': (5, 784), 'y': (5,)}
    """
    if source.lower().endswith(".npy"):
        return {role: _rows(role, array) for role, array in _read_pair(source).items()}
    arrays = read_arrays(source, [name for names in _NAMES.values() for name in names])
    found = {}
    for role, names in _NAMES.items():
        name = next((one for one in names if one in arrays), None)
        if name is not None:
            found[role] = _rows(role, arrays[name])
        elif role in ("X", "y"):
            raise InputError(f"{source}: has no array {role!r} among {_there(source)}: must hold X (n, d) and y (n,)")
    return found


def _rows(role: str, array: np.ndarray) -> np.ndarray:
    """Images and the like, one a row; of labels one column as (n,)."""
    if array.ndim > 2:
        array = array.reshape(len(array), -1)
    return array[:, 0] if role.startswith("y") and array.shape[1:] == (1,) else array


def _there(source: str) -> str:
    """The names of the arrays in a file, the first twenty, for a message."""
    if source.lower().endswith(".h5"):
        from .hdf5_subprocess import array_names

        names = array_names(source)
    else:
        with zipfile.ZipFile(source) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()[:20]]
    return ", ".join(names) or "none"


def read_arrays(source: str | Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Those arrays of an .npz or .h5 file that are there.

    Parameters
    ----------
    source : str or Path
        A path ending .h5, or of an .npz.
    names : sequence of str
        Which.

    Returns
    -------
    dict of ndarray

    Raises
    ------
    InputError
        A file that is not what it says, or that would take more memory than it should.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from meanfield.datasets.array_files import read_arrays
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(os.path.join(folder, "a.npz"), w=np.zeros(2))
    ...     read_arrays(os.path.join(folder, "a.npz"), ["w", "u"])
    {'w': array([0., 0.])}
    """
    if str(source).lower().endswith(".h5"):
        from .hdf5_subprocess import read_arrays as read_h5

        with readable(str(source)):
            return read_h5(source, names)
    damage = (EOFError, NotImplementedError, RuntimeError, UnicodeDecodeError, struct.error, zlib.error)
    with readable(str(source)):
        try:
            with zipfile.ZipFile(source) as archive:
                present = set(archive.namelist())
                return {name: _member(archive, name, str(source)) for name in names if f"{name}.npy" in present}
        except (zipfile.BadZipFile, *damage) as error:
            raise InputError(
                f"{source}: not a readable .npz file ({error or 'it ends early'}): must be written by numpy.savez"
            ) from None


def _member(archive: zipfile.ZipFile, name: str, source: str) -> np.ndarray:
    """One member, its declared size held against what the file can contain before any room is made for it."""
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as file:
        _refuse_header(file, f"{source}: array {name!r}", info.file_size)  # type: ignore[arg-type]
    refuse_bomb(source, info.file_size, info.compress_size, f"array {name!r}")
    with archive.open(info) as file:
        return _content(file, f"{source}: array {name!r}")  # type: ignore[arg-type]


def _refuse_header(file: BinaryIO, what: str, size: int) -> None:
    """InputError: a header that is none, of objects, or of another size than the `size` bytes that there are."""
    try:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(file)
    except (zipfile.BadZipFile, zlib.error):
        raise
    except Exception as error:  # NumPy hands the text to Python's parser, which fails in many ways
        raise InputError(f"{what} has a damaged header: {_one_line(error)}") from None
    if dtype.hasobject:
        raise InputError(f"{what} holds pickled objects: must be plain numbers or strings")
    content, declared = size - file.tell(), math.prod(shape) * max(dtype.itemsize, 1)
    if min(shape, default=0) < 0 or declared != content:
        raise InputError(f"{what} declares shape {shape}, {declared} bytes: must be the {content} that the file holds")


def _content(file: BinaryIO, what: str) -> np.ndarray:
    try:
        return np.lib.format.read_array(file, allow_pickle=False)
    except ValueError as error:
        raise InputError(f"{what} cannot be read: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _read_pair(source: str) -> dict[str, np.ndarray]:
    """X.npy and y.npy, X_train.npy and y_train.npy, and X_test.npy and y_test.npy where they lie beside."""
    folder, name = os.path.split(source)
    match = re.fullmatch(r"(.*)([Xx])(_train|)", name[: -len(".npy")])
    if match is None:
        raise InputError(f"{source}: must be called X.npy, or X_train.npy, with its labels in y.npy beside it")
    before, letter, part = match.groups()
    stems = {"y": f"y{part}", "X_test": f"{letter}_test", "y_test": "y_test"}
    files = {"X": source, **{role: os.path.join(folder, f"{before}{stem}.npy") for role, stem in stems.items()}}
    return {role: _npy(path) for role, path in files.items() if role in ("X", "y") or os.path.exists(path)}


def _npy(path: str) -> np.ndarray:
    with readable(path), open(path, "rb") as file:
        _refuse_header(file, path, os.fstat(file.fileno()).st_size)
        file.seek(0)
        return _content(file, path)
