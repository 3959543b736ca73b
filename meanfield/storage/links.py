"""Arrays of an HDF5 file that lie in other files: names for HDF5 libraries to follow, of which no reader here asks."""

from dataclasses import dataclass

import h5py
import numpy as np


@dataclass
class Elsewhere:
    """An array (k, …) made of the rows that other arrays have, one after the other.

    sources: of each the file, by its name in the same folder or "." for this one, the path in it, and its rows.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    sources: list[tuple[str, str, int]]


def link(file: h5py.File, path: str, array: Elsewhere) -> None:
    """Make `path` stand for the array: an external link for the whole of one, else a virtual data set.

    Where a file is missing, HDF5 says so of a link, and gives NaN or −1 for its rows in a virtual data set.
    """
    if len(array.sources) == 1:
        file[path] = h5py.ExternalLink(*array.sources[0][:2])
        return
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_obj_track_times(False)
    layout.set_fill_value(np.array(np.nan if array.dtype.kind == "f" else -1, array.dtype))
    space, start = h5py.h5s.create_simple(array.shape), 0
    for name, inside, rows in array.sources:
        block = (rows, *array.shape[1:])
        space.select_hyperslab((start, *(0 for _ in block[1:])), block)
        layout.set_virtual(space, name.encode(), inside.encode(), h5py.h5s.create_simple(block))
        start += rows
    space.select_all()
    h5py.h5d.create(file.id, path.encode(), h5py.h5t.py_create(array.dtype), space, layout)
