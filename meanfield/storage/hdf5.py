"""HDF5 files written whole and read by their own table of contents, every byte under a SHA-256.

A file is a nested mapping: ``{"group": {"array": ndarray, "text": str, "number": 3, "@attrs": {"name": value}}}``.
It is never changed in place but replaced whole, so that a reader keeps the file it opened.

Any HDF5 library can read it: values are stored in the plainest form, contiguous and unfiltered, text as fixed-length
UTF-8. But `read` asks no HDF5 library, since those in use can be made to crash, or worse, by a file that means harm.
The block before HDF5's first byte, which HDF5 leaves to its users, is text: a title, a line with digests, and a JSON
table of contents. That says of each array where its bytes lie, of what type, shape and digest they are, and holds the
attributes. One of the digests is of the table, the other of all bytes that belong to no array, which are HDF5's own.
"""

import hashlib
import io
import json
import math
import os
import re
import stat
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from ..errors import InputError, RunFileError
from .atomic import StorageError, previous, replace_whole
from .blocks import pour
from .hashing import bytes_of, digest, hasher
from .links import Elsewhere, link
from .streams import Stream

__all__ = ["ATTRIBUTES", "RowReader", "StorageError", "Stream", "previous", "read", "salvage", "write"]

ATTRIBUTES = "@attrs"  # the key of a group's attributes in the mapping
_TITLE = b"meanfield storage "
_VERSION = 1
_LARGEST_HEAD = 1 << 24  # bytes; a hundred thousand arrays: bounds the memory that parsing takes
_TEXT_BYTES = 1 << 24
_BOUNDS = ("v110", "v110")  # HDF5 1.10 and later can read it; formats before 1.8 do not checksum their metadata
_BLOCK_BYTES = 1 << 23
_ENTRY = re.compile(rb'"((?:[^"\\\\]|\\\\.)+)": (\[[^][]*\[[^][]*\][^][]*\])')  # of an array, in a table of contents
_PLAIN_DTYPE = re.compile(r"[<|>](b1|[iu][1248]|f[248]|[SV][1-9]\d{0,9})")


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


def write(
    path: str | Path, content: Mapping[str, Any], *, keep_previous: bool = False, owner: str | Path | None = None
) -> None:
    """Write a nested mapping as an HDF5 file, replacing `path` whole; the generation before can go to ``PATH.prev``.

    Leaves are arrays (bool, integer, float up to 64 bits, text), str, bytes, int, float, `Stream` or `RowReader`; and
    `Elsewhere`, which `read` does not find again: it is for other HDF5 libraries.
    Equal content gives equal bytes; `owner` is that of `replace_whole`. Raises StorageError where the file cannot be
    written (`path` is as it was), ValueError or TypeError for content that has no plain form.
    """
    replace_whole(path, lambda temporary: _write_file(temporary, content), keep_previous=keep_previous, owner=owner)


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
    arrays = dict(_plan(content, "", table))
    size = 1 << max(9, (len(json.dumps(table)) + 300).bit_length())
    if size > _LARGEST_HEAD:
        raise ValueError(f"{len(table)} arrays, groups and attributes are too many for one file")
    with _Sink(path, "w+") as sink:
        try:
            with h5py.File(sink, "w", libver=_BOUNDS, userblock_size=size) as file:
                for name, entry in table.items():
                    group, _, last = name.rpartition("/")
                    if not last:
                        file.create_group(name)
                    elif last.startswith("@"):
                        value = _encode(entry)
                        file[group or "/"].attrs.create(last[1:], value, shape=(), dtype=value.dtype)
                    else:
                        entry[2:] = _write_dataset(file[group or "/"], last, arrays[name], sink.fileno())
                for name in (name for name in arrays if name not in table):
                    link(file, name, arrays[name])
        finally:
            if sink.failure:
                raise sink.failure
        length = os.fstat(sink.fileno()).st_size
        around = _digest_around(_places(table, length), size, length, sink.fileno())
        head = _head(size, length, around, json.dumps(table).encode())
        pour([np.frombuffer(head, np.uint8)], size, sink.fileno(), 0, hashlib.sha256())


def _head(size: int, length: int, around: str, table: bytes) -> bytes:
    """The first `size` bytes of a file of `length`: title, a line of sizes and digests, the table of contents."""
    digests = {"around_sha256": around, "table_sha256": hashlib.sha256(table).hexdigest()}
    line = json.dumps({"head": size, "length": length, **digests}).encode()
    return (_TITLE + b"%d\n" % _VERSION + line + b"\n" + table).ljust(size - 1) + b"\n"


def _plan(content: Mapping[str, Any], path: str, table: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The arrays to be written, with their paths; fills in the table of those here, as long as it can become.

    table: "group/" -> null, "group/@attribute" -> its value, "group/array" -> [dtype, shape, offset, digest].
    """
    for name, value in content.get(ATTRIBUTES, {}).items():
        array = _encode(value)
        if array.shape or array.dtype.kind == "V" or not name or "/" in name or "\0" in name:
            raise ValueError(f"attribute {path}@{name}: one text or number is stored, under a name without '/'")
        table[f"{path}@{name}"] = _decode(array)
    for name, value in content.items():
        if name == ATTRIBUTES:
            continue
        if name in ("", ".") or name.startswith("@") or "/" in name or "\0" in name:
            raise ValueError(f"{path}{name!r} cannot name an object: no '/', no leading '@', not '.', not empty")
        if isinstance(value, Mapping):
            table[f"{path}{name}/"] = None
            yield from _plan(value, f"{path}{name}/", table)
            continue
        if isinstance(value, Elsewhere):
            yield f"{path}{name}", value
            continue
        stream = _stream(value)
        if stream.dtype.kind in "SV" and stream.dtype.itemsize > _TEXT_BYTES:
            raise ValueError(f"{path}{name}: a text of {stream.dtype.itemsize} bytes is too long")
        table[f"{path}{name}"] = [np.dtype(stream.dtype).str, list(stream.shape), 10**18, "0" * 64]
        yield f"{path}{name}", stream


def _write_dataset(group: h5py.Group, name: str, stream: Stream, descriptor: int) -> tuple[int, str]:
    """Let HDF5 allocate one piece of the file and fill it; where it is, and its digest."""
    shape, dtype = tuple(stream.shape), np.dtype(stream.dtype)
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    layout.set_obj_track_times(False)
    space = h5py.h5s.create_simple(shape) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
    dataset = h5py.h5d.create(group.id, name.encode(), h5py.h5t.py_create(dtype, logical=True), space, layout)
    offset, state = dataset.get_offset() or 0, hasher(dtype, shape)
    pour(_checked(name, stream), _nbytes(shape, dtype), descriptor, offset, state)
    return offset, str(state.hexdigest())


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
        places = _places(table, head["length"])
        if _digest_around(places, head["head"], head["length"], file.fileno()) != head["around_sha256"]:
            what = "its attributes, format or HDF5 structure do not match their checksum"
            raise _Damage(f"{what}: damaged or changed{_if_whole(file)}")
        content: dict[str, Any] = {}
        for inside, value in table.items():
            if inside.endswith("/"):
                _put(content, inside[:-1], {})
            elif inside not in places:
                _put(content, inside.replace("@", ATTRIBUTES + "/", 1), value)
            elif names is None or any(f"{inside}/".startswith(f"{name}/") for name in names):
                _put(content, inside, _load(inside, places[inside], file, inside in rows))
    return content


def salvage(path: str | Path, rows: Collection[str] = ()) -> tuple[dict[str, Any], list[str]]:
    """What is whole of a file that `read` refuses, in the same form, and the names of what is not.

    An array is whole where its own digest says so, wherever else the file is damaged, cut off or changed; the root's
    attributes are where the table of contents is. What that has lost no longer has a name. `rows`: as in `read`.

    Raises RunFileError for a file that is missing, or cannot be read at all.
    """
    with _opened(path) as file:
        return _whole_parts(file, rows)


def _whole_parts(file: BinaryIO, rows: Collection[str] = ()) -> tuple[dict[str, Any], list[str]]:
    file.seek(0)
    raw, length = file.read(_LARGEST_HEAD), os.fstat(file.fileno()).st_size
    content: dict[str, Any] = {}
    lost: list[str] = []
    try:
        head = json.loads(raw.split(b"\n", 2)[1])
        text = raw[: head["head"]].split(b"\n", 2)[2].rstrip()
        if raw[: head["head"]] != _head(head["head"], head["length"], head["around_sha256"], text):
            raise ValueError
        content[ATTRIBUTES] = {name[1:]: value for name, value in json.loads(text).items() if name.startswith("@")}
    except Exception:  # of many types, where the bytes are anybody's
        lost.append("attributes")
    for found in _ENTRY.finditer(raw):
        try:
            name = json.loads(b'"%s"' % found[1])
            group = name.rpartition("/")[0]
            entry = {**({f"{group}/": None} if group else {}), name: json.loads(found[2])}
            value = _load(name, _places(entry, length)[name], file, name in rows)
        except Exception:
            lost.append(found[1].decode("utf-8", "replace"))
        else:
            _put(content, name, value)
    return content, lost


def _if_whole(file: BinaryIO) -> str:
    """What there is to say of a file of which every array is as it was written, and what is around them is not."""
    content, lost = _whole_parts(file)
    if lost or not content:
        return ""
    return (
        "; every array in it is whole: another program (h5py, say) has annotated it, or it is damaged between them; "
        "`meanfield salvage` keeps them"
    )


def _table_of_contents(
    file: BinaryIO, accept: Callable[[Mapping[str, Any]], None] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the head of a file says, and its table of contents, verified."""
    raw = file.read(512)
    if raw.startswith(b"\x89HDF\r\n\x1a\n"):
        if accept:
            accept({})
        raise _Damage("is an HDF5 file without a table of contents")
    title, _, rest = raw.partition(b"\n")
    if not title.startswith(_TITLE):
        raise _Damage("is not an HDF5 file written by meanfield, or is damaged at its beginning")
    if title != _TITLE + b"%d" % _VERSION:
        raise _Damage(f"has the form {title.decode()!r}, which is not known here: a newer version, or damage")
    head = json.loads(rest.partition(b"\n")[0])
    length = os.fstat(file.fileno()).st_size
    if length != head["length"]:
        if length < head["length"]:
            raise _Damage(f"is truncated: has {length} bytes, not {head['length']}")
        what = "was changed after it was written, or damaged"
        raise _Damage(f"{what}: has {length} bytes, not {head['length']}{_if_whole(file)}")
    if not 512 <= head["head"] <= _LARGEST_HEAD:
        raise _Damage("is damaged at its beginning")
    raw += file.read(head["head"] - 512)
    text = raw.split(b"\n", 2)[2].rstrip()
    if raw != _head(head["head"], length, head["around_sha256"], text):
        raise _Damage("its table of contents does not match its checksum")
    table = json.loads(text)
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
        whole = len(shape) <= 64 and all(type(one) is int and 0 <= one < 2**63 for one in [*shape, offset])
        placed = not slash or f"{group}/" in table
        if not _PLAIN_DTYPE.fullmatch(kind) or not whole or not placed or f"{path}/" in table:
            raise _Damage(f"{path} is nothing that is ever written here")
        place = places[path] = _Place(np.dtype(kind), tuple(shape), offset, sha256)
        if offset + place.nbytes > size or (place.dtype.kind in "SV" and place.dtype.itemsize > _TEXT_BYTES):
            raise _Damage(f"{path} declares {place.dtype} {place.shape}: more than there can be")
    return places


def _digest_around(places: Mapping[str, _Place], start: int, length: int, descriptor: int) -> str:
    """SHA-256 of the bytes `start` … `length` − 1 of a file that belong to none of these arrays."""
    state = hashlib.sha256()
    for offset, nbytes in [*sorted((one.offset, one.nbytes) for one in places.values() if one.nbytes), (length, 0)]:
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
        if not stat.S_ISREG(os.stat(os.fspath(path)).st_mode):  # before opening it: a pipe would wait for a writer
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
