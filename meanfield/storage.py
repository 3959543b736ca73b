"""HDF5 files read and written whole, every dataset and attribute under a SHA-256.

A file is a nested mapping: ``{"group": {"array": ndarray, "text": str, "number": 3, "@attrs": {"name": value}}}``.
It is never changed in place but replaced whole, so that a reader keeps the file it opened.

Values are stored in the plainest form that HDF5 has: contiguous and unfiltered, text as fixed-length UTF-8, since the
heap behind variable-length text has no checksum of HDF5's own. The bytes of an array then lie in one piece, and are
read and hashed straight from the file; HDF5 is asked only where they are. ``read`` refuses anything that ``write``
would not have written, before it allocates memory for it.
"""

import hashlib
import io
import json
import math
import os
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

__all__ = ["ATTRIBUTES", "RowReader", "StorageError", "Stream", "previous", "read", "read_arrays", "write"]

ATTRIBUTES = "@attrs"  # the key of a group's attributes in the mapping
CHECKSUMS = "checksums"  # root attribute: JSON, the path of every object -> its digest, in the order written
CHECKSUMS_DIGEST = "checksums_sha256"
_BOUNDS = ("v110", "v110")  # HDF5 1.10 and later can read it; formats before 1.8 do not checksum their metadata
_BLOCK_BYTES = 1 << 23
_ATTRIBUTE_BYTES = 1 << 26
_USER_ARRAY_BYTES = 64 << 30
_USER_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_LZF}


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
    manifest: dict[str, str] = {}
    with _Sink(path, "w+") as sink:
        try:
            with h5py.File(sink, "w", libver=_BOUNDS) as file:
                _write_group(file, content, "", manifest, sink.fileno())
                text = json.dumps(manifest)
                _write_attribute(file, CHECKSUMS, _encode(text))
                _write_attribute(file, CHECKSUMS_DIGEST, _encode(hashlib.sha256(text.encode()).hexdigest()))
        finally:
            if sink.failure:
                raise sink.failure


def _write_group(
    group: h5py.Group, content: Mapping[str, Any], path: str, manifest: dict[str, str], descriptor: int
) -> None:
    """Write groups, attributes and the layout of datasets through HDF5, the arrays themselves to `descriptor`."""
    for name, value in content.get(ATTRIBUTES, {}).items():
        array = _encode(value)
        if array.shape or name in (CHECKSUMS, CHECKSUMS_DIGEST):
            raise ValueError(f"attribute {path}@{name}: one text or number is stored, under a name not reserved")
        _write_attribute(group, name, array)
        manifest[f"{path}@{name}"] = digest(array.dtype, array.shape, [array])
    for name, value in content.items():
        if name == ATTRIBUTES:
            continue
        if not name or name == "." or name.startswith("@") or "/" in name or "\0" in name:
            raise ValueError(f"{path}{name!r} cannot name an object: no '/', no leading '@', not '.' or empty")
        if isinstance(value, Mapping):
            manifest[f"{path}{name}/"] = "group"
            _write_group(group.create_group(name), value, f"{path}{name}/", manifest, descriptor)
        else:
            manifest[f"{path}{name}"] = _write_dataset(group, name, _stream(value), descriptor)


def _write_attribute(group: h5py.Group, name: str, array: np.ndarray) -> None:
    group.attrs.create(name, array, shape=(), dtype=array.dtype)


def _write_dataset(group: h5py.Group, name: str, stream: Stream, descriptor: int) -> str:
    """Let HDF5 allocate one piece of the file and fill it; returns the digest."""
    shape, dtype = tuple(stream.shape), np.dtype(stream.dtype)
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    layout.set_obj_track_times(False)
    space = h5py.h5s.create_simple(shape) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
    dataset = h5py.h5d.create(group.id, name.encode(), h5py.h5t.py_create(dtype, logical=True), space, layout)
    state = hasher(dtype, shape)
    pour(_checked(name, stream), _nbytes(shape, dtype), descriptor, dataset.get_offset() or 0, state)
    return str(state.hexdigest())


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
    """Where the bytes of a dataset lie."""

    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int

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

    `names` limits what is read and verified to these datasets and groups ("a/b"); `rows` names datasets that
    are verified in a streaming pass and come back as `RowReader`. `accept` is shown the root attributes before anything
    is verified and may raise.

    Raises RunFileError, and nothing else, for a file that is missing, unreadable, damaged or not of this kind.
    """
    with _opened(path, RunFileError) as file:
        with _hdf5(file) as root:
            attributes = _read_attributes(root.id, "")
            manifest = _manifest(attributes, accept)
            places = _survey(root.id, os.fstat(file.fileno()).st_size, attributes, manifest)
        content: dict[str, Any] = {}
        for path_inside, expected in manifest.items():
            if path_inside.endswith("/"):
                _put(content, path_inside[:-1], {})
            elif path_inside in attributes:
                array = attributes[path_inside]
                _verify(path_inside, expected, digest(array.dtype, (), [array]))
                _put(content, path_inside.replace("@", ATTRIBUTES + "/", 1), _decode(array))
            elif names is None or any(f"{path_inside}/".startswith(f"{name}/") for name in names):
                _put(content, path_inside, _load(path_inside, expected, places[path_inside], file, path_inside in rows))
    return content


def _manifest(attributes: dict[str, np.ndarray], accept: Callable[[Mapping[str, Any]], None] | None) -> dict[str, str]:
    """Take the table of digests out of the root attributes."""
    table, expected = attributes.pop(f"@{CHECKSUMS}", None), attributes.pop(f"@{CHECKSUMS_DIGEST}", None)
    if accept:
        accept({name[1:]: _decode(value) for name, value in attributes.items()})
    if table is None or expected is None:
        raise _Damage("is an HDF5 file without a table of checksums")
    text = str(_decode(table))
    _verify("the table of checksums", _decode(expected), hashlib.sha256(text.encode()).hexdigest())
    return {str(name): str(value) for name, value in json.loads(text).items()}


def _survey(
    root: h5py.h5g.GroupID, size: int, attributes: dict[str, np.ndarray], manifest: Mapping[str, str]
) -> dict[str, _Place]:
    """Walk over every object of a file of `size` bytes; adds the attributes of all groups to `attributes`."""
    places: dict[str, _Place] = {}
    groups: set[str] = set()
    for path, thing in _objects(root, "", {_address(root)}):
        if isinstance(thing, h5py.h5g.GroupID):
            groups.add(path)
            attributes.update(_read_attributes(thing, path))
        else:
            places[path] = _place(path, thing, size)
    if sum(place.nbytes for place in places.values()) > size:
        raise _Damage("declares more data than it holds")
    found = groups | places.keys() | attributes.keys()
    for path in sorted(found ^ manifest.keys()):
        raise _Damage(f"{path} is not under a checksum" if path in found else f"{path} is missing")
    return places


def _objects(group: h5py.h5g.GroupID, path: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    for raw in group:
        name = path + raw.decode()
        if group.links.get_info(raw).type != h5py.h5l.TYPE_HARD:
            raise _Damage(f"{name} is a link to elsewhere")
        thing = h5py.h5o.open(group, raw)
        if _address(thing) in seen:
            raise _Damage(f"{name} is a second name of another object")
        seen.add(_address(thing))
        if isinstance(thing, h5py.h5g.GroupID):
            yield name + "/", thing
            yield from _objects(thing, name + "/", seen)
        elif isinstance(thing, h5py.h5d.DatasetID):
            yield name, thing
        else:
            raise _Damage(f"{name} is neither a group nor a dataset")


def _address(thing: Any) -> int:
    return int(h5py.h5o.get_info(thing).addr)


def _place(path: str, dataset: h5py.h5d.DatasetID, size: int) -> _Place:
    """Where a dataset lies, if it is stored as `write` stores it and within the `size` bytes of the file."""
    layout = dataset.get_create_plist()
    if layout.get_layout() != h5py.h5d.CONTIGUOUS or layout.get_external_count() or layout.get_nfilters():
        raise _Damage(f"{path} is not stored in one plain piece")
    if h5py.h5a.get_num_attrs(dataset):
        raise _Damage(f"{path} has attributes, which are not under a checksum")
    dtype, shape = _plain_dtype(path, dataset.get_type()), _shape(path, dataset.get_space())
    place = _Place(dtype, shape, dataset.get_offset() or 0)
    if place.nbytes and (place.nbytes != dataset.get_storage_size() or place.offset + place.nbytes > size):
        raise _Damage(f"{path} declares a shape {shape} that the file cannot hold")
    return place


def _plain_dtype(path: str, kind: h5py.h5t.TypeID) -> np.dtype:
    """The dtype of a type that `write` can have written, and of no other."""
    dtype = kind.dtype
    fits = dtype.kind in "SV" or (dtype.kind in "biuf" and dtype.itemsize <= 8)
    if not fits or h5py.check_enum_dtype(dtype) or kind != h5py.h5t.py_create(dtype, logical=True) or kind.committed():
        raise _Damage(f"{path} has a type that is never written here")
    return dtype


def _shape(path: str, space: h5py.h5s.SpaceID) -> tuple[int, ...]:
    if space.get_simple_extent_type() not in (h5py.h5s.SCALAR, h5py.h5s.SIMPLE):
        raise _Damage(f"{path} has no shape")
    return tuple(space.get_simple_extent_dims())


def _nbytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    return math.prod(shape) * dtype.itemsize


def _read_attributes(group: h5py.h5g.GroupID, path: str) -> dict[str, np.ndarray]:
    """The attributes of a group, undecoded, as "path@name"."""
    found = {}
    for index in range(h5py.h5a.get_num_attrs(group)):
        attribute = h5py.h5a.open(group, index=index)
        name = f"{path}@{attribute.name.decode()}"
        dtype = _plain_dtype(name, attribute.get_type())
        if _shape(name, attribute.get_space()) or dtype.itemsize > _ATTRIBUTE_BYTES:
            raise _Damage(f"{name} is not one text or number of at most {_ATTRIBUTE_BYTES} bytes")
        found[name] = np.empty((), dtype)
        attribute.read(found[name])
    return found


def _load(path: str, expected: str, place: _Place, file: BinaryIO, lazily: bool) -> Any:
    reader = RowReader(file.fileno(), place.offset, place.shape, place.dtype)
    if lazily:
        _verify(path, expected, digest(place.dtype, place.shape, reader.blocks()))
        return reader
    reader.close()
    array = np.empty(place.shape, place.dtype)
    _fill(array, file.fileno(), place.offset)
    _verify(path, expected, digest(place.dtype, place.shape, [array]))
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
def _opened(path: str | Path, error: type[InputError]) -> Iterator[BinaryIO]:
    """Open a file, and turn whatever reading it raises into one line of `error`."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # before opening it: a pipe would wait for a writer
            raise _Damage("is not a file")
        with open(path, "rb") as file:
            yield file
    except InputError:
        raise
    except FileNotFoundError:
        raise error(f"{path}: there is no such file") from None
    except _Damage as damage:
        raise error(f"{path}: {damage}") from None
    except MemoryError:
        raise error(f"{path}: is larger than the memory that is free") from None
    except Exception as failure:  # h5py passes on, as any type, whatever a damaged file made HDF5 stumble over
        cause = getattr(failure, "strerror", None) or (failure.args or [type(failure).__name__])[0]
        raise error(f"{path}: cannot be read, or is damaged: {str(cause).splitlines()[0]}") from None


