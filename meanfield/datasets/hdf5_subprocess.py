"""Arrays from other people's HDF5 files, which may be damaged.

HDF5's older formats, the default of most programs, do not checksum their metadata, and the library can then crash or
hang. So another process reads the file, and hands over what it found.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import InputError
from ..storage.hashing import bytes_of
from .opened import refuse_bomb

_LARGEST_RATIO = 1100  # deflate packs at most about 1032 : 1
_PATIENCE = 60  # seconds, and
_SLOWEST = 10e6  # bytes of the file a second
_CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from meanfield.datasets import hdf5_subprocess; hdf5_subprocess._hand_over()"
)


def read_arrays(path: str | Path, names: Collection[str]) -> dict[str, np.ndarray]:
    """Those of the datasets `names` that an HDF5 file has, numbers as they are and text as str arrays.

    Chunks and HDF5's own lossless filters are welcome. Raises InputError for a file that cannot be read, for links out
    of it, and for types other than numbers and text or arrays above 64 GiB.
    """
    return _ask(path, names)[0]


def array_names(path: str | Path) -> list[str]:
    """What an HDF5 file has at its root, the first twenty. InputError: a file that cannot be read."""
    return _ask(path, ())[1]


def _ask(path: str | Path, names: Collection[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """What another process finds under these names, and the names that there are."""
    command = [sys.executable or "python3", "-I", "-c", _CHILD, json.dumps([*map(str, sys.path)]), str(path), *names]
    limit = _PATIENCE + (os.path.getsize(path) / _SLOWEST if os.path.isfile(path) else 0)
    nothing = subprocess.DEVNULL
    try:
        child = subprocess.Popen(command, stdin=nothing, stdout=subprocess.PIPE, stderr=nothing)
    except OSError as error:
        raise InputError(
            f"{path}: another process is to read it, but {command[0]} could not be started: "
            f"{error.strerror}; .npz needs none"
        ) from None
    with child:
        watch = threading.Timer(limit, child.kill)
        with suppress(RuntimeError):  # no further thread is allowed: nobody ends a child that hangs
            watch.start()
        try:
            return _received(child.stdout)  # type: ignore[arg-type]
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        except MemoryError:
            raise InputError(f"{path}: is larger than the memory that is free") from None
        except Exception:  # whatever a process says that has lost control of itself
            raise InputError(
                f"{path}: made the HDF5 library crash or hang: must be an undamaged file; "
                "h5repack may mend it, and .npz will do as well"
            ) from None
        finally:
            watch.cancel()
            child.kill()


def _received(stream: BinaryIO) -> tuple[dict[str, np.ndarray], list[str]]:
    """What `_hand_over` wrote. InputError: its refusal; any other error: it did not come to the end."""
    said = json.loads(stream.readline())
    if "refused" in said:
        raise InputError(said["refused"])
    arrays = {}
    for name, (kind, shape) in said["found"].items():
        arrays[name] = np.empty(shape, np.dtype(kind))
        if stream.readinto(bytes_of(arrays[name])) != arrays[name].nbytes:  # type: ignore[attr-defined]
            raise EOFError
    return arrays, said["names"]


def _hand_over() -> None:
    """In the other process: the arrays named on the command line, to the standard output."""
    path, *names = sys.argv[2:]
    try:
        arrays, present = _arrays(path, names)
        found = {name: [array.dtype.str, array.shape] for name, array in arrays.items()}
        said: dict[str, Any] = {"found": found, "names": present}
    except MemoryError:
        arrays, said = {}, {"refused": "is larger than the memory that is free"}
    except InputError as error:
        arrays, said = {}, {"refused": str(error)}
    except Exception as error:  # h5py passes on, as any type, whatever a damaged file made HDF5 stumble over
        cause = getattr(error, "strerror", None) or error
        arrays, said = {}, {"refused": f"cannot be read, or is damaged: {cause}"}
    with suppress(BrokenPipeError):
        sys.stdout.buffer.write(json.dumps(said).encode() + b"\n")
        for array in arrays.values():
            sys.stdout.buffer.write(bytes_of(np.ascontiguousarray(array)))
        sys.stdout.buffer.flush()


def _arrays(path: str, names: Collection[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    import h5py

    if not os.path.exists(path):
        raise InputError("there is no such file")
    if not os.path.isfile(path):
        raise InputError("is not a file")
    with open(path, "rb") as file:  # through Python's file: no locks, and indifferent to who else has it open
        try:
            root = h5py.File(file, "r")
        except Exception:
            raise InputError("is not an HDF5 file, or is truncated or damaged at its root") from None
        with root:
            present = [name.decode("utf-8", "replace") for name in root.id]
            return {name: _array(root, name) for name in names if name in present}, present[:20]


def _array(root: Any, name: str) -> np.ndarray:
    import h5py

    if root.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise InputError(f"{name} is a link to elsewhere; store the array itself")
    dataset = root[name]
    if not isinstance(dataset, h5py.Dataset):
        raise InputError(f"{name} is a group, expected an array")
    layout, filters = dataset.id.get_create_plist(), h5py.h5z
    if layout.get_external_count() or layout.get_layout() == h5py.h5d.VIRTUAL:
        raise InputError(f"{name} takes its data from other files; store the array itself")
    known = {filters.FILTER_DEFLATE, filters.FILTER_SHUFFLE, filters.FILTER_FLETCHER32, filters.FILTER_LZF}
    if any(layout.get_filter(k)[0] not in known for k in range(layout.get_nfilters())):
        raise InputError(f"{name} is compressed in a way that is not supported; gzip or lzf is")
    text = h5py.check_string_dtype(dataset.dtype)
    if not text and (dataset.dtype.kind not in "biuf" or h5py.check_enum_dtype(dataset.dtype)):
        raise InputError(f"{name} holds {dataset.dtype}, expected numbers or text")
    if dataset.shape is None:
        raise InputError(f"{name} has no shape")
    possible = _LARGEST_RATIO * dataset.id.get_storage_size() + 4096
    declared = math.prod(dataset.shape) * dataset.dtype.itemsize
    if declared > possible:
        raise InputError(f"{name} declares a shape {dataset.shape}: more than the file can hold")
    refuse_bomb(name, declared, dataset.id.get_storage_size())
    values = dataset.asstr()[...] if text else dataset[...]
    return np.asarray(values, dtype=str if text else None)
