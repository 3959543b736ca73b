"""Arrays on their way into a file that are nowhere in one piece."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass
class Stream:
    """An array of this shape and dtype, written block by block: `chunks` yields (k, ...) rows, not to change later."""

    shape: tuple[int, ...]
    dtype: np.dtype
    chunks: Iterable[np.ndarray]


class Stacked(Stream):
    """Equal arrays, at least one, as the rows of one array; a slice of it is another."""

    def __init__(self, rows: Sequence[np.ndarray], like: np.ndarray | None = None) -> None:
        like = rows[0] if like is None else like
        super().__init__((len(rows), *like.shape), like.dtype, [one[None] for one in rows])
        self._rows, self._like = rows, like

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: slice) -> "Stacked":
        return Stacked(self._rows[rows], self._like)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize
