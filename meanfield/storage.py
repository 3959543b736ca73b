"""HDF5 files written whole and read by their own table of contents, every byte under a SHA-256.

A file is a nested mapping: ``{"group": {"array": ndarray, "text": str, "number": 3, "@attrs": {"name": value}}}``.
It is never changed in place but replaced whole, so that a reader keeps the file it opened.

Any HDF5 library can read it: values are stored in the plainest form, contiguous and unfiltered, text as fixed-length
UTF-8. But `read` asks no HDF5 library, since those in use can be made to crash, or worse, by a file that means harm.
The last dataset, ``contents``, is a JSON text that says of each array where its bytes lie, of what type, shape and
digest they are, and holds the attributes. The first 512 bytes, which HDF5 leaves to its users, say where ``contents``
is, its digest, and that of all bytes that belong to no array, which are HDF5's own.
"""

import hashlib
import io
import json
import math
import os
import re
import stat
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from .durable import StorageError, previous, replace_whole
from .errors import InputError, RunFileError
from .hashing import bytes_of, digest, hasher
from .pouring import pour

__all__ = ["ATTRIBUTES", "RowReader", "StorageError", "Stream", "previous", "read", "write"]

ATTRIBUTES = "@attrs"  # the key of a group's attributes in the mapping
CONTENTS = "contents"
_TITLE = b"meanfield storage "
_VERSION = 1
_HEAD_BYTES = 512  # HDF5's "user block"
_CONTENTS_BYTES = 1 << 24  # a hundred thousand arrays; bounds the memory that parsing it takes
_BOUNDS = ("v110", "v110")  # HDF5 1.10 and later can read it; formats before 1.8 do not checksum their metadata
_BLOCK_BYTES = 1 << 23
_PLAIN_DTYPE = re.compile(r"[<|>](b1|[iu][1248]|f[248]|[SV][1-9]\d{0,9})")


@dataclass
class Stream:
    """An array of this shape and dtype, written block by block: `chunks` yields (k, ...) rows, not to change later."""

    shape: tuple[int, ...]
    dtype: np.dtype
    chunks: Iterable[np.ndarray]