def _hdf5(file: BinaryIO) -> h5py.File:
    """Open a file's HDF5 structure, through Python's file object: no locks, and indifferent to who else has it open."""
    try:
        return h5py.File(file, "r")
    except Exception:
        raise _Damage("is not an HDF5 file, or is truncated or damaged at its root") from None


# ---- the user's own files --------------------------------------------------------------------------------------------


def read_arrays(path: str | Path, names: Collection[str]) -> dict[str, np.ndarray]:
    """Those of the datasets `names` that a user's HDF5 file has, numbers as they are and text as str arrays.

    No checksums are asked for, and chunks and HDF5's own lossless filters are welcome. Raises InputError for a file
    that cannot be read, for links out of it, and for types other than numbers and text or arrays above 64 GiB.
    Damage is reported only as far as HDF5 notices it: its older formats, h5py's default, do not checksum their
    metadata, and the library can then crash or hang.
    """
    arrays = {}
    with _opened(path, InputError) as file, _hdf5(file) as root:
        for name in names:
            if name.encode() in set(root.id):
                arrays[name] = _user_array(root, name)
    return arrays


def _user_array(root: h5py.File, name: str) -> np.ndarray:
    if root.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise _Damage(f"{name} is a link to elsewhere; store the array itself")
    dataset = root[name]
    if not isinstance(dataset, h5py.Dataset):
        raise _Damage(f"{name} is a group, expected an array")
    layout = dataset.id.get_create_plist()
    if layout.get_external_count() or layout.get_layout() == h5py.h5d.VIRTUAL:
        raise _Damage(f"{name} takes its data from other files; store the array itself")
    if any(layout.get_filter(k)[0] not in _USER_FILTERS for k in range(layout.get_nfilters())):
        raise _Damage(f"{name} is compressed in a way that is not supported; gzip or lzf is")
    text = h5py.check_string_dtype(dataset.dtype)
    if not text and (dataset.dtype.kind not in "biuf" or h5py.check_enum_dtype(dataset.dtype)):
        raise _Damage(f"{name} holds {dataset.dtype}, expected numbers or text")
    if _nbytes(_shape(name, dataset.id.get_space()), dataset.dtype) > _USER_ARRAY_BYTES:
        raise _Damage(f"{name} declares a shape {dataset.shape} above {_USER_ARRAY_BYTES >> 30} GiB")
    values = dataset.asstr()[...] if text else dataset[...]
    return np.asarray(values, dtype=str if text else None)
