"""A user's file opened with care: it is one, it can be read, and it does not unpack to more than it should."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import InputError

LARGEST_BYTES = 64 * 2**30
_LARGEST_LINE = 2**26
_HARMLESS, _RATIO = 2**28, 200  # bytes that anything may unpack to, and how many times its size what is larger may
_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


@contextmanager
def readable(source: str) -> Iterator[None]:
    """InputError for a path that is no file, and for one that the system cannot open, read or unpack.

    Parameters
    ----------
    source : str
        The path.

    Raises
    ------
    InputError
        Also for a pipe or a device, before it is opened: a pipe may wait for ever, and a device has no end.

    Examples
    --------
    >>> from meanfield.datasets.opened import readable
    >>> with readable("/dev/zero"):
    ...     pass
    Traceback (most recent call last):
    ...
    meanfield.errors.InputError: /dev/zero: cannot be read: is no file but a device
    """
    if "\0" in source:
        raise InputError(f"{source!r}: cannot be read: a path cannot hold the character NUL")
    try:
        kind = stat.S_IFMT(os.stat(source).st_mode)
        others = {stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket"}
        if kind in others:
            raise InputError(f"{source}: cannot be read: is no file but {others[kind]}")
        yield
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise InputError(f"{source}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def refuse_bomb(source: str, unpacked: int, packed: int, what: str = "") -> None:
    """InputError for more than 64 GiB, and beyond 256 MiB for more than 200 times what the file holds.

    Parameters
    ----------
    source : str
        The path.
    unpacked : int
        Bytes that are, or would be, in memory.
    packed : int
        Bytes that they have in the file.
    what : str
        What of the file, for the message.

    Raises
    ------
    InputError
        Such a file.

    Examples
    --------
    >>> from meanfield.datasets.opened import refuse_bomb
    >>> refuse_bomb("zeros.npz", 2**20, 2**10)
    >>> refuse_bomb("zeros.npz", 2**30, 2**20)
    Traceback (most recent call last):
    ...
    meanfield.errors.InputError: zeros.npz: unpacks 1 MiB to 1024 MiB: must be at most ...
    """
    if unpacked > min(LARGEST_BYTES, max(_HARMLESS, _RATIO * packed)):
        raise InputError(
            f"{source}: {what and what + ' '}unpacks {-(-packed // 2**20)} MiB to {unpacked // 2**20} MiB: "
            f"must be at most 64 GiB, and {_RATIO} times its size; store it unpacked"
        )


def text_lines(source: str) -> Iterator[str]:
    """The lines of a UTF-8 text, unpacked where its name ends in .gz, .bz2 or .xz, without a byte-order mark.

    Parameters
    ----------
    source : str
        The path of a file that is `readable`.

    Yields
    ------
    str
        Each with its end.

    Raises
    ------
    InputError
        A line above 64 MiB; more than `refuse_bomb` lets pass.

    Examples
    --------
    >>> import os, tempfile
    >>> from meanfield.datasets.opened import text_lines
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "a.csv")
    ...     _ = open(path, "w").write("a,y")
    ...     list(text_lines(path))
    ['a,y']
    """
    opener = next((opener for end, opener in _OPENERS.items() if source.lower().endswith(end)), open)
    if opener is not open:
        _refuse_unpacked(source, opener)
    with opener(source, "rt", encoding="utf-8-sig", newline="") as file:
        while line := file.readline(_LARGEST_LINE):
            if len(line) == _LARGEST_LINE:
                raise InputError(f"{source}: a line is longer than 64 MiB: must be a table, one example a line")
            yield line


def _refuse_unpacked(source: str, opener: Callable[..., Any]) -> None:
    """InputError: more unpacked than `refuse_bomb` lets pass; counted, for what a file says of it can be a lie."""
    packed, unpacked = os.path.getsize(source), 0
    with opener(source, "rb") as file:
        while piece := file.read(2**20):
            unpacked += len(piece)
            refuse_bomb(source, unpacked, packed)
