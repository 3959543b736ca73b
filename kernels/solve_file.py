"""What an iterative solve needs to go on, in one file: replaced whole, and refused if it is damaged or another's."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def save_solve(path: str | Path, belongs_to: str, arrays: Mapping[str, Any]) -> None:
    """Write arrays to an .npz, beside it first, flushed to disk and then renamed: no reader sees half of it.

    Parameters
    ----------
    path : path
        The file.
    belongs_to : str
        A digest of the data and the settings that the arrays go with.
    arrays : mapping
        Name to array or number.

    Raises
    ------
    OSError
        The file cannot be written; what was there is there still.

    Examples
    --------
    >>> import os, tempfile
    >>> from meanfield.kernels.solve_file import load_solve, save_solve
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "solve.npz")
    ...     save_solve(path, "data", {"iterations": 3})
    ...     int(load_solve(path, "data")["iterations"])
    3
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.tmp-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            kept = {name: np.asarray(value) for name, value in arrays.items()}
            np.savez(file, belongs_to=belongs_to, digest=_digest(kept), **kept)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def load_solve(path: str | Path, belongs_to: str) -> dict[str, np.ndarray]:
    """What `save_solve` wrote.

    Parameters
    ----------
    path : path
        The file.
    belongs_to : str
        As it was given then.

    Returns
    -------
    dict
        Name to array; empty where there is no file.

    Raises
    ------
    ValueError
        In one line: a file that is damaged or none of ours, or that goes with other data or settings.

    Examples
    --------
    >>> from meanfield.kernels.solve_file import load_solve
    >>> load_solve("absent.npz", "data")
    {}
    """
    if not Path(path).exists():
        return {}
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        owner, digest = str(arrays.pop("belongs_to")), str(arrays.pop("digest"))
        whole = digest == _digest(arrays)
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile):
        whole = False
    if not whole:
        raise ValueError(f"{path}: damaged, or no file of a solve: remove it to begin anew, or give another path")
    if owner != belongs_to:
        raise ValueError(f"{path}: a solve of other data or settings: remove it to begin anew, or give another path")
    return arrays


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {value.dtype.str} {value.shape}".encode() + value.tobytes())
    return digest.hexdigest()