class RowReader:
    """A verified array that stays in its file: `.shape`, `.dtype`, and `.blocks(rows)` to walk over it.

    It holds the file open, so a later generation under the same name does not disturb it.
    """

    def __init__(self, descriptor: int, offset: int, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.shape, self.dtype = shape, dtype
        self._offset = offset
        self._descriptor = os.dup(descriptor)
        self.close = weakref.finalize(self, os.close, self._descriptor)

    def __len__(self) -> int:
        return self.shape[0]

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Rows start:stop, as a new array (k, ...) of the reader's dtype; k = 0 outside the array."""
        stop = min(stop, len(self))
        block = np.empty((max(stop - start, 0), *self.shape[1:]), self.dtype)
        _fill(block, self._descriptor, self._offset + start * self._row_bytes)
        return block

    def blocks(self, rows: int | None = None) -> Iterator[np.ndarray]:
        """Yield the array as blocks of `rows` rows (default: about 8 MiB), the last one shorter."""
        step = rows or _rows_of_a_block(self._row_bytes)
        for start in range(0, len(self), step):
            yield self.rows(start, start + step)

    @property
    def _row_bytes(self) -> int:
        return _nbytes(self.shape[1:], self.dtype)


# ---- writing ---------------------------------------------------------------------------------------------------------


def write(path: str | Path, content: Mapping[str, Any], *, keep_previous: bool = False) -> None:
    """Write a nested mapping as an HDF5 file, replacing `path` whole; the generation before can go to ``PATH.prev``.

    Leaves are arrays (bool, integer, float up to 64 bits, text), str, bytes, int, float, `Stream` or `RowReader`.
    Equal content gives equal bytes. Raises StorageError where the file cannot be written (`path` is as it was),
    ValueError or TypeError for content that has no plain form.
    """
    replace_whole(path, lambda temporary: _write_file(temporary, content), keep_previous=keep_previous)


class _Sink(io.FileIO):
    """A file for HDF5 to write to that keeps its first error for later: HDF5 can crash where a write fails."""

    failure: BaseException | None = None

    def write(self, data: Any, /) -> int:
        rest = memoryview(data).cast("B")
        count = len(rest)
        try:
            while rest:
                rest = rest[super().write(rest) :]
        except BaseException as error:  # an interrupt, too, would reach HDF5 as a failed write
            self.failure = self.failure or error
        return count

    def truncate(self, size: int | None = None, /) -> int:
        try:
            return super().truncate(size)
        except BaseException as error:
            self.failure = self.failure or error
            return size or 0


def _write_file(path: Path, content: Mapping[str, Any]) -> None:
    table: dict[str, Any] = {}
    with _Sink(path, "w+") as sink:
        try:
            with h5py.File(sink, "w", libver=_BOUNDS, userblock_size=_HEAD_BYTES) as file:
                _write_group(file, content, "", table, sink.fileno())
                text = json.dumps(table)
                if len(text) > _CONTENTS_BYTES:
                    raise ValueError(f"{len(table)} arrays, groups and attributes are too many for one file")
                place = _write_dataset(file, CONTENTS, _stream(text), sink.fileno())
        finally:
            if sink.failure:
                raise sink.failure
        arrays = [*_places(table, os.fstat(sink.fileno()).st_size).values(), place]
        rest = _digest_around(arrays, sink.fileno())
        head = {"contents": [place.offset, len(text)], "rest_sha256": rest,
                "sha256": hashlib.sha256(text.encode()).hexdigest()}  # fmt: skip
        pour([np.frombuffer(_head(head), np.uint8)], _HEAD_BYTES, sink.fileno(), 0, hashlib.sha256())


def _head(values: Mapping[str, Any]) -> bytes:
    return (_TITLE + b"%d\n" % _VERSION + json.dumps(values).encode()).ljust(_HEAD_BYTES - 1) + b"\n"


def _write_group(
    group: h5py.Group, content: Mapping[str, Any], path: str, table: dict[str, Any], descriptor: int
) -> None:
    """Write groups, attributes and the layout of datasets through HDF5, the arrays themselves to `descriptor`.

    table: "group/" -> null, "group/@attribute" -> its value, "group/array" -> [dtype, shape, offset, digest].
    """
    for name, value in content.get(ATTRIBUTES, {}).items():
        array = _encode(value)
        if array.shape or array.dtype.kind == "V" or not name or "\0" in name:
            raise ValueError(f"attribute {path}@{name}: one text or number is stored, under a name")
        group.attrs.create(name, array, shape=(), dtype=array.dtype)
        table[f"{path}@{name}"] = _decode(array)
    for name, value in content.items():
        if name == ATTRIBUTES:
            continue
        if name in ("", ".") or path + name == CONTENTS or name.startswith("@") or "/" in name or "\0" in name:
            raise ValueError(f"{path}{name!r} cannot name an object: no '/', no leading '@', not '.', empty, contents")
        if isinstance(value, Mapping):
            table[f"{path}{name}/"] = None
            _write_group(group.create_group(name), value, f"{path}{name}/", table, descriptor)
        else:
            place = _write_dataset(group, name, _stream(value), descriptor)
            table[f"{path}{name}"] = [place.dtype.str, list(place.shape), place.offset, place.sha256]


def _write_dataset(group: h5py.Group, name: str, stream: Stream, descriptor: int) -> "_Place":
    """Let HDF5 allocate one piece of the file and fill it."""
    shape, dtype = tuple(stream.shape), np.dtype(stream.dtype)
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    layout.set_obj_track_times(False)
    space = h5py.h5s.create_simple(shape) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
    dataset = h5py.h5d.create(group.id, name.encode(), h5py.h5t.py_create(dtype, logical=True), space, layout)
    offset, state = dataset.get_offset() or 0, hasher(dtype, shape)
    pour(_checked(name, stream), _nbytes(shape, dtype), descriptor, offset, state)
    return _Place(dtype, shape, offset, str(state.hexdigest()))


def _checked(name: str, stream: Stream) -> Iterator[np.ndarray]:
    """The blocks of a stream; ValueError where they are not what it announced."""
    shape, dtype, done = tuple(stream.shape), np.dtype(stream.dtype), 0
    for chunk in stream.chunks:
        block = np.asarray(chunk, order="C")
        done += len(block) if shape else 1
        if block.dtype != dtype or block.shape[1:] != shape[1:] or done > (shape or (1,))[0]:
            raise ValueError(f"{name}: a block of {block.dtype} {block.shape} does not fit into {dtype} {shape}")
        yield block
    if done != (shape or (1,))[0]:
        raise ValueError(f"{name}: {done} rows came of the {shape[0]} announced")


def _stream(value: Any) -> Stream:
    if isinstance(value, Stream):
        return value
    if isinstance(value, RowReader):
        return Stream(value.shape, value.dtype, value.blocks())
    array = _encode(value)
    if array.ndim == 0:
        return Stream((), array.dtype, [array])
    step = _rows_of_a_block(array.nbytes // max(len(array), 1))
    return Stream(array.shape, array.dtype, (array[k : k + step] for k in range(0, len(array), step)))


def _rows_of_a_block(row_bytes: int) -> int:
    return max(1, _BLOCK_BYTES // max(row_bytes, 1))


def _encode(value: Any) -> np.ndarray:
    """The array that stands for a value in the file: text as fixed-length UTF-8, bytes as one opaque element."""
    if isinstance(value, bytes) and value:
        return np.array(np.void(value))
    array = np.asarray(value)
    if array.dtype.kind == "U":
        if isinstance(value, str) and value.endswith("\0"):
            raise ValueError("text that ends in a NUL character has no plain form")
        encoded = np.char.encode(array, "utf-8")
        return np.asarray(encoded, h5py.string_dtype("utf-8", max(encoded.dtype.itemsize, 1)))
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise TypeError(f"{type(value).__name__} of {array.dtype} has no plain form in a file")
    return array


# ---- reading ---------------------------------------------------------------------------------------------------------


@dataclass
class _Place:
    """Where the bytes of an array lie, and what they are."""

    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int
    sha256: str

    @property
    def nbytes(self) -> int:
        return _nbytes(self.shape, self.dtype)


class _Damage(Exception):
    """What is wrong with a file, before it is known which file."""


def read(
    path: str | Path,
    names: Collection[str] | None = None,
    *,
    rows: Collection[str] = (),
    accept: Callable[[Mapping[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """The nested mapping that `write` wrote, verified; scalars come back as Python numbers, groups in their order.

    `names` limits the arrays that are read and verified to these and those in these groups ("a/b"); `rows` names some
    that are verified in a streaming pass and come back as `RowReader`. `accept` is shown the root attributes, or none
    of a file that is HDF5 but not written here, before anything else is verified, and may raise.

    Raises RunFileError, and nothing else, for a file that is missing, unreadable, damaged or not of this kind.
    """
    with _opened(path) as file:
        head, table = _table_of_contents(file, accept)
        places = _places(table, os.fstat(file.fileno()).st_size)
        ends = _Place(np.dtype(np.uint8), (head["contents"][1],), head["contents"][0], "")
        if _digest_around([*places.values(), ends], file.fileno()) != head["rest_sha256"]:
            raise _Damage("its attributes, format or HDF5 structure do not match their checksum: damaged or changed")
        content: dict[str, Any] = {}
        for inside, value in table.items():
            if inside.endswith("/"):
                _put(content, inside[:-1], {})
            elif inside not in places:
                _put(content, inside.replace("@", ATTRIBUTES + "/", 1), value)
            elif names is None or any(f"{inside}/".startswith(f"{name}/") for name in names):
                _put(content, inside, _load(inside, places[inside], file, inside in rows))
    return content


def _table_of_contents(
    file: BinaryIO, accept: Callable[[Mapping[str, Any]], None] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The head of a file and its table, which has the digest that the head names."""
    raw = file.read(_HEAD_BYTES)
    if raw.startswith(b"\x89HDF\r\n\x1a\n"):
        if accept:
            accept({})
        raise _Damage("is an HDF5 file without a table of contents")
    title, _, rest = raw.partition(b"\n")
    if not title.startswith(_TITLE):
        raise _Damage("is not an HDF5 file written by meanfield, or is damaged at its beginning")
    if title != _TITLE + b"%d" % _VERSION:
        raise _Damage(f"has the form {title.decode()!r}, which is not known here: a newer version, or damage")
    head = json.loads(rest)
    if raw != _head(head):
        raise _Damage("is truncated or damaged at its beginning")
    offset, length = head["contents"]
    if not 0 < length <= _CONTENTS_BYTES:
        raise _Damage(f"declares a table of contents of {length} bytes")
    contents = np.zeros(length, np.uint8)
    _fill(contents, file.fileno(), offset)
    _verify("its table of contents", head["sha256"], hashlib.sha256(bytes_of(contents)).hexdigest())
    table = json.loads(contents.tobytes())
    if accept:
        accept({name[1:]: value for name, value in table.items() if name.startswith("@")})
    return head, table


def _places(table: Mapping[str, Any], size: int) -> dict[str, _Place]:
    """Where the arrays of a table of contents lie, within a file of `size` bytes."""
    places = {}
    for path, entry in table.items():
        group, slash, name = path.rpartition("/")
        if not name or name.startswith("@"):
            if not isinstance(entry, (str, int, float) if name else type(None)):
                raise _Damage(f"{path} is not one text or number")
            continue
        kind, shape, offset, sha256 = entry
        whole = all(type(number) is int and number >= 0 for number in [*shape, offset])
        placed = not slash or f"{group}/" in table
        if not _PLAIN_DTYPE.fullmatch(kind) or not whole or not placed or f"{path}/" in table:
            raise _Damage(f"{path} is nothing that is ever written here")
        place = places[path] = _Place(np.dtype(kind), tuple(shape), offset, sha256)
        if offset + place.nbytes > size:
            raise _Damage(f"{path} declares a shape {place.shape} that the file cannot hold")
    return places


def _digest_around(arrays: Iterable[_Place], descriptor: int) -> str:
    """Of the length of a file, and of all its bytes after the head that belong to none of these arrays."""
    size = os.fstat(descriptor).st_size
    state, start = hashlib.sha256(f"{size}\n".encode()), _HEAD_BYTES
    for offset, nbytes in [*sorted((one.offset, one.nbytes) for one in arrays if one.nbytes), (size, 0)]:
        if offset < start:
            raise _Damage("declares arrays that overlap")
        for first in range(start, offset, _BLOCK_BYTES):
            block = np.empty(min(_BLOCK_BYTES, offset - first), np.uint8)
            _fill(block, descriptor, first)
            state.update(bytes_of(block))
        start = offset + nbytes
    return state.hexdigest()


def _nbytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    return math.prod(shape) * dtype.itemsize


def _load(path: str, place: _Place, file: BinaryIO, lazily: bool) -> Any:
    reader = RowReader(file.fileno(), place.offset, place.shape, place.dtype)
    if lazily:
        _verify(path, place.sha256, digest(place.dtype, place.shape, reader.blocks()))
        return reader
    reader.close()
    array = np.empty(place.shape, place.dtype)
    _fill(array, file.fileno(), place.offset)
    _verify(path, place.sha256, digest(place.dtype, place.shape, [array]))
    return _decode(array)


def _fill(array: np.ndarray, descriptor: int, offset: int) -> None:
    rest = bytes_of(array)
    while rest:
        count = os.preadv(descriptor, [rest], offset)
        if not count:
            raise EOFError("the file ends early")
        rest, offset = rest[count:], offset + count


def _verify(path: str, expected: Any, found: str) -> None:
    if found != expected:
        raise _Damage(f"{path} does not match its checksum")


def _decode(array: np.ndarray) -> Any:
    if array.dtype.kind == "S":
        array = np.asarray(np.char.decode(array, "utf-8"))
    if array.dtype.kind == "V":
        return array.tobytes()
    return array if array.shape else array.item()


def _put(content: dict[str, Any], path: str, value: Any) -> None:
    *groups, name = path.split("/")
    for group in groups:
        content = content.setdefault(group, {})
    content[name] = value


@contextmanager
def _opened(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file, and turn whatever reading it raises into one line."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # before opening it: a pipe would wait for a writer
            raise _Damage("is not a file")
        with open(path, "rb") as file:
            yield file
    except InputError:
        raise
    except FileNotFoundError:
        raise RunFileError(f"{path}: there is no such file") from None
    except _Damage as damage:
        raise RunFileError(f"{path}: {damage}") from None
    except EOFError:
        raise RunFileError(f"{path}: is truncated") from None
    except MemoryError:
        raise RunFileError(f"{path}: is larger than the memory that is free") from None
    except Exception as failure:  # of many types, where a table with a right digest holds what `write` never writes
        cause = getattr(failure, "strerror", None) or failure
        raise RunFileError(f"{path}: cannot be read, or is damaged: {type(failure).__name__}: {cause}") from None
